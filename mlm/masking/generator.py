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
from mlm.masking.keys import row_keys
from mlm.masking.spec import MaskingSpec, as_integer, check_rate
from mlm.masking.transform import MaskedTokens, mask_tokens


class MaskedLMMaskGenerator:
    """BERT's masking, by the rules of KerasHub's `MaskedLMMaskGenerator` in a data pipeline.

    Of n selectable tokens min(ceil(rate * n), P) are selected, evenly and without replacement; a
    selected one becomes [MASK], a random id or stays (80/10/10 unless told otherwise). Unlike
    there, random ids are never unselectable ones and never the mask id.

    Args:
      vocabulary_size: number of ids; other ids are refused.
      mask_selection_rate: share of the selectable tokens to select, in [0, 1].
      mask_token_id: the id of [MASK]; selectable itself unless listed.
      mask_selection_length: P, the most that are selected per row: a random choice where the rate
        asks for more. None: as many as the rate asks for, in ragged lists.
      unselectable_token_ids: ids that are left alone: padding and special tokens.
      mask_token_rate, random_token_rate: shares of the selected tokens that become [MASK] or a
        random id.
      seed: calls draw one after another from it; the same seed gives the same masks again. None
        takes fresh entropy.

    Raises:
      ValueError: for rates outside [0, 1], shares above 1 together, ids outside the vocabulary and
        a negative length.
    """

    def __init__(
        self,
        vocabulary_size: int,
        mask_selection_rate: float,
        mask_token_id: int,
        mask_selection_length: int | None = None,
        unselectable_token_ids: Iterable[int] | None = (0,),
        mask_token_rate: float = 0.8,
        random_token_rate: float = 0.1,
        seed: int | None = None,
    ):
        check_rate(mask_selection_rate, "mask_selection_rate")
        spec = MaskingSpec(
            vocabulary_size,
            mask_token_id,
            0 if mask_selection_length is None else mask_selection_length,
            () if unselectable_token_ids is None else unselectable_token_ids,
            mask_token_rate,
            random_token_rate,
            overflow="drop",
        )
        self._config = {
            "vocabulary_size": spec.vocabulary_size,
            "mask_selection_rate": float(mask_selection_rate),
            "mask_token_id": spec.mask_token_id,
            "mask_selection_length": None
            if mask_selection_length is None
            else spec.mask_selection_length,
            "unselectable_token_ids": list(spec.unselectable_token_ids),
            "mask_token_rate": float(mask_token_rate),
            "random_token_rate": float(random_token_rate),
            "seed": None if seed is None else as_integer("seed", seed),
        }
        self._rate = float(mask_selection_rate)
        self._ragged_slots = mask_selection_length is None
        # One id above the vocabulary says "no token here", which no id of the vocabulary can.
        self._no_token = spec.vocabulary_size
        self._spec = dataclasses.replace(
            spec,
            vocabulary_size=spec.vocabulary_size + 1,
            unselectable_token_ids=(*spec.unselectable_token_ids, self._no_token),
        )
        self._root = _root_key(self._config["seed"])
        self._calls = 0

    def __call__(self, inputs: Any, *, key: jax.Array | None = None) -> dict[str, Any]:
        """A dict of token_ids, mask_positions, mask_ids and mask_weights.

        token_ids have the form of the input: type and dtype of an array; for lists a NumPy array
        where rows are equally long, lists where they are not. The others are `int32`, `int32` and
        `float32[B, P]`, ascending, 0 in empty slots; without mask_selection_length only what was
        selected, in a list per row. One sequence gives them without B.

        Args:
          inputs: integer ids: a list, a list of lists, or an array of one or two dimensions.
          key: makes this call reproducible by itself: `jax.random.key(0)`. Needed inside
            `jax.jit`, where inputs are dense, P is given and ids are not checked.

        Raises:
          ValueError: for ids outside the vocabulary, for anything but integers, and for more than
            two dimensions.
        """
        if isinstance(inputs, jax.core.Tracer) or isinstance(key, jax.core.Tracer):
            return self._in_jit(inputs, key)
        sequences = read_sequences(inputs)
        self._check_ids(sequences)
        spec = self._spec
        if self._ragged_slots:
            spec = dataclasses.replace(spec, mask_selection_length=sequences.padded_length)
        root, visit = (self._root, self._calls) if key is None else (key, 0)
        padded = sequences.padded(self._no_token)
        masked = jax.device_get(_mask_rows(root, visit, padded, self._rate, spec))
        self._calls += key is None

        token_ids, *slots, _ = masked
        counts = masked.mask_weights.sum(axis=1).astype(int)
        if self._ragged_slots:
            slots = [sequences.cut(x, counts) for x in slots]
        else:
            slots = [sequences.whole(x) for x in slots]
        return _as_dict(sequences.restore_ids(token_ids), *slots)

    def get_config(self) -> dict[str, Any]:
        """The arguments of the constructor, as plain values that JSON can hold."""
        return dict(self._config)

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "MaskedLMMaskGenerator":
        """A generator from the dict of `get_config`."""
        return cls(**config)

    def _in_jit(self, inputs: Any, key: jax.Array | None) -> dict[str, jax.Array]:
        if key is None:
            raise ValueError(
                "inside jax.jit a mask needs its own key, or every call would repeat one mask: "
                "masker(token_ids, key=key)"
            )
        if self._ragged_slots:
            raise ValueError(
                "mask_selection_length is None, which gives rows of any length; shapes are fixed "
                "inside jax.jit: give mask_selection_length"
            )
        token_ids = jnp.asarray(inputs)
        check_form(token_ids.ndim, token_ids.dtype)
        self._check_dtype(token_ids.dtype)
        rows = jnp.atleast_2d(token_ids).astype(jnp.int32)
        masked = _mask_rows(key, 0, rows, self._rate, self._spec)
        masked = masked._replace(token_ids=masked.token_ids.astype(token_ids.dtype))
        return _as_dict(*(x if token_ids.ndim == 2 else x[0] for x in masked[:4]))

    def _check_ids(self, sequences: Sequences) -> None:
        self._check_dtype(sequences.dtype)
        ids = np.concatenate([np.zeros(0, np.int32), *sequences.rows])
        outside = ids[(ids < 0) | (ids >= self._no_token)]
        if outside.size:
            raise ValueError(
                f"token id {outside[0]} is outside the vocabulary of {self._no_token}; give ids "
                "from 0 to vocabulary_size - 1"
            )

    def _check_dtype(self, dtype: np.dtype) -> None:
        if np.iinfo(dtype).max < self._no_token - 1:
            raise ValueError(
                f"token ids are {dtype}, which cannot hold every id of a vocabulary of "
                f"{self._no_token}; convert them to int32"
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
    if seed is None:
        words = np.frombuffer(os.urandom(8), np.uint32)
        return jax.random.wrap_key_data(words, impl="threefry2x32")
    return jax.random.key(seed, impl="threefry2x32")
