"""A score for every unit, how many tokens of a row are selected, and which.

Selected are the n selectable positions with the smallest (score, position), where the tokens of a
unit share one score: 32 random bits, or the place in a weighted race. `smallest` finds them.
B batch, L length, V vocabulary.
"""

import jax
import jax.numpy as jnp
import numpy as np

from mlm.masking.keys import Stream, draw_bits, unit_interval
from mlm.masking.race import handicaps, race_scores
from mlm.masking.smallest import NEVER, score_threshold, smallest_scores
from mlm.masking.spec import COUNT_SLACK, Count, Fit
from mlm.masking.units import Units


def score_units(keys: jax.Array, units: Units, weights: jax.Array | None = None) -> jax.Array:
    """`uint32[B, L]`: each token's score, that of its unit; `NEVER` for what must not be selected.

    Random bits, drawn at the position where the unit begins; a draw of `NEVER` counts as one less.

    Args:
      keys: `key[B]`.
      units: what is selected whole.
      weights: `float32[B, L]`; with them the scores are those of `race`.
    """
    bits = draw_bits(keys, Stream.SELECTION, units.leaders.astype(jnp.uint32))
    if weights is None:
        return jnp.where(units.selectable, jnp.minimum(bits, NEVER - 1), NEVER)
    behind = handicaps(weights, units)
    runs = units.selectable & (behind < NEVER)
    return jnp.where(runs, jnp.minimum(race_scores(bits, behind), NEVER - 1), NEVER)


def select(scores: jax.Array, n: jax.Array, units: Units, *, fit: Fit) -> jax.Array:
    """`bool[B, L]`: what is selected, n tokens of each row or a little less.

    Args:
      scores: `uint32[B, L]`.
      n: `int32[B]`, at most the row's scores below `NEVER`.
      units: what is selected whole.
      fit: 'truncate' cuts a unit that goes beyond n, behind as many of its tokens as are left
        (as SpanBERT does); 'skip' leaves it out, and goes on with those that fit (as BERT does).
    """
    if units.are_tokens or fit == "truncate":
        return smallest_scores(scores, n)
    threshold, _ = score_threshold(scores, n)
    whole = scores < threshold[:, None]
    return _fill_up(whole, scores, n - jnp.sum(whole, axis=1, dtype=jnp.int32), units)


def _fill_up(selected, scores, left, units: Units) -> jax.Array:
    """`selected` and, unit by unit in the order of their scores, what fits in what is `left`.

    `left` is less than the unit that did not fit, so few units and few rounds follow.
    """

    def fitting(selected, left):
        fits = ~selected & (scores < NEVER) & (units.lengths <= left[:, None])
        return jnp.where(fits, scores, NEVER)

    def next_unit(state):
        selected, left, open_scores = state
        best = jnp.min(open_scores, axis=1, keepdims=True, initial=NEVER)
        first = (open_scores == best) & (best < NEVER)
        # Of two units with the same score the one that stands first.
        leaders = jnp.where(first, units.leaders, scores.shape[1])
        leader = jnp.min(leaders, axis=1, keepdims=True, initial=scores.shape[1])
        chosen = first & (units.leaders == leader)
        selected = selected | chosen
        left = left - jnp.sum(chosen, axis=1, dtype=jnp.int32)
        return selected, left, fitting(selected, left)

    state = selected, left, fitting(selected, left)
    return jax.lax.while_loop(lambda s: jnp.any(s[2] < NEVER), next_unit, state)[0]


def row_rates(keys: jax.Array, lowest: jax.Array, highest: jax.Array) -> jax.Array:
    """`float32[B]`: a rate per row, drawn evenly from `lowest` to `highest`, `float32[]` each.

    It is one of 2048 in between. The factors have 12 bits, so that their product is exact and the
    sum the same whether or not a device fuses the two; in a rate's last bit it would matter.
    """
    bits = draw_bits(keys, Stream.RATE, jnp.zeros((1, 1), jnp.uint32))[:, 0] >> 21
    share = (2 * bits + 1).astype(jnp.float32) * jnp.float32(2**-12)
    width = jax.lax.bitcast_convert_type(highest - lowest, jnp.uint32) & np.uint32(0xFFFFF000)
    return lowest + jax.lax.bitcast_convert_type(width, jnp.float32) * share


def count_selected(
    keys: jax.Array, scores: jax.Array, units: Units, *, rate: jax.Array, count: Count
) -> jax.Array:
    """`int32[B]`: how many tokens of each row are to be selected.

    A rate is a share of the selectable tokens, also of those that have no weight.

    Args:
      keys: `key[B]`.
      scores: `uint32[B, L]` from `score_units`.
      units: the batch's units.
      rate: `float32[B]`.
      count: the rule, see `MaskingSpec`.
    """
    if count == "bernoulli":
        # The scores are the coins, so that this selection, too, is the n smallest.
        heads = (scores < NEVER) & (unit_interval(scores) < rate[:, None])
        return jnp.sum(heads, axis=1, dtype=jnp.int32)
    n = jnp.sum(units.selectable, axis=1, dtype=jnp.int32)
    if count == "exact":
        n = exact_count(rate, n)
    else:
        coin = unit_interval(draw_bits(keys, Stream.COUNT, jnp.zeros((1, 1), jnp.uint32)))[:, 0]
        n = stochastic_count(rate, n, coin)
    return jnp.minimum(n, jnp.sum(scores < NEVER, axis=1, dtype=jnp.int32))


def exact_count(rate: jax.Array, n: jax.Array) -> jax.Array:
    """`int32`: ceil(rate * n), at least 1 where rate and n are above 0.

    KerasHub's data-pipeline rule, in exact arithmetic for every rate of k/1000 and n up to 8192;
    plain float32 makes 16 of 0.15 * 100.
    """
    at_least = ((rate > 0) & (n > 0)).astype(jnp.int32)
    ceiling = jnp.ceil(rate * n.astype(jnp.float32) - COUNT_SLACK).astype(jnp.int32)
    return jnp.clip(ceiling, at_least, n)


def stochastic_count(rate: jax.Array, n: jax.Array, coin: jax.Array) -> jax.Array:
    """`int32`: rate * n rounded down, or up as often as its fraction says; `coin` is in [0, 1)."""
    expected = rate * n.astype(jnp.float32)
    whole = jnp.floor(expected)
    # Not expected - whole, which a compiler may fuse with the product: another last bit, another n.
    fraction = jax.lax.rem(expected, jnp.ones_like(expected))
    return jnp.clip(whole.astype(jnp.int32) + (coin < fraction), 0, n)
