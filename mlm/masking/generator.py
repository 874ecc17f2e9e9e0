"""`MaskedLMMaskGenerator`: KerasHub's layer, call by call, with a seed and without its surprises.

It runs on the host around `mask_tokens`, for preprocessing and for looking at masks; a train step
calls `mask_tokens` itself. B batch, L length, P mask slots.
"""

import dataclasses
import functools
import os
from collections.abc import Iterable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from mlm.masking.forms import Sequences, check_form, read_sequences
from mlm.masking.keys import check_keys, row_keys
from mlm.masking.spec import MaskingSpec, as_integer, as_integers, check_rate, required_slots
from mlm.masking.transform import MaskedTokens, mask_tokens

# What every Keras layer writes into its config besides.
KERAS_LAYER_FIELDS = ("name", "trainable", "dtype")


@dataclasses.dataclass(eq=False)
class MaskedLMMaskGenerator:
    """BERT's masking, by the rules of KerasHub's `MaskedLMMaskGenerator` in a data pipeline.

    Of n selectable tokens min(ceil(rate * n), P) are selected, evenly and without replacement (the
    ceiling is exact for rates of k/1000 and rows of up to 8192 tokens); a selected one becomes
    [MASK], a random id or stays. Unlike there, random ids are never unselectable ones and never the
    mask id. Lists and arrays are padded to powers of two, and each new size compiles for a second
    or two.

    Args:
      vocabulary_size: number of ids; other ids are refused.
      mask_selection_rate: share of the selectable tokens to select, in [0, 1].
      mask_token_id: the id of [MASK]; selectable itself unless listed.
      mask_selection_length: P, the most that are selected per row: a random choice where the rate
        asks for more. None: as many as the rate asks for, in ragged lists.
      unselectable_token_ids: ids that are left alone: padding and special tokens.
      mask_token_rate, random_token_rate: shares of the selected tokens that become [MASK] or a
        random id.
      seed: from 0 to 2^32 - 1; calls draw one after another from it, and the same seed gives the
        same masks again. None takes fresh entropy. Copies go on drawing the same: give each worker
        and each thread an object with a seed of its own, or pass `key`.

    Raises:
      ValueError: for rates outside [0, 1], shares above 1 together, ids outside the vocabulary and
        a negative length.
    """

    vocabulary_size: int
    mask_selection_rate: float
    mask_token_id: int
    mask_selection_length: int | None = None
    unselectable_token_ids: Iterable[int] | None = (0,)
    mask_token_rate: float = 0.8
    random_token_rate: float = 0.1
    seed: int | None = None

    def __post_init__(self):
        check_rate(self.mask_selection_rate, "mask_selection_rate")
        self.mask_selection_rate = float(self.mask_selection_rate)
        if self.unselectable_token_ids is not None:
            ids = as_integers("unselectable_token_ids", self.unselectable_token_ids)
            self.unselectable_token_ids = ids
        self._make_spec(length=0)  # checks the rest
        self._root = _root_key(self.seed)
        self._calls = 0

    def __call__(self, inputs: Any, *, key: jax.Array | None = None) -> dict[str, Any]:
        """A dict of token_ids, mask_positions, mask_ids and mask_weights.

        token_ids have the form of the input: type and dtype of an array; for lists a NumPy array
        where rows are equally long, lists where they are not. The others are `int32`, `int32` and
        `float32[B, P]`, ascending, 0 in empty slots; without mask_selection_length only what was
        selected, in a list per row. One sequence gives arrays without B.

        Args:
          inputs: integer ids: a list, a list of lists, or an array of one or two dimensions.
          key: makes this call reproducible by itself: `jax.random.key(0)`. Needed inside
            `jax.jit` (under vmap a key per row), where inputs are dense, P is given and traced
            ids are not checked.

        Raises:
          ValueError: for ids outside the vocabulary, for anything but integers, and for more than
            two dimensions.
        """
        if key is not None:
            check_keys(key)
        if isinstance(inputs, jax.core.Tracer):
            return self._mask_traced(inputs, key)
        sequences = read_sequences(inputs)
        self._check_ids(sequences)
        spec = self._make_spec(sequences.padded_length)
        ids = sequences.padded(filler=self.vocabulary_size)
        root, visit = (self._root, self._calls) if key is None else (key, 0)
        masked = _mask_rows(root, visit, ids, self.mask_selection_rate, spec)
        if isinstance(masked.overflow, jax.core.Tracer):
            self._check_traceable(key, ragged=sequences.ragged)
        else:
            masked = jax.device_get(masked)
            self._calls += key is None

        token_ids, *slots = masked[:4]
        if self.mask_selection_length is None:
            counts = masked.mask_weights.sum(axis=1).astype(int)
            slots = [sequences.cut(x, counts) for x in slots]
        else:
            slots = [sequences.whole(x) for x in slots]
        return _as_dict(sequences.restore_ids(token_ids), *slots)

    def get_config(self) -> dict[str, Any]:
        """The arguments of the constructor, as they were given."""
        return dataclasses.asdict(self)

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "MaskedLMMaskGenerator":
        """A generator from the dict of `get_config`, ours or KerasHub's."""
        return cls(**{k: v for k, v in config.items() if k not in KERAS_LAYER_FIELDS})

    def _make_spec(self, length: int) -> MaskingSpec:
        """The settings for rows of up to `length` tokens.

        They know one id more than the vocabulary: an unselectable one that says "no token here".
        """
        slots = self.mask_selection_length
        if slots is None:  # one to spare: in very long rows float32 may round up
            slots = 1 + required_slots(self.mask_selection_rate, length, "exact")
        spec = MaskingSpec(
            self.vocabulary_size,
            self.mask_token_id,
            slots,
            self.unselectable_token_ids or (),
            self.mask_token_rate,
            self.random_token_rate,
            overflow="drop",
        )
        return dataclasses.replace(
            spec,
            vocabulary_size=spec.vocabulary_size + 1,
            unselectable_token_ids=(*spec.unselectable_token_ids, spec.vocabulary_size),
        )

    def _mask_traced(self, token_ids: jax.Array, key: jax.Array | None) -> dict[str, jax.Array]:
        self._check_traceable(key)
        check_form(token_ids.ndim, token_ids.dtype)
        self._check_dtype(token_ids.dtype)
        rows = jnp.atleast_2d(token_ids).astype(jnp.int32)
        spec = self._make_spec(rows.shape[1])
        masked = _mask_rows(key, 0, rows, self.mask_selection_rate, spec)
        masked = masked._replace(token_ids=masked.token_ids.astype(token_ids.dtype))
        return _as_dict(*(x if token_ids.ndim == 2 else x[0] for x in masked[:4]))

    def _check_traceable(self, key: jax.Array | None, *, ragged: bool = False) -> None:
        if key is None:
            raise ValueError(
                "inside jax.jit a mask needs its own key, or every call would repeat one mask: "
                "masker(token_ids, key=key)"
            )
        if ragged or self.mask_selection_length is None:
            raise ValueError(
                "shapes are fixed inside jax.jit: give mask_selection_length, and rows of equal "
                "length"
            )

    def _check_ids(self, sequences: Sequences) -> None:
        self._check_dtype(sequences.dtype)
        ids = np.concatenate([np.zeros(0, np.int32), *sequences.rows])
        if not ids.size or (ids.min() >= 0 and ids.max() < self.vocabulary_size):
            return
        for i, row in enumerate(sequences.rows):
            outside = (row < 0) | (row >= self.vocabulary_size)
            if outside.any():
                at = np.argmax(outside)
                raise ValueError(
                    f"token id {row[at]} (row {i}, position {at}) is outside the vocabulary of "
                    f"{self.vocabulary_size}; give ids from 0 to vocabulary_size - 1"
                )

    def _check_dtype(self, dtype: np.dtype) -> None:
        if np.iinfo(dtype).max < self.vocabulary_size - 1:
            raise ValueError(
                f"token ids are {dtype}, which cannot hold every id of a vocabulary of "
                f"{self.vocabulary_size}; convert them to int32"
            )


def _as_dict(token_ids, mask_positions, mask_ids, mask_weights) -> dict[str, Any]:
    return {
        "token_ids": token_ids,
        "mask_positions": mask_positions,
        "mask_ids": mask_ids,
        "mask_weights": mask_weights,
    }


@functools.partial(jax.jit, static_argnames="spec")
def _mask_rows(root, visit, token_ids, rate, spec) -> MaskedTokens:
    keys = row_keys(root, visit, jnp.arange(len(token_ids)))
    return mask_tokens(keys, token_ids, spec, rate=rate)


def _root_key(seed: int | None) -> jax.Array:
    """Threefry whatever `jax_default_prng_impl` says: other draws depend on the batch."""
    if seed is not None:
        seed = as_integer("seed", seed)
        if not 0 <= seed < 2**32:
            raise ValueError(f"seed is {seed}; give an integer from 0 to 2^32 - 1")
        return jax.random.key(seed, impl="threefry2x32")
    words = np.frombuffer(os.urandom(8), np.uint32)
    return jax.random.wrap_key_data(words, impl="threefry2x32")
