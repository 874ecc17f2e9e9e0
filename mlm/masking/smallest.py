"""Where the smallest scores of each row stand: one definition, two implementations.

`by_sort` is for GPU and TPU. A CPU takes 100 to 350 ns a token to sort, and 0.1 ns to compare, so
`by_threshold` looks for the score below which exactly k lie (about ten passes), keeps a bit per
token, and turns bits into positions 32 at a time. Tests hold the two equal, bit by bit.
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


def smallest_scores(scores: jax.Array, n: jax.Array, *, slots: int) -> tuple[jax.Array, jax.Array]:
    """Positions of the min(n, slots) smallest scores, ascending, and which slots they fill.

    Args:
      scores: `uint32[B, L]` from `score_tokens`.
      n: `int32[B]`, at most the row's selectable positions.
      slots: P; where n is larger, the P smallest scores are a random choice among the n.

    Returns:
      `int32[B, P]` positions, 0 in empty slots, and `bool[B, P]`, True in the first min(n, P).
    """
    k = jnp.minimum(n, slots)
    positions = jax.lax.platform_dependent(
        scores,
        k,
        cpu=functools.partial(by_threshold, slots=slots),
        default=functools.partial(by_sort, slots=slots),
    )
    filled = jnp.arange(slots) < k[:, None]
    return jnp.where(filled, positions, 0), filled


def by_sort(scores: jax.Array, k: jax.Array, *, slots: int) -> jax.Array:
    """`int32[B, P]`: positions of the k smallest, ascending; slots beyond k hold anything.

    Args:
      scores: `uint32[B, L]`.
      k: `int32[B]`, at most P and at most the row's scores below `NEVER`.
      slots: P.
    """
    length = scores.shape[1]
    positions = jnp.broadcast_to(jnp.arange(length, dtype=jnp.int32), scores.shape)
    _, by_score = jax.lax.sort((scores, positions), num_keys=1, is_stable=True)
    by_score = jnp.pad(by_score, ((0, 0), (0, max(0, slots - length))))[:, :slots]
    return jnp.sort(jnp.where(jnp.arange(slots) < k[:, None], by_score, length), axis=1)


def by_threshold(scores: jax.Array, k: jax.Array, *, slots: int) -> jax.Array:
    """The same by a search for the score below which k others lie."""
    length = scores.shape[1]
    padded = max(WORD, -(-length // WORD) * WORD)
    scores = jnp.pad(scores, ((0, 0), (0, padded - length)), constant_values=NEVER)
    threshold, missing = _find_threshold(scores, k)
    words = _pack(scores < threshold[:, None])
    # Equal scores at the threshold: about one batch of 256 x 128 in 100,000 has such a row.
    words = jax.lax.cond(
        jnp.any(missing > 0),
        lambda: words | _pack(_first_tied(scores, threshold, missing)),
        lambda: words,
    )
    return _positions_of_bits(words, slots)


def _find_threshold(scores: jax.Array, k: jax.Array) -> tuple[jax.Array, jax.Array]:
    """`uint32[B]` scores below which k others lie, and `int32[B]`: how many fewer, for ties.

    Each pass counts below a point inside the bracket (low, high) and keeps the side that holds k.
    The point is interpolated, since uniform scores are nearly linear in their rank; every few
    passes it halves the bracket, for scores that are not.
    """

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


def _positions_of_bits(words: jax.Array, slots: int) -> jax.Array:
    """`int32[B, P]`: where the first P one bits stand, ascending; arbitrary beyond the last one."""
    ones = jax.lax.population_count(words).astype(jnp.int32)
    ends = jnp.cumsum(ones, axis=1, dtype=jnp.int32)
    slot = jnp.arange(slots, dtype=jnp.int32)
    word_index = jnp.sum(ends[:, None, :-1] <= slot[:, None], axis=2, dtype=jnp.int32)
    word = jnp.take_along_axis(words, word_index, axis=1)
    rank = slot - jnp.take_along_axis(ends - ones, word_index, axis=1)
    return word_index * WORD + _select_bit(word, rank)


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
