"""A score for every token, and how many tokens of a row are selected.

Selected are the n selectable positions with the smallest (score, position), where a score is 32
random bits; `smallest` finds them. B batch, L length.
"""

import jax
import jax.numpy as jnp

from mlm.masking.keys import Stream, draw_bits, unit_interval
from mlm.masking.smallest import NEVER
from mlm.masking.spec import COUNT_SLACK, Count


def score_tokens(keys: jax.Array, selectable: jax.Array) -> jax.Array:
    """`uint32[B, L]`: random bits where `bool[B, L]` is True, the largest uint32 elsewhere.

    That value is kept for what must not be selected: a draw of it counts as one less.
    """
    positions = jnp.arange(selectable.shape[1], dtype=jnp.uint32)[None]
    bits = draw_bits(keys, Stream.SELECTION, positions)
    return jnp.where(selectable, jnp.minimum(bits, NEVER - 1), NEVER)


def count_selected(
    keys: jax.Array, scores: jax.Array, *, rate: jax.Array, count: Count
) -> jax.Array:
    """`int32[B]`: how many of each row's selectable tokens are to be predicted.

    Args:
      keys: `key[B]`.
      scores: `uint32[B, L]` from `score_tokens`.
      rate: `float32[B]`.
      count: the rule, see `MaskingSpec`.
    """
    selectable = scores < NEVER
    if count == "bernoulli":
        # The scores are the coins, so that this selection, too, is the n smallest.
        return jnp.sum(
            selectable & (unit_interval(scores) < rate[:, None]), axis=1, dtype=jnp.int32
        )
    n = jnp.sum(selectable, axis=1, dtype=jnp.int32)
    if count == "exact":
        return exact_count(rate, n)
    coin = unit_interval(draw_bits(keys, Stream.COUNT, jnp.zeros((1, 1), jnp.uint32)))[:, 0]
    return stochastic_count(rate, n, coin)


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
    return jnp.clip(whole.astype(jnp.int32) + (coin < expected - whole), 0, n)
