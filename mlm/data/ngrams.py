"""Words of a token store and the n-grams that they make, in passes over the store.

A word and an n-gram are a 64-bit hash of their token ids, so that sorting finds what is the same;
two of a hundred million share a hash with a chance of a tenth of a percent. An n-gram never goes
across the end of a document or a word of signs alone. Memory depends on what is asked for often
enough and on the sizes below, not on the store.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from mlm.data.store import TokenStore

# T tokens, W words of a stretch, N n-grams, V vocabulary

LONGEST = 5  # words of an n-gram, as in arXiv:2010.01825
CHUNK = 1 << 21  # tokens that are looked at together
PART = 1 << 25  # n-grams that are sorted together: 0.5 GB
IN_WORD, IN_NGRAM = np.uint64(0x9E3779B97F4A7C15), np.uint64(0xD1B54A32D192ED03)  # any odd numbers


class WordTable(NamedTuple):
    """What ids are to words, both bool[V]: see `mlm.text.words`."""

    continues: np.ndarray  # goes on with the word before it
    signs: np.ndarray  # is no word by itself: punctuation, special ids


class Stretch(NamedTuple):
    """W words that follow each other in the store; n-grams do not go beyond it."""

    bounds: np.ndarray  # int64[W + 1], where each word begins in the store, and where the last ends
    hashes: np.ndarray  # uint64[W]
    room: np.ndarray  # int8[W], how many words an n-gram from here may have; 0 at signs


class Counts(NamedTuple):
    """The n-grams of one length that occur often enough, by ascending hash."""

    hashes: np.ndarray  # uint64[N]
    counts: np.ndarray  # int64[N]
    total: int  # n-grams of the store, the rare ones too


def stretches(store: TokenStore, table: WordTable, *, chunk: int = CHUNK) -> Iterator[Stretch]:
    """The whole store in stretches of about `chunk` tokens, cut where n-grams end anyway."""
    pieces = _mixed(np.arange(store.vocabulary_size, dtype=np.uint64))
    begin, size = 0, chunk
    while begin < store.token_count:
        stretch = _stretch(store, table, pieces, begin, min(begin + size, store.token_count))
        if stretch is None:  # a document without signs
            size *= 2
            continue
        yield stretch
        begin, size = int(stretch.bounds[-1]), chunk


def _stretch(
    store: TokenStore, table: WordTable, pieces: np.ndarray, begin: int, end: int
) -> Stretch | None:
    """The words from a break at `begin` up to the last break before `end`; None if it has none."""
    tokens = store.tokens[begin:end]
    new = _document_starts(store.doc_ends, begin, end)
    starts = np.flatnonzero(new | ~table.continues[tokens])
    new = new[starts]
    signs = np.logical_and.reduceat(table.signs[tokens], starts)
    words = len(starts)
    if end < store.token_count:
        breaks = np.flatnonzero((new | signs)[:-1])  # the last word may go on beyond
        words = int(breaks[-1]) if len(breaks) else 0
        if not words:
            return None
    bounds = np.append(starts, end - begin)[: words + 1]
    hashes = _word_hashes(pieces[tokens[: bounds[-1]]], bounds)
    return Stretch(bounds + begin, hashes, _room(signs[:words], new[:words]))


def _document_starts(doc_ends: np.ndarray, begin: int, end: int) -> np.ndarray:
    """bool[end - begin]: where documents begin; also at `begin`."""
    first, last = np.searchsorted(doc_ends, [begin, end])
    new = np.zeros(end - begin, bool)
    new[doc_ends[first:last] - begin] = True
    new[0] = True
    return new


def _word_hashes(pieces: np.ndarray, bounds: np.ndarray) -> np.ndarray:
    """uint64[W]: sums of the pieces' hashes, each times a number for its place in the word."""
    lengths = np.diff(bounds)
    place = np.arange(len(pieces)) - np.repeat(bounds[:-1], lengths)
    powers = np.multiply.accumulate(np.full(lengths.max(), IN_WORD))
    return np.add.reduceat(pieces * powers[place], bounds[:-1])


def _room(signs: np.ndarray, new: np.ndarray) -> np.ndarray:
    joined = np.zeros(len(signs), bool)  # to the next word
    joined[:-1] = ~signs[:-1] & ~signs[1:] & ~new[1:]
    room, reached = (~signs).astype(np.int8), joined
    for _ in range(LONGEST - 1):
        room += reached
        reached = joined & np.append(reached[1:], False)
    return room


def windows(stretch: Stretch, n: int) -> tuple[np.ndarray, np.ndarray]:
    """All n-grams of a stretch: (hash uint64[N], number of the first word int64[N])."""
    first = np.flatnonzero(stretch.room >= n)
    return hash_words([stretch.hashes[first + k] for k in range(n)]), first


def hash_words(words: list[np.ndarray]) -> np.ndarray:
    """uint64[N]: the hash of n-grams, from those of the first words, of the second words, ..."""
    hashes = words[0]
    for word in words[1:]:
        hashes = hashes * IN_NGRAM + word
    return hashes


def count_ngrams(
    store: TokenStore,
    table: WordTable,
    n: int,
    *,
    more_than: int,
    chunk: int = CHUNK,
    part: int = PART,
) -> Counts:
    """The n-grams that occur more than `more_than` times.

    As many passes as it takes to sort about `part` of them at a time, in order of their hashes.
    """
    parts = -(-store.token_count // part)
    hashes, counts, total = [], [], 0
    for number in range(parts):
        found = []
        for stretch in stretches(store, table, chunk=chunk):
            every = windows(stretch, n)[0]
            if parts > 1:
                every = every[_part_of(every, parts) == number]
            found.append(every)
        values, times = _tally(found)
        total += int(times.sum())
        hashes.append(values[times > more_than])
        counts.append(times[times > more_than])
    return Counts(np.concatenate(hashes), np.concatenate(counts), total)


def _part_of(hashes: np.ndarray, parts: int) -> np.ndarray:
    """Which of `parts` equal ranges each hash is in."""
    return (hashes >> np.uint64(32)) * np.uint64(parts) >> np.uint64(32)


def _tally(found: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Each value once and how often it occurs; empties the list, whose memory it needs."""
    values = np.concatenate([*found, np.zeros(0, np.uint64)])
    found.clear()
    values.sort()
    first = np.flatnonzero(np.append(True, values[1:] != values[:-1])[: len(values)])
    return values[first], np.diff(np.append(first, len(values)))


class Lookup:
    """Finds hashes in a sorted array; most of those that are not there are seen at a glance."""

    def __init__(self, hashes: np.ndarray):
        bits = min(max(10, len(hashes).bit_length() + 4), 27)
        self.hashes, self.shift = hashes, np.uint64(64 - bits)
        self.may_be = np.zeros(1 << bits, bool)
        self.may_be[hashes >> self.shift] = True

    def find(self, hashes: np.ndarray) -> np.ndarray:
        """int64[N]: the place of each in the array, -1 where it is not there."""
        found = np.full(len(hashes), -1, np.int64)
        likely = np.flatnonzero(self.may_be[hashes >> self.shift])
        if len(likely):
            wanted = hashes[likely]
            place = np.minimum(np.searchsorted(self.hashes, wanted), len(self.hashes) - 1)
            found[likely] = np.where(self.hashes[place] == wanted, place, -1)
        return found


def _mixed(values: np.ndarray) -> np.ndarray:
    """uint64[N] that look random: the finalizer of SplitMix64 (Steele et al. 2014)."""
    values = (values + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15)
    values = (values ^ values >> np.uint64(30)) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ values >> np.uint64(27)) * np.uint64(0x94D049BB133111EB)
    return values ^ values >> np.uint64(31)
