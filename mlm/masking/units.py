"""What is selected whole: tokens, words, spans and n-grams of words, or whatever the caller knows.

A strategy says where units begin; the rest follows: a unit ends before the next one, before every
token that must not be selected, and with the row. B batch, L length, V vocabulary.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from mlm.masking.keys import Stream, draw_bits


class Units(NamedTuple):
    """The units of a batch.

    Attributes:
      selectable: `bool[B, L]`; the others belong to no unit.
      leaders: `int32[B, L]`, where each token's unit begins.
      lengths: `int32[B, L]`, the tokens of each token's unit; None where each is a unit.
    """

    selectable: jax.Array
    leaders: jax.Array
    lengths: jax.Array | None = None

    @property
    def are_tokens(self) -> bool:
        return self.lengths is None

    def total(self, values: jax.Array) -> jax.Array:
        """`uint32[B, L]`: at each token the sum of `uint32[B, L]` over its unit."""
        sums = jnp.pad(jnp.cumsum(values, axis=1, dtype=jnp.uint32), ((0, 0), (1, 0)))
        ends = self.leaders + self.lengths
        before = jnp.take_along_axis(sums, self.leaders, axis=1)
        return jnp.take_along_axis(sums, ends, axis=1) - before


def make_units(selectable: jax.Array, starts: jax.Array | None) -> Units:
    """The units that begin where `bool[B, L]` `starts` is True; without, each token is one."""
    length = selectable.shape[1]
    here = jnp.broadcast_to(jnp.arange(length, dtype=jnp.int32), selectable.shape)
    if starts is None:
        return Units(selectable, here)
    begins = starts | ~selectable | _follows_unselectable(selectable)
    leaders = jax.lax.cummax(jnp.where(begins, here, 0), axis=1)
    after = jnp.pad(begins, ((0, 0), (0, 1)), constant_values=True)[:, 1:]
    ends = 1 + jax.lax.cummin(jnp.where(after, here, length), axis=1, reverse=True)
    return Units(selectable, leaders, ends - leaders)


def word_starts(token_ids: jax.Array, continuations: jax.Array) -> jax.Array:
    """`bool[B, L]`: where a word begins: at every id that does not continue the one before.

    Args:
      token_ids: `int32[B, L]`.
      continuations: `bool[V]`, such as WordPiece's pieces with "##".
    """
    return ~jnp.asarray(continuations)[token_ids]


def span_starts(
    keys: jax.Array,
    words: jax.Array,
    selectable: jax.Array,
    *,
    p: float = 0.2,
    longest: int = 10,
) -> jax.Array:
    """`bool[B, L]`: where spans begin that tile the text, their lengths geometric, in words.

    P(k words) is p (1 - p)^(k - 1), scaled to 1 over 1 to `longest`: SpanBERT's law
    (arXiv:1907.10529, mean 3.8). There spans are drawn at random places until there are enough;
    here the text is tiled with them, and some tiles are selected. A span that meets the end of a
    text is cut there.

    Args:
      keys: `key[B]`.
      words: `bool[B, L]`, where words begin.
      selectable: `bool[B, L]`; behind every other position a span begins anew.

    Raises:
      ValueError: for p outside (0, 1] and for `longest` below 1.
    """
    if not 0 < p <= 1:
        raise ValueError(f"p is {p}; give the chance that a span ends at a word, up to 1")
    _check_lengths(1, longest)
    law = np.cumsum(p * (1 - p) ** np.arange(longest))
    return _tile(keys, words, selectable, law=law / law[-1], shortest=1)


def ngram_starts(
    keys: jax.Array, words: jax.Array, selectable: jax.Array, *, shortest: int, longest: int
) -> jax.Array:
    """`bool[B, L]`: where n-grams begin that tile the text, each n equally likely.

    Args: as of `span_starts`; `shortest` and `longest` are n in words, the same for a fixed n
      (1 to 3: GPT-BERT, arXiv:2410.24159).

    Raises:
      ValueError: unless 1 <= shortest <= longest.
    """
    _check_lengths(shortest, longest)
    sizes = longest - shortest + 1
    law = np.arange(1, sizes + 1) / sizes
    return _tile(keys, words, selectable, law=law, shortest=shortest)


def _tile(keys, words, selectable, *, law: np.ndarray, shortest: int) -> jax.Array:
    """`bool[B, L]`: a walk along the row, from tile to tile.

    A tile's length is drawn at the position where it begins, so a longer row begins with the tiles
    of a shorter one.

    Args:
      law: cumulative probabilities of `shortest`, `shortest` + 1, ... words.
    """
    counters = jnp.arange(words.shape[1], dtype=jnp.uint32)[None]
    bits = draw_bits(keys, Stream.UNITS, counters)
    limits = np.minimum(np.round(law[:-1] * 2**32), 2**32 - 1).astype(np.uint32)
    sizes = shortest + sum((bits >= limit).astype(jnp.int32) for limit in limits)
    anew = _follows_unselectable(selectable)
    words = selectable & (words | anew)

    def walk(left, place):
        word, new, size = place
        begins = word & (new | (left == 0))
        return jnp.where(begins, size, left) - word, begins

    none = jnp.zeros(len(words), jnp.int32)
    places = jax.tree.map(jnp.transpose, (words, anew, jnp.broadcast_to(sizes, words.shape)))
    return jax.lax.scan(walk, none, places, unroll=8)[1].T


def _check_lengths(shortest: int, longest: int) -> None:
    if not 1 <= shortest <= longest:
        raise ValueError(
            f"lengths reach from {shortest} to {longest} words; give 1 or more, rising"
        )


def _follows_unselectable(selectable: jax.Array) -> jax.Array:
    """`bool[B, L]`: at the row's begin and behind what must not be selected."""
    return ~jnp.pad(selectable, ((0, 0), (1, 0)))[:, :-1]
