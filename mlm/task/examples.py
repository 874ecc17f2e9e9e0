"""Examples for the object: texts or features as rows in memory, and batches of them.

Texts become rows once and are masked in every step anew; features are masked already.
N rows, B batch, L length, P mask slots.
"""

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from mlm.masking import MaskingSpec
from mlm.models import DistilBertConfig
from mlm.strategy import Strategy, mask_batch
from mlm.task.features import Rows, read_count, read_features, read_targets, read_texts
from mlm.task.preprocessor import DistilBertMaskedLMPreprocessor
from mlm.training.step import Batch, MaskCounts

# Lengths are multiples of this, so that similar data share compiled functions.
LENGTH_STEP = 16


class Masking(NamedTuple):
    """How texts are masked: static, so that it can tell compiled functions apart."""

    spec: MaskingSpec
    rate: float


@dataclasses.dataclass(frozen=True, eq=False)
class Examples:
    """Rows of one length.

    Attributes:
      rows: `token_ids`, `padding_mask` and, for texts, `example_ids`; for features `mask_positions`
        and, where there are labels, `mask_ids` and `mask_weights`.
      masking: of texts; None: the rows are masked already.
      pad: the id of padding.
    """

    rows: Rows
    masking: Masking | None
    pad: int = 0

    def __len__(self) -> int:
        return len(self.rows["token_ids"])

    def batch_size(self, asked: int, devices: int) -> int:
        """No larger than the data, and a multiple of the devices; ValueError if below 1."""
        size = min(read_count("batch_size", asked), len(self))
        return -(-size // devices) * devices

    def batches(
        self, batch_size: int, *, order: np.ndarray | None = None, visit: int = 0
    ) -> Iterator[Rows]:
        """All rows in this order, each seen `visit` times before; the last batch is filled up.

        What fills it is padding, so it selects nothing and weighs nothing.
        """
        order = np.arange(len(self)) if order is None else order
        rows = dict(self.rows)
        if self.masking:
            rows["visits"] = np.full(len(self), visit, np.int32)
        for start in range(0, len(order), batch_size):
            chosen = order[start : start + batch_size]
            batch = {}
            for name, values in rows.items():
                filler = self.pad if name == "token_ids" else 0
                batch[name] = np.full((batch_size, *values.shape[1:]), filler, values.dtype)
                batch[name][: len(chosen)] = values[chosen]
            yield batch


def read_examples(
    x: Any,
    y: Any = None,
    sample_weight: Any = None,
    *,
    config: DistilBertConfig,
    preprocessor: DistilBertMaskedLMPreprocessor | None,
    labelled: bool = True,
) -> Examples:
    """The examples of a call: texts (see `read_texts`), or features with labels and weights.

    Args:
      config: the model.
      preprocessor: what makes rows of texts.
      labelled: whether features need labels.

    Raises:
      ValueError, DataError: for whatever the model cannot read.
    """
    if isinstance(x, Mapping):
        rows = read_features(x, config)
        if labelled:
            rows |= read_targets(y, sample_weight, rows, config)
        return Examples(rows, None)
    if isinstance(x, tuple) and x and isinstance(x[0], Mapping):
        raise ValueError("x is a tuple of features and more; give them apart, as x, y and weights")
    if y is not None or sample_weight is not None:
        raise ValueError(
            "texts make labels and weights of their own; leave out y and sample_weight, or give x "
            "as a dict of features"
        )
    if preprocessor is None:
        raise ValueError(
            "texts need a preprocessor and this model has none: make it with from_preset, set "
            ".preprocessor, or give a dict of token_ids, padding_mask and mask_positions"
        )
    return _text_examples(read_texts(x), preprocessor, config)


def split_validation(data: Any) -> tuple[Any, Any, Any]:
    """`(x, y, sample_weight)` of validation data: texts, or a tuple that begins with features."""
    if isinstance(data, tuple) and data and isinstance(data[0], Mapping):
        if len(data) > 3:
            raise ValueError(
                f"validation_data holds {len(data)} things; give (features, labels) or "
                "(features, labels, weights)"
            )
        return (*data, None, None)[:3]
    return data, None, None


def make_mask(
    masking: Masking | None, root: jax.Array
) -> Callable[[Batch], tuple[Batch, MaskCounts]]:
    """Masks a batch; rows that are masked already pass as they are."""
    if masking is None:
        return lambda batch: (batch, MaskCounts(*jnp.zeros(3)))
    spec, rate = masking
    compiled = jax.jit(lambda batch: mask_batch(batch, Strategy(spec), root=root, rate=rate))

    def mask(batch: Batch) -> tuple[Batch, MaskCounts]:
        with jax.disable_jit(False):  # operation by operation masks take seconds
            return compiled(batch)

    return mask


def check_preprocessor(
    preprocessor: DistilBertMaskedLMPreprocessor, config: DistilBertConfig
) -> None:
    """Raises ValueError if it makes rows that the model cannot read."""
    length, size = preprocessor.sequence_length, preprocessor.tokenizer.vocabulary_size
    if length > config.max_length:
        raise ValueError(
            f"preprocessor.sequence_length is {length}, the model reads {config.max_length} "
            f"tokens; set preprocessor.sequence_length = {config.max_length}"
        )
    if size > config.vocabulary_size:
        raise ValueError(
            f"the preprocessor's tokenizer has {size} ids, the model {config.vocabulary_size}; "
            "give the tokenizer that belongs to the model"
        )


def _text_examples(
    segments: list[list[str]],
    preprocessor: DistilBertMaskedLMPreprocessor,
    config: DistilBertConfig,
) -> Examples:
    check_preprocessor(preprocessor, config)
    rows = preprocessor.pack(segments, multiple=LENGTH_STEP)
    count, length = rows["token_ids"].shape
    rows["example_ids"] = np.arange(count, dtype=np.int32)
    masking = Masking(preprocessor.masking_spec(length), float(preprocessor.mask_selection_rate))
    return Examples(rows, masking, preprocessor.tokenizer.special.pad)
