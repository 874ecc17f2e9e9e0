"""Lists, ragged lists and arrays read as one padded batch, and results given back in that form.

The padded batch is a power of two in both dimensions: few shapes, so few compilations, and masks
depend on neither. B batch, L length, P mask slots.
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

# Shorter rows share one size; the CPU implementation works on 32 tokens at a time anyway.
SHORTEST = 32


@dataclasses.dataclass(frozen=True)
class Sequences:
    """Token ids as they came in, and the form that results are to have.

    Attributes:
      rows: integer arrays of one dimension, a row each.
      length: L, of the longest row.
      dtype: of the token ids that go out.
      one_sequence: a single row came without a batch around it.
      ragged: rows of different lengths came in lists, and go out in lists.
      jax_array: JAX arrays go out; otherwise NumPy.
    """

    rows: list[np.ndarray]
    length: int
    dtype: np.dtype = np.dtype(np.int32)
    one_sequence: bool = False
    ragged: bool = False
    jax_array: bool = False

    @property
    def padded_length(self) -> int:
        return max(SHORTEST, _power_of_two(self.length))

    def padded(self, filler: int) -> np.ndarray:
        """`int32[B', L']`: the rows, and `filler` up to powers of two."""
        ids = np.full((_power_of_two(len(self.rows)), self.padded_length), filler, np.int32)
        for i, row in enumerate(self.rows):
            ids[i, : len(row)] = row
        return ids

    def restore_ids(self, padded: np.ndarray) -> Any:
        """Token ids, as `padded` returns them, in the form of the input."""
        if self.ragged:
            return self.cut(padded, [len(row) for row in self.rows])
        return self.whole(padded[:, : self.length].astype(self.dtype))

    def whole(self, padded: np.ndarray) -> np.ndarray | jax.Array:
        """A dense array of the true rows; without B for one sequence."""
        array = padded[0] if self.one_sequence else padded[: len(self.rows)]
        return jnp.asarray(array) if self.jax_array else array

    def cut(self, padded: np.ndarray, lengths: list[int]) -> Any:
        """The first `lengths` entries of each true row, in lists; of one sequence, as an array."""
        if self.one_sequence:
            return self.whole(padded[:, : lengths[0]])
        return [padded[i, : lengths[i]].tolist() for i in range(len(self.rows))]


def read_sequences(inputs: Any) -> Sequences:
    """The token ids of one sequence or a batch.

    Raises:
      ValueError: for anything but integers in one or two dimensions.
    """
    try:
        array = np.asarray(inputs)
    except ValueError:  # NumPy has no arrays of rows of different lengths
        rows = [_read_row(row) for row in inputs]
        return Sequences(rows, length=max(map(len, rows)), ragged=True)
    except TypeError:  # JAX's keys, and lists of traced values
        raise ValueError(
            f"token ids are {type(inputs).__name__} of what NumPy cannot hold; give integers, and "
            "an array inside jax.jit"
        ) from None
    if array.size == 0 and isinstance(inputs, list | tuple):  # which has no type of its own
        array = array.astype(np.int32)
    check_form(array.ndim, array.dtype)
    return Sequences(
        rows=list(np.atleast_2d(array)),
        length=array.shape[-1],
        dtype=np.dtype(np.int32) if isinstance(inputs, list | tuple) else array.dtype,
        one_sequence=array.ndim == 1,
        jax_array=isinstance(inputs, jax.Array),
    )


def check_form(dimensions: int, dtype: np.dtype) -> None:
    """Raises ValueError unless token ids are integers in one or two dimensions."""
    if jnp.issubdtype(dtype, np.character):
        raise ValueError("token ids are text; tokenize it first")
    if dimensions not in (1, 2):
        raise ValueError(
            f"token ids have {dimensions} dimensions; give one sequence [L] or a batch [B, L]"
        )
    if not jnp.issubdtype(dtype, jnp.integer):
        raise ValueError(f"token ids are {dtype}; give integers")


def _read_row(row: Any) -> np.ndarray:
    try:
        array = np.asarray(row)
    except ValueError:
        raise ValueError(f"{row} stands for a row of token ids; give a list of integers") from None
    if array.ndim == 0:
        raise ValueError(f"{row!r} stands among lists; give one sequence or a list of sequences")
    if array.size == 0:
        array = array.astype(np.int32)
    check_form(array.ndim + 1, array.dtype)
    return array


def _power_of_two(n: int) -> int:
    return 1 << max(0, n - 1).bit_length()
