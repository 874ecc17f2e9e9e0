"""Which positions hold the smallest scores of each row: one definition, two ways to find them.

A score below which k others lie is the last of k sorted ones; that is how GPU and TPU find it. A
CPU takes 20 to 350 ns a token to sort, and 0.1 ns to compare, so there it is searched for, in about
ten passes. What is selected then goes from a bit per token to ascending positions: by another sort,
or on a CPU 32 bits at a time. Tests hold both ways equal, bit by bit.
B batch, L length, W words of 32 tokens, P mask slots.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np

# The score of what must not be selected.
NEVER = np.uint32(2**32 - 1)
WORD = 32
# One reduction over L leaves the vector units idle; eight partial sums take a third of its time.
PARTIAL_SUMS = 8
# Interpolation alone can creep; with this no scores need more than 4 * 32 passes.
HALVE_EVERY = 4


def smallest_scores(scores: jax.Array, k: jax.Array) -> jax.Array:
    """`bool[B, L]`: the k smallest scores of each row, of equal ones those that stand first.

    Args:
      scores: `uint32[B, L]`.
      k: `int32[B]`, at most the row's scores below `NEVER`.
    """
    threshold, missing = score_threshold(scores, k)
    below = scores < threshold[:, None]
    # Equal scores at the threshold: of tokens in about one batch of 256 x 128 in 100,000, of units
    # wherever one is cut.
    return jax.lax.cond(
        jnp.any(missing > 0),
        lambda: below | _first_tied(scores, threshold, missing),
        lambda: below,
    )


def score_threshold(scores: jax.Array, k: jax.Array) -> tuple[jax.Array, jax.Array]:
    """`uint32[B]` scores below which k others lie, and `int32[B]`: how many fewer, for ties.

    That many of the scores that equal the threshold are needed to make k.
    """
    return jax.lax.platform_dependent(scores, k, cpu=threshold_by_search, default=threshold_by_sort)


def threshold_by_sort(scores: jax.Array, k: jax.Array) -> tuple[jax.Array, jax.Array]:
    """`score_threshold`, by sorting."""
    ascending = jnp.pad(jnp.sort(scores, axis=1), ((0, 0), (0, 1)), constant_values=NEVER)
    threshold = jnp.take_along_axis(ascending, k[:, None], axis=1)[:, 0]
    return threshold, k - jnp.sum(scores < threshold[:, None], axis=1, dtype=jnp.int32)


def threshold_by_search(scores: jax.Array, k: jax.Array) -> tuple[jax.Array, jax.Array]:
    """`score_threshold`, by narrowing a bracket; another threshold may have the same below it.

    Each pass counts below a point inside the bracket (low, high) and keeps the side that holds k.
    The point is interpolated, since uniform scores are nearly linear in their rank; every few
    passes it halves the bracket, for scores that are not.
    """
    scores = _whole_words(scores, NEVER)

    def is_open(bracket):
        low, high, below_low, below_high, _ = bracket
        return jnp.any((below_low < k) & (k < below_high) & (high - low > 1))

    def narrow(bracket):
        low, high, below_low, below_high, passes = bracket
        rank = (k - below_low + 0.5) / (below_high - below_low + 1)
        share = jnp.where(passes % HALVE_EVERY == HALVE_EVERY - 1, 0.5, rank).astype(jnp.float32)
        width = high - low
        step = (width.astype(jnp.float32) * share).astype(jnp.uint32)
        point = low + jnp.minimum(jnp.maximum(step, 1), width - 1)
        below = _count_below(scores, point)
        up = below <= k
        return (
            jnp.where(up, point, low),
            jnp.where(up, high, point),
            jnp.where(up, below, below_low),
            jnp.where(up, below_high, below),
            passes + 1,
        )

    low, none = jnp.zeros_like(k, jnp.uint32), jnp.zeros_like(k)
    high = jnp.full_like(low, NEVER)
    bracket = (low, high, none, _count_below(scores, high), 0)
    low, high, below_low, below_high, _ = jax.lax.while_loop(is_open, narrow, bracket)
    whole = below_high == k
    return jnp.where(whole, high, low), jnp.where(whole, 0, k - below_low)


def positions_of(selected: jax.Array, *, slots: int) -> tuple[jax.Array, jax.Array]:
    """Positions of what is selected, ascending, and which slots they fill.

    Args:
      selected: `bool[B, L]`.
      slots: P, at least the selected of any row.

    Returns:
      `int32[B, P]` positions, 0 in empty slots, and `bool[B, P]`, True in the filled ones.
    """
    positions = jax.lax.platform_dependent(
        selected,
        cpu=functools.partial(positions_by_bits, slots=slots),
        default=functools.partial(positions_by_sort, slots=slots),
    )
    filled = jnp.arange(slots) < jnp.sum(selected, axis=1, dtype=jnp.int32)[:, None]
    return jnp.where(filled, positions, 0), filled


def positions_by_sort(selected: jax.Array, *, slots: int) -> jax.Array:
    """`int32[B, P]`: positions, ascending; empty slots hold anything."""
    length = selected.shape[1]
    positions = jnp.where(selected, jnp.arange(length, dtype=jnp.int32), length)
    positions = jnp.sort(positions, axis=1)
    return jnp.pad(positions, ((0, 0), (0, max(0, slots - length))))[:, :slots]


def positions_by_bits(selected: jax.Array, *, slots: int) -> jax.Array:
    """The same from 32 neighbours at a time, without a sort."""
    words = _pack(_whole_words(selected, False))
    ones = jax.lax.population_count(words).astype(jnp.int32)
    ends = jnp.cumsum(ones, axis=1, dtype=jnp.int32)
    slot = jnp.arange(slots, dtype=jnp.int32)
    word_index = jnp.sum(ends[:, None, :-1] <= slot[:, None], axis=2, dtype=jnp.int32)
    word = jnp.take_along_axis(words, word_index, axis=1)
    rank = slot - jnp.take_along_axis(ends - ones, word_index, axis=1)
    return word_index * WORD + _select_bit(word, rank)


def _whole_words(values: jax.Array, filler) -> jax.Array:
    """`[B, L']`: padded to a multiple of 32, one at least."""
    length = values.shape[1]
    padded = max(WORD, -(-length // WORD) * WORD)
    return jnp.pad(values, ((0, 0), (0, padded - length)), constant_values=filler)


def _count_below(scores: jax.Array, threshold: jax.Array) -> jax.Array:
    """`int32[B]`: how many scores of each row are below its threshold."""
    parts = jnp.split(scores, PARTIAL_SUMS, axis=1)
    partial = sum((part < threshold[:, None]).astype(jnp.int32) for part in parts)
    return jnp.sum(partial, axis=1, dtype=jnp.int32)


def _first_tied(scores: jax.Array, threshold: jax.Array, missing: jax.Array) -> jax.Array:
    """`bool[B, L]`: the first `missing` positions whose score is the threshold itself."""
    tied = scores == threshold[:, None]
    return tied & (jnp.cumsum(tied, axis=1, dtype=jnp.int32) <= missing[:, None])


def _pack(bits: jax.Array) -> jax.Array:
    """`uint32[B, W]`: 32 neighbours a word, the first one its lowest bit."""
    words = bits.reshape(len(bits), bits.shape[1] // WORD, WORD)
    shifted = words.astype(jnp.uint32) << jnp.arange(WORD, dtype=jnp.uint32)
    return jnp.sum(shifted, axis=2, dtype=jnp.uint32)


def _select_bit(words: jax.Array, rank: jax.Array) -> jax.Array:
    """The place of the one bit that has `rank` one bits below it, by halving: 16, 8, 4, 2, 1."""
    place = jnp.zeros_like(rank)
    for half in (16, 8, 4, 2, 1):
        lower = jax.lax.population_count(words & jnp.uint32(2**half - 1)).astype(jnp.int32)
        upper = rank >= lower
        words = jnp.where(upper, words >> jnp.uint32(half), words)
        rank = jnp.where(upper, rank - lower, rank)
        place = jnp.where(upper, place + half, place)
    return place
