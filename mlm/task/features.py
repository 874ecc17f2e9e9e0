"""What a notebook hands to the object: texts, or features and labels, checked at the border.

JAX clamps an index that is out of range or fills in NaN, and says nothing. So everything is looked
at on the host first; behind this file ids and positions are in range.
N rows, L length, P mask slots.
"""

from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from mlm.errors import DataError
from mlm.masking.spec import as_integer
from mlm.models import DistilBertConfig

BACKBONE = ("token_ids", "padding_mask")
MASKED_LM = (*BACKBONE, "mask_positions")
Rows = dict[str, np.ndarray]


def read_segments(x: Any) -> tuple[list[list[str]], bool]:
    """A list of texts for each segment, and whether all of it is one single sequence.

    Args:
      x: a text, a list of texts, or a tuple of segments, each a text or a list of texts. Anything
        that can be iterated passes for a list.

    Raises:
      DataError: something else, or segments of different lengths.
    """
    single = isinstance(x, str) or (
        isinstance(x, tuple) and x and all(isinstance(text, str) for text in x)
    )
    parts = x if isinstance(x, tuple) else (x,)
    segments = [_texts([part] if single else part) for part in parts]
    if len({len(segment) for segment in segments}) > 1:
        raise DataError(
            f"the segments hold {' and '.join(str(len(s)) for s in segments)} texts; a pair takes "
            "one of each, so give lists of equal length"
        )
    return segments, bool(single)


def read_texts(x: Any) -> list[list[str]]:
    """The segments of a batch: of a list or tuple of texts one, of a tuple of lists each list.

    Raises:
      DataError: no texts, a single one, or something else.
    """
    if isinstance(x, str | bytes):
        raise DataError(f"x is the text {x!r:.40}; put it in a list")
    flat = isinstance(x, tuple) and all(isinstance(text, str) for text in x)
    segments, _ = read_segments(list(x) if flat else x)
    if not segments[0]:
        raise DataError("x holds no texts; give at least one")
    return segments


def read_features(
    features: Any, config: DistilBertConfig, *, names: tuple[str, ...] = MASKED_LM
) -> Rows:
    """`int32[N, L]` token_ids, `bool[N, L]` padding_mask and `int32[N, P]` mask_positions.

    Args:
      features: a mapping with these `names` and no others, each a list or an array of any integer
        or bool type.
      config: the model that is to read them.

    Raises:
      ValueError: a name, a type, a shape or a value that the model cannot read.
    """
    if not isinstance(features, Mapping):
        raise ValueError(
            f"features are {type(features).__name__}; give a dict of {_listed(names)}, or texts to "
            "fit, evaluate and predict"
        )
    if missing := [name for name in names if name not in features]:
        raise ValueError(f"features lack {_listed(missing)}; give {_listed(names)}")
    if unknown := [str(name) for name in features if name not in names]:
        raise ValueError(
            f"features hold {_listed(unknown)}, which the model does not read; give "
            f"{_listed(names)}, labels as y and their weights as sample_weight"
        )
    rows = {name: _integers(name, features[name]) for name in names}
    shape = rows["token_ids"].shape
    _check_shape("padding_mask", rows["padding_mask"], "token_ids", shape)
    if not min(shape) or shape[1] > config.max_length:
        raise ValueError(
            f"token_ids have shape {shape}; give at least one row of 1 to {config.max_length} "
            "tokens, which is the model's max_length"
        )
    _check_range("token_ids", rows["token_ids"], config.vocabulary_size, "the model's ids are")
    _check_range("padding_mask", rows["padding_mask"], 2, "1 is a token and 0 padding:")
    if "mask_positions" in rows:
        positions = rows["mask_positions"]
        _check_shape("mask_positions", positions, "token_ids", (shape[0], positions.shape[1]))
        _check_range("mask_positions", positions, shape[1], "positions in these rows are")
    types = {"padding_mask": bool}
    return {name: array.astype(types.get(name, np.int32)) for name, array in rows.items()}


def read_targets(y: Any, sample_weight: Any, features: Rows, config: DistilBertConfig) -> Rows:
    """`int32[N, P]` mask_ids and `float32[N, P]` mask_weights: labels, and what they count.

    Args:
      y: the original ids at mask_positions.
      sample_weight: 0 in slots that hold nothing; None: all count the same.

    Raises:
      ValueError: they do not fit the features, or cannot be labels or weights.
    """
    if y is None:
        raise ValueError("features come without labels; give y, the ids at mask_positions")
    shape = features["mask_positions"].shape
    labels = _integers("y", y)
    _check_shape("y", labels, "mask_positions", shape)
    _check_range("y", labels, config.vocabulary_size, "the model's ids are")
    weights = np.ones(shape) if sample_weight is None else _array("sample_weight", sample_weight)
    _check_shape("sample_weight", weights, "y", shape)
    try:
        weights = weights.astype(np.float32)
    except (TypeError, ValueError):
        raise ValueError(f"sample_weight is {weights.dtype}; give numbers") from None
    if not (np.isfinite(weights) & (weights >= 0)).all():
        raise ValueError("sample_weight holds values below 0, infinite or NaN; give weights")
    return {"mask_ids": labels.astype(np.int32), "mask_weights": weights}


def read_count(name: str, value: Any) -> int:
    """`value` as an int of 1 or more; raises ValueError for anything else."""
    count = as_integer(name, value)
    if count < 1:
        raise ValueError(f"{name} is {count}; give 1 or more")
    return count


def _texts(values: Any) -> list[str]:
    """A list of str from a list, an array, a column of a table."""
    if isinstance(values, str):
        raise DataError(f"one segment is the text {values!r:.40}, another a list; give lists")
    try:
        texts = np.atleast_1d(values).tolist() if isinstance(values, np.ndarray) else list(values)
    except TypeError:
        raise DataError(f"x is {values!r:.40}; give a list of texts") from None
    for i, text in enumerate(texts):
        if not isinstance(text, str):
            raise DataError(
                f"text {i} is {text!r:.40}, not a str; give a list of str, pairs as two lists "
                "(firsts, seconds), and token ids as a dict of features"
            )
    return [str(text) for text in texts]


def _array(name: str, value: Any) -> np.ndarray:
    if isinstance(value, jax.core.Tracer):
        raise ValueError(f"{name} is traced; inside jax.jit use mlm.models.apply with .params")
    try:
        array = np.asarray(value)
    except ValueError:
        raise ValueError(f"{name} holds rows of different lengths; pad them to one") from None
    if array.ndim != 2:
        raise ValueError(f"{name} has shape {array.shape}; give a row per example, two dimensions")
    return array


def _integers(name: str, value: Any) -> np.ndarray:
    array = _array(name, value)
    if not array.size:
        return array.astype(np.int32)
    if array.dtype != bool and not np.issubdtype(array.dtype, np.integer):
        raise ValueError(f"{name} is {array.dtype}; give integers")
    return array


def _check_shape(name: str, array: np.ndarray, other: str, shape: tuple[int, ...]) -> None:
    if array.shape != shape:
        raise ValueError(f"{name} has shape {array.shape}; with {other} it must be {shape}")


def _check_range(name: str, array: np.ndarray, end: int, rule: str) -> None:
    outside = (array < 0) | (array >= end)
    if outside.any():
        row, column = np.argwhere(outside)[0].tolist()
        raise ValueError(
            f"{name} holds {array[row, column]} (row {row}, column {column}); {rule} 0 to {end - 1}"
        )


def _listed(names) -> str:
    return ", ".join(names)
