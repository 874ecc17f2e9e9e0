"""How many tokens of a row are selected, and which.

Selected are the n selectable positions with the smallest (score, position), where a score is 32
random bits. B batch, L length, P mask slots.
"""

import jax
import jax.numpy as jnp

from mlm.masking.keys import Stream, draw_bits, unit_interval
from mlm.masking.spec import Count


def count_selected(
    keys: jax.Array, scores: jax.Array, selectable: jax.Array, *, rate: jax.Array, count: Count
) -> jax.Array:
    """`int32[B]`: how many of each row's selectable tokens are to be predicted.

    Args:
      keys: `key[B]`.
      scores: `uint32[B, L]`; the coins of 'bernoulli' are the scores themselves, so that its
        selection, too, is the n smallest.
      selectable: `bool[B, L]`.
      rate: `float32[B]`.
      count: the rule, see `MaskingSpec`.
    """
    n = jnp.sum(selectable, axis=1, dtype=jnp.int32)
    if count == "bernoulli":
        heads = unit_interval(scores) < rate[:, None]
        return jnp.sum(heads & selectable, axis=1, dtype=jnp.int32)
    expected = rate * n.astype(jnp.float32)
    if count == "exact":
        # float32 0.15 * 100 is above 15; the slack makes every k/1000 exact up to n = 8192.
        at_least = ((rate > 0) & (n > 0)).astype(jnp.int32)
        return jnp.clip(jnp.ceil(expected - 2.5e-4).astype(jnp.int32), at_least, n)
    whole = jnp.floor(expected)
    one_more = unit_interval(draw_bits(keys, Stream.COUNT, 1)[:, 0]) < expected - whole
    return jnp.clip(whole.astype(jnp.int32) + one_more, 0, n)


def smallest_scores(
    scores: jax.Array, selectable: jax.Array, n: jax.Array, *, slots: int
) -> tuple[jax.Array, jax.Array]:
    """Positions of the min(n, slots) smallest scores, ascending, and which slots they fill.

    Args:
      scores: `uint32[B, L]`.
      selectable: `bool[B, L]`; other positions are never taken.
      n: `int32[B]`, at most the row's selectable positions.
      slots: P; where n is larger, the P smallest scores are a random choice among the n.

    Returns:
      `int32[B, P]` positions, 0 in empty slots, and `bool[B, P]`, True in the first min(n, P).
    """
    batch, length = scores.shape
    positions = jnp.broadcast_to(jnp.arange(length, dtype=jnp.int32), scores.shape)
    _, _, by_score = jax.lax.sort((~selectable, scores, positions), num_keys=3)
    by_score = jnp.pad(by_score, ((0, 0), (0, max(0, slots - length))))[:, :slots]
    filled = jnp.arange(slots) < n[:, None]
    ascending = jnp.sort(jnp.where(filled, by_score, length), axis=1)
    return jnp.where(filled, ascending, 0), filled
