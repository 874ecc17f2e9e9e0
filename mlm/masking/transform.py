"""The masking transform: token ids and keys in, corrupted ids and dense mask slots out.

    scores -> how many -> which positions -> [MASK] / random / kept -> written back

Everything has a static shape; rates may be traced, so a schedule or a sweep compiles once.
B batch, L length, P mask slots.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from mlm.masking.keys import Stream, check_keys, draw_bits, unit_interval
from mlm.masking.selection import count_selected, score_tokens
from mlm.masking.smallest import smallest_scores
from mlm.masking.spec import MaskingSpec, check_rate, check_split, required_slots

Rate = float | jax.Array


class MaskedTokens(NamedTuple):
    """A masked batch; slots beyond a row's selection hold 0, 0 and weight 0."""

    token_ids: jax.Array  # int32[B, L], corrupted
    mask_positions: jax.Array  # int32[B, P], ascending
    mask_ids: jax.Array  # int32[B, P], the original ids: the labels
    mask_weights: jax.Array  # float32[B, P], 1 where a slot is filled
    overflow: jax.Array  # int32[B], selected tokens that found no slot


def mask_tokens(
    keys: jax.Array,
    token_ids: jax.Array,
    spec: MaskingSpec,
    *,
    rate: Rate,
    mask_token_rate: Rate | None = None,
    random_token_rate: Rate | None = None,
) -> MaskedTokens:
    """Masked tokens, a pure function of each row's key and ids.

    A row's mask does not depend on its neighbours, its place in the batch, the devices or the
    padding behind it, as long as the padding id is unselectable.

    Args:
      keys: `key[B]` from `row_keys`.
      token_ids: `int32[B, L]` (other integers are converted); every id that `spec` does not list as
        unselectable may be selected.
      spec: static settings.
      rate: the share of selectable tokens to select: a float, a scalar array or `float32[B]`. A
        traced one is not checked, and a new value compiles nothing.
      mask_token_rate, random_token_rate: override the split of `spec`; same types as `rate`.

    Raises:
      ValueError: for a rate outside [0, 1], a split above 1 and more masks than P holds (unless
        `spec.overflow` is 'drop'), where these are not traced; for wrong shapes, and for keys other
        than threefry.
    """
    mask_token_rate = spec.mask_token_rate if mask_token_rate is None else mask_token_rate
    random_token_rate = spec.random_token_rate if random_token_rate is None else random_token_rate
    _check_arguments(keys, token_ids, spec, rate, mask_token_rate, random_token_rate)
    shape = token_ids.shape[:1]
    rates = (
        jnp.broadcast_to(jnp.asarray(r, jnp.float32), shape)
        for r in (rate, mask_token_rate, random_token_rate)
    )
    return _mask(keys, token_ids, *rates, spec=spec)


@functools.partial(jax.jit, static_argnames="spec")
def _mask(keys, token_ids, rate, mask_share, random_share, *, spec) -> MaskedTokens:
    """The transform itself, compiled as one also where it is called outside of jit."""
    token_ids = token_ids.astype(jnp.int32)
    scores = score_tokens(keys, selectable_positions(token_ids, spec))
    n = count_selected(keys, scores, rate=rate, count=spec.count)
    slots = spec.mask_selection_length
    positions, filled = smallest_scores(scores, n, slots=slots)

    originals = jnp.take_along_axis(token_ids, positions, axis=1)
    replacements = _corrupt(keys, originals, positions, spec, mask_share, random_share)
    return MaskedTokens(
        token_ids=_write_back(token_ids, positions, filled, replacements),
        mask_positions=positions,
        mask_ids=jnp.where(filled, originals, 0),
        mask_weights=filled.astype(jnp.float32),
        overflow=jnp.maximum(n - slots, 0),
    )


def selectable_positions(token_ids: jax.Array, spec: MaskingSpec) -> jax.Array:
    """`bool[B, L]`: where the id is not listed as unselectable."""
    unselectable = jnp.array(spec.unselectable_token_ids, jnp.int32)
    return jnp.isin(token_ids, unselectable, invert=True)


def _corrupt(keys, originals, positions, spec, mask_share, random_share) -> jax.Array:
    """`int32[B, P]`: what stands at each slot's position afterwards.

    The draws belong to positions, not to slots: a token selected at two rates meets one fate.
    """
    at = positions.astype(jnp.uint32)
    fate = unit_interval(draw_bits(keys, Stream.CORRUPTION, at))
    ids = jnp.asarray(spec.replacement_ids)
    # The modulo favours low ids by at most R / 2^32: 3e-5 for the largest public vocabulary.
    random_ids = ids[draw_bits(keys, Stream.RANDOM_ID, at) % np.uint32(max(ids.size, 1))]
    kept_from = mask_share + random_share
    replaced = jnp.where(fate < kept_from[:, None], random_ids, originals)
    return jnp.where(fate < mask_share[:, None], spec.mask_token_id, replaced)


def _write_back(token_ids, positions, filled, replacements) -> jax.Array:
    """`int32[B, L]`: `replacements` written at `positions`, where a slot is filled."""
    targets = jnp.where(filled, positions, token_ids.shape[1])
    write = jax.vmap(lambda row, at, ids: row.at[at].set(ids, mode="drop"))
    return write(token_ids, targets, replacements)


def _check_arguments(keys, token_ids, spec, rate, mask_token_rate, random_token_rate) -> None:
    check_keys(keys)
    if token_ids.ndim != 2 or keys.shape != token_ids.shape[:1]:
        raise ValueError(
            f"token_ids have shape {token_ids.shape} and keys {keys.shape}; give int32[B, L] ids "
            "and key[B], one key per row"
        )
    if not jnp.issubdtype(token_ids.dtype, jnp.integer):
        raise ValueError(f"token_ids are {token_ids.dtype}; give integers")
    _check_splits(mask_token_rate, random_token_rate)
    for bound in _bounds(rate):
        check_rate(bound)
        needed = required_slots(bound, token_ids.shape[1], spec.count)
        if spec.overflow == "error" and needed > spec.mask_selection_length:
            raise ValueError(
                f"mask_selection_length {spec.mask_selection_length} is too small: rate {bound:g} "
                f"of {token_ids.shape[1]} tokens may select {needed}; raise it, or say "
                "overflow='drop' to drop the rest at random"
            )


def _check_splits(mask_token_rate: Rate, random_token_rate: Rate) -> None:
    for name, share in zip(("mask", "random"), (mask_token_rate, random_token_rate), strict=True):
        for bound in _bounds(share):
            check_rate(bound, f"{name}_token_rate")
    if _bounds(mask_token_rate) and _bounds(random_token_rate):
        pairs = np.broadcast_arrays(mask_token_rate, random_token_rate)
        largest = np.argmax(np.add(*pairs))
        check_split(*(float(share.flat[largest]) for share in pairs))


def _bounds(rate: Rate) -> tuple[float, ...]:
    """The smallest and the largest of a rate; nothing is known of a traced one."""
    if isinstance(rate, jax.core.Tracer) or np.size(rate) == 0:
        return ()
    if isinstance(rate, (jax.Array, np.ndarray)):
        return float(rate.min()), float(rate.max())
    return (rate,)
