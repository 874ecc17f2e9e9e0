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
    """A masked batch; mask slots beyond a row's selection hold 0, 0 and weight 0.

    Attributes:
      token_ids: `int32[B, L]`, corrupted.
      mask_positions: `int32[B, P]`, ascending.
      mask_ids: `int32[B, P]`, the original ids: the labels.
      mask_weights: `float32[B, P]`, 1 where a slot is filled.
      overflow: `int32[B]`, selected tokens that found no slot.
    """

    token_ids: jax.Array
    mask_positions: jax.Array
    mask_ids: jax.Array
    mask_weights: jax.Array
    overflow: jax.Array


def mask_tokens(
    keys: jax.Array,
    token_ids: jax.Array,
    spec: MaskingSpec,
    *,
    rate: Rate,
    mask_token_rate: Rate | None = None,
    random_token_rate: Rate | None = None,
) -> MaskedTokens:
    """`MaskedTokens`, a pure function of each row's key and ids.

    A row's mask does not depend on its neighbours, its place in the batch, the devices or the
    padding behind it, as long as the padding id is unselectable. Runs by itself and inside jit,
    vmap and scan; `spec` is static.

    Args:
      keys: `key[B]` from `row_keys`.
      token_ids: `int32[B, L]` (other integers are converted), not checked against the vocabulary;
        every id that `spec` does not list as unselectable may be selected.
      spec: static settings; `required_slots(rate, L, count)` says which P holds a rate.
      rate: the share of selectable tokens to select: a float, a scalar array or `float32[B]`. A
        traced one is not checked, and a new value compiles nothing.
      mask_token_rate, random_token_rate: override the split of `spec`; same types as `rate`. Where
        one of them is traced, that both together are at most 1 is for the caller to see to.

    Raises:
      ValueError: for a rate outside [0, 1], a split above 1 and more masks than P holds (unless
        `spec.overflow` is 'drop'), where these are not traced; for wrong shapes and types, and for
        keys other than threefry.
    """
    if not isinstance(spec, MaskingSpec):
        raise ValueError(f"spec is {spec!r}; give a MaskingSpec")
    mask_token_rate = spec.mask_token_rate if mask_token_rate is None else mask_token_rate
    random_token_rate = spec.random_token_rate if random_token_rate is None else random_token_rate
    _check_arrays(keys, token_ids)
    rate, mask_token_rate, random_token_rate = (
        _read_rate(name, value, rows=len(keys))
        for name, value in (
            ("rate", rate),
            ("mask_token_rate", mask_token_rate),
            ("random_token_rate", random_token_rate),
        )
    )
    _check_split(mask_token_rate, random_token_rate)
    _check_slots(rate, spec, length=token_ids.shape[1])
    return _mask(keys, token_ids, rate, mask_token_rate, random_token_rate, spec=spec)


@functools.partial(jax.jit, static_argnames="spec")
def _mask(keys, token_ids, rate, mask_share, random_share, *, spec) -> MaskedTokens:
    """The transform itself, compiled as one also where it is called outside of jit."""
    token_ids = token_ids.astype(jnp.int32)
    rate, mask_share, random_share = (
        jnp.broadcast_to(r, keys.shape) for r in (rate, mask_share, random_share)
    )
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
    # The modulo favours low ids by at most R / 2^32: 6e-5 for a vocabulary of 250,000.
    random_ids = ids[draw_bits(keys, Stream.RANDOM_ID, at) % np.uint32(ids.size)]
    kept_from = mask_share + random_share
    replaced = jnp.where(fate < kept_from[:, None], random_ids, originals)
    return jnp.where(fate < mask_share[:, None], spec.mask_token_id, replaced)


def _write_back(token_ids, positions, filled, replacements) -> jax.Array:
    """`int32[B, L]`: `replacements` written at `positions`, where a slot is filled."""
    targets = jnp.where(filled, positions, token_ids.shape[1])
    write = jax.vmap(lambda row, at, ids: row.at[at].set(ids, mode="drop"))
    return write(token_ids, targets, replacements)


def _check_arrays(keys, token_ids) -> None:
    check_keys(keys)
    if not isinstance(token_ids, (jax.Array, np.ndarray)):
        raise ValueError(f"token_ids are {type(token_ids).__name__}; give an int32[B, L] array")
    if token_ids.ndim != 2 or keys.shape != token_ids.shape[:1]:
        raise ValueError(
            f"token_ids have shape {token_ids.shape} and keys {keys.shape}; give int32[B, L] ids "
            "and key[B], one key per row"
        )
    if not jnp.issubdtype(token_ids.dtype, jnp.integer):
        raise ValueError(f"token_ids are {token_ids.dtype}; give integers")


def _read_rate(name: str, rate: Rate, *, rows: int) -> jax.Array | np.ndarray:
    """`float32[]` or `float32[B]`; NumPy where it is not traced, checked there."""
    if _traced(rate):
        rates = rate.astype(jnp.float32)
    elif isinstance(rate, (jax.Array, np.ndarray)):
        rates = np.asarray(rate, np.float32)
        for extreme in (rates.min(), rates.max()) if rates.size else ():
            check_rate(float(extreme), name)
    else:
        check_rate(rate, name)
        rates = np.float32(rate)
    if rates.shape not in ((), (rows,)):
        raise ValueError(f"{name} has shape {rates.shape}; give one share, or float32[{rows}]")
    return rates


def _check_split(mask_token_rate, random_token_rate) -> None:
    if not _traced(mask_token_rate) and not _traced(random_token_rate):
        pairs = np.broadcast_arrays(mask_token_rate, random_token_rate)
        if pairs[0].size:
            largest = np.argmax(np.add(*pairs))
            check_split(*(float(share.flat[largest]) for share in pairs))


def _check_slots(rate, spec: MaskingSpec, *, length: int) -> None:
    if spec.overflow == "drop" or _traced(rate) or not rate.size:
        return
    largest = float(rate.max())
    needed = required_slots(largest, length, spec.count)
    if needed > spec.mask_selection_length:
        raise ValueError(
            f"mask_selection_length {spec.mask_selection_length} is too small: rate {largest:g} of "
            f"{length} tokens may select {needed}; raise it, or say overflow='drop' to drop the "
            "rest at random"
        )


def _traced(value) -> bool:
    return isinstance(value, jax.core.Tracer)
