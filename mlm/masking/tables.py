"""Numbers per token id: how readily an id is selected, and how often it is drawn as a replacement.

V vocabulary, R replacement ids.
"""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from mlm.array_file import map_array

# The least weight of an id that may be selected: devices treat smaller numbers as 0, "never".
LEAST = float(np.finfo(np.float32).tiny)


def frequency_weights(counts: np.ndarray, alpha: float) -> np.ndarray:
    """`float32[V]`: count ** -alpha, scaled so that the largest is 1; all finite and above 0.

    An id without count weighs as one with count 1. DistilBERT and XLM select by alpha 0.7
    (`mlm_smoothing` in their code).

    Args:
      counts: `int64[V]`.
      alpha: 0 is uniform, above it rare ids are selected rather, below it frequent ones.
    """
    return np.maximum(_powers(counts, -alpha), LEAST).astype(np.float32)


def read_weights(path: str, vocabulary_size: int, selectable: np.ndarray) -> np.ndarray:
    """`float32[V]` from a .npy file, the largest 1; 0 (never selected) where it says or implies it.

    Args:
      path: a file that `np.save` wrote, one number of 0 or more per id.
      vocabulary_size: V.
      selectable: `bool[V]`, ids that may be selected; the weights of the others become 0.

    Raises:
      ValueError: a missing or unreadable file, another number of weights, negative ones, some that
        are not finite, or none above 0 where `selectable`; in one line.
    """
    table = _load(path)
    if table.shape != (vocabulary_size,):
        shape = f"{len(table)}" if table.ndim == 1 else f"an array of shape {table.shape}"
        raise ValueError(
            f"weights {path}: {shape} for a vocabulary of {vocabulary_size}; give one number per id"
        )
    for wrong, rule in (
        (~np.isfinite(table), "finite numbers"),
        (table < 0, "numbers of 0 or more"),
    ):
        if wrong.any():
            at = int(np.argmax(wrong))
            raise ValueError(f"weights {path}: id {at} has {table[at]}; give {rule}")
    table = np.where(selectable, table, 0.0)
    if not table.any():
        raise ValueError(
            f"weights {path}: 0 for all {int(np.sum(selectable))} ids that may be selected; give "
            "one of them more"
        )
    scaled = table / table.max()
    return np.where(table > 0, np.maximum(scaled, LEAST), 0).astype(np.float32)


def random_id_cdf(counts: np.ndarray, replacement_ids: np.ndarray, alpha: float) -> np.ndarray:
    """`uint32[R]`: where each replacement id's share of the 2^32 draws begins; the first is 0.

    Id i is drawn with probability count_i ** alpha / sum, within 2^-31. A count of 0 counts as 1:
    then alpha 0 is uniform and nearby values nearly so, ids that are new to the text may still be
    drawn, and no text leaves nothing to draw.

    Args:
      counts: `int64[V]`.
      replacement_ids: `int32[R]`, the ids to draw from.
      alpha: 1 is the unigram law, 0 uniform.
    """
    cumulative = np.cumsum(_powers(counts[replacement_ids], alpha))
    begins = np.concatenate([[0.0], cumulative[:-1]]) / cumulative[-1]
    return np.minimum(np.rint(begins * 2.0**32), 2**32 - 1).astype(np.uint32)


def draw_ids(cdf: jax.Array, bits: jax.Array) -> jax.Array:
    """`int32[...]`: for each of `uint32[...]` bits an index into the replacement ids of `cdf`."""
    return jnp.searchsorted(cdf, bits, side="right").astype(jnp.int32) - 1


def _powers(counts: np.ndarray, exponent: float) -> np.ndarray:
    """`float64[N]`: count ** exponent over its maximum, with a count of 0 as 1."""
    logs = exponent * np.log(np.maximum(counts, 1).astype(np.float64))
    return np.exp(logs - logs.max())


def _load(path: str) -> np.ndarray:
    """`float64` numbers of a .npy file."""
    if not Path(path).is_file():
        raise ValueError(f"weights {path}: no such file; write one with numpy.save")
    try:
        table = map_array(path)
    except (ValueError, OSError) as error:
        reason = " ".join(str(error).split())
        raise ValueError(
            f"weights {path}: no .npy file of numbers ({reason}); write one with numpy.save"
        ) from None
    return table.astype(np.float64)
