"""The masking transform: token ids and keys in, corrupted ids and dense mask slots out.

    units -> scores -> how many -> which positions -> [MASK] / random / kept -> written back

Everything has a static shape; rates and weights may be traced, so a schedule or a sweep compiles
once. B batch, L length, P mask slots, V vocabulary, R ids that replacements are drawn from.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from mlm.masking.arguments import Rate, check_arguments, read_rates
from mlm.masking.keys import Stream, draw_bits, unit_interval
from mlm.masking.selection import count_selected, score_units, select
from mlm.masking.smallest import NEVER, positions_of
from mlm.masking.spec import MaskingSpec
from mlm.masking.tables import draw_ids
from mlm.masking.units import Units, make_units


class MaskedTokens(NamedTuple):
    """A masked batch; mask slots beyond a row's selection hold 0, 0 and weight 0.

    Attributes:
      token_ids: `int32[B, L]`, corrupted.
      mask_positions: `int32[B, P]`, ascending.
      mask_ids: `int32[B, P]`, the original ids: the labels.
      mask_weights: `float32[B, P]`, 1 where a slot is filled.
      overflow: `int32[B]`, selected tokens that found no slot.
      corrupted: `int32[B]`, selected tokens; more than are predicted under a `prediction_rate`.
    """

    token_ids: jax.Array
    mask_positions: jax.Array
    mask_ids: jax.Array
    mask_weights: jax.Array
    overflow: jax.Array
    corrupted: jax.Array


def mask_tokens(
    keys: jax.Array,
    token_ids: jax.Array,
    spec: MaskingSpec,
    *,
    rate: Rate,
    mask_token_rate: Rate | None = None,
    random_token_rate: Rate | None = None,
    unit_starts: jax.Array | None = None,
    weights: jax.Array | None = None,
    random_cdf: jax.Array | None = None,
    prediction_rate: Rate | None = None,
    copies: int = 1,
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
      unit_starts: `bool[B, L]`, where the units begin that are selected whole, see `units`; they
        also begin behind unselectable tokens. By default each token is a unit.
      weights: `float32[V]` of ids or `float32[B, L]` of tokens: units are selected one after the
        other with probabilities in proportion to them; 0: never. Not for count 'bernoulli'.
      random_cdf: `uint32[R]` from `tables.random_id_cdf`, the law of `spec.replacement_ids`; by
        default all are as likely.
      prediction_rate: the share to predict, at most `rate`: the first of the selected. All that is
        selected is corrupted. By default all of it is predicted.
      copies: r copies of each row with disjoint selections of `rate` each, the copies of a row side
        by side; every result has r * B rows. Where `spec.fit` is 'skip', later copies find fewer
        units that fit and hide less; 'truncate' holds the rate.

    Raises:
      ValueError: for a rate outside [0, 1], a split above 1, a prediction rate above the rate,
        copies that select more than there is, negative or infinite weights in NumPy, and more masks
        than P holds (unless `spec.overflow` is 'drop'), where these are not traced; for wrong
        shapes and types, and for keys other than threefry.
    """
    arrays = unit_starts, weights, random_cdf
    check_arguments(keys, token_ids, spec, *arrays, copies=copies)
    rates = read_rates(
        spec,
        token_ids.shape,
        rate=rate,
        mask_token_rate=mask_token_rate,
        random_token_rate=random_token_rate,
        prediction_rate=prediction_rate,
        units=unit_starts is not None,
        copies=copies,
    )
    return _mask(keys, token_ids, rates, *arrays, spec=spec, copies=copies)


@functools.partial(jax.jit, static_argnames=("spec", "copies"))
def _mask(keys, token_ids, rates, starts, weights, random_cdf, *, spec, copies) -> MaskedTokens:
    """The transform itself, compiled as one also where it is called outside of jit."""
    token_ids = token_ids.astype(jnp.int32)
    rates = {name: jnp.broadcast_to(r, keys.shape) for name, r in rates.items()}
    units = make_units(selectable_positions(token_ids, spec), starts)
    if weights is not None and weights.ndim == 1:
        weights = weights[token_ids]
    scores = score_units(keys, units, weights)

    def mask_once(scores):
        return _select_and_corrupt(keys, token_ids, units, scores, rates, random_cdf, spec)

    if copies == 1:
        return mask_once(scores)[1]
    # Each copy selects from what the ones before it have left.
    _, masked = jax.lax.scan(lambda left, _: mask_once(left), scores, length=copies)
    rows = copies * len(token_ids)
    return jax.tree.map(lambda x: x.swapaxes(0, 1).reshape(rows, *x.shape[2:]), masked)


def _select_and_corrupt(
    keys, token_ids, units: Units, scores, rates, random_cdf, spec: MaskingSpec
) -> tuple[jax.Array, MaskedTokens]:
    """The scores that are left, `uint32[B, L]`, and the masked batch."""
    fewer = "prediction_rate" in rates
    slots = spec.corruption_slots if fewer else spec.mask_selection_length
    n = count_selected(keys, scores, units, rate=rates["rate"], count=spec.count)
    held = jnp.minimum(n, slots)
    selected = select(scores, held, units, fit=spec.fit)
    left = jnp.where(selected, NEVER, scores)
    positions, filled = positions_of(selected, slots=slots)
    shown = _corrupt(keys, token_ids, positions, units, rates, random_cdf, spec)
    corrupted = _write_back(token_ids, positions, filled, shown)

    overflow = n - held
    if fewer:
        among = jnp.where(selected, scores, NEVER)
        n = count_selected(keys, among, units, rate=rates["prediction_rate"], count=spec.count)
        held = jnp.minimum(n, spec.mask_selection_length)
        predicted = select(among, held, units, fit=spec.fit)
        positions, filled = positions_of(predicted, slots=spec.mask_selection_length)
        overflow += n - held
    labels = jnp.take_along_axis(token_ids, positions, axis=1)
    return left, MaskedTokens(
        token_ids=corrupted,
        mask_positions=positions,
        mask_ids=jnp.where(filled, labels, 0),
        mask_weights=filled.astype(jnp.float32),
        overflow=overflow,
        corrupted=jnp.sum(selected, axis=1, dtype=jnp.int32),
    )


def selectable_positions(token_ids: jax.Array, spec: MaskingSpec) -> jax.Array:
    """`bool[B, L]`: where the id is not listed as unselectable."""
    unselectable = jnp.array(spec.unselectable_token_ids, jnp.int32)
    return jnp.isin(token_ids, unselectable, invert=True)


def _corrupt(
    keys, token_ids, positions, units: Units, rates, random_cdf, spec: MaskingSpec
) -> jax.Array:
    """`int32[B, P]`: what stands at each slot's position afterwards.

    The draws belong to positions, not to slots: a token selected at two rates meets one fate.
    """
    originals = jnp.take_along_axis(token_ids, positions, axis=1)
    deciding = positions
    if spec.fate == "unit":
        deciding = jnp.take_along_axis(units.leaders, positions, axis=1)
    fate = unit_interval(draw_bits(keys, Stream.CORRUPTION, deciding.astype(jnp.uint32)))
    bits = draw_bits(keys, Stream.RANDOM_ID, positions.astype(jnp.uint32))
    kept_from = rates["mask_token_rate"] + rates["random_token_rate"]
    replaced = jnp.where(fate < kept_from[:, None], _random_ids(bits, random_cdf, spec), originals)
    return jnp.where(fate < rates["mask_token_rate"][:, None], spec.mask_token_id, replaced)


def _random_ids(bits: jax.Array, random_cdf: jax.Array | None, spec: MaskingSpec) -> jax.Array:
    """`int32[B, P]`: an id for each of the random bits."""
    ids = jnp.asarray(spec.replacement_ids)
    if random_cdf is None:
        # The modulo favours low ids by at most R / 2^32: 6e-5 for a vocabulary of 250,000.
        return ids[bits % np.uint32(ids.size)]
    return ids[draw_ids(jnp.asarray(random_cdf), bits)]


def _write_back(token_ids, positions, filled, replacements) -> jax.Array:
    """`int32[B, L]`: `replacements` written at `positions`, where a slot is filled."""
    targets = jnp.where(filled, positions, token_ids.shape[1])
    write = jax.vmap(lambda row, at, ids: row.at[at].set(ids, mode="drop"))
    return write(token_ids, targets, replacements)
