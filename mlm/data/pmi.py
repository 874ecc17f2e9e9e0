"""Collocations of a text: words that stand together far more often than by chance.

PMI-Masking (Levine et al. 2020, arXiv:2010.01825) masks them whole. An n-gram of 2 to 5 words is
scored by min over its segmentations of log p(w1 ... wn) / prod p(segment), with p the count per
word of the text, so that "of the United States" gains nothing from "United States". The best of
each length make the list, half of it bigrams, until half of the tokens stand in one.

Where we decide: a collocation holds no sign of punctuation, as the published lists hold none; words
that stand together no more often than by chance are never taken; overlaps are resolved from left to
right, not at random, so that the same store gives the same units.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from mlm.data.ngrams import (
    CHUNK,
    LONGEST,
    PART,
    Counts,
    Lookup,
    Stretch,
    WordTable,
    count_ngrams,
    hash_words,
    stretches,
    windows,
)
from mlm.data.store import TokenStore
from mlm.errors import DataError

# T tokens, F frequent n-grams, K collocations

LENGTHS = range(2, LONGEST + 1)
# Of n = 2, 3, 4, 5 there are 4, 2, 1, 1 in eight of the list: the r-th best enters it at r * 2, ...
STEPS = {2: 2, 3: 4, 4: 8, 5: 8}
COVERED = 0.5  # of all tokens: what the 800,000 of the paper cover
NEVER = np.iinfo(np.int64).max
DIGITS = 9  # of a score; what is left of it may depend on the machine


class Collocations(NamedTuple):
    """K n-grams, the first to enter the list first."""

    words: np.ndarray  # int8[K], n
    hashes: np.ndarray  # uint64[K]
    counts: np.ndarray  # int64[K]
    scores: np.ndarray  # float64[K], nats
    begins: np.ndarray  # int64[K], where the first occurrence begins in the store
    ends: np.ndarray  # int64[K], and where it ends


class _Frequent(NamedTuple):
    """The n-grams of one length that may enter the list, by ascending hash."""

    hashes: np.ndarray  # uint64[F]
    counts: np.ndarray  # int64[F]
    scores: np.ndarray  # float64[F]
    bounds: np.ndarray  # int64[F, 2], of the first occurrence
    enters: np.ndarray  # int64[F], the size of the list with which it enters; NEVER


def find_collocations(
    store: TokenStore,
    table: WordTable,
    *,
    more_than: int,
    chunk: int = CHUNK,
    part: int = PART,
) -> Collocations:
    """The collocations of a store, in streamed passes over it.

    Args:
      store: the text that is trained on.
      table: see `WordTable`.
      more_than: an n-gram that does not occur more often is none.
      chunk, part: sizes that decide the memory and not the result, see `ngrams`.

    Raises:
      DataError: there is none.
    """
    sizes = {"chunk": chunk, "part": part}
    counts = {n: count_ngrams(store, table, n, more_than=more_than, **sizes) for n in (1, *LENGTHS)}
    found = {}
    for n, (words, bounds) in _first_occurrences(store, table, counts, chunk).items():
        scores = np.round(pmi_scores(words, counts), DIGITS)
        enters = _entries(n, scores, counts[n])
        found[n] = _Frequent(counts[n].hashes, counts[n].counts, scores, bounds, enters)
    if not any(np.any(frequent.enters < NEVER) for frequent in found.values()):
        raise DataError(
            f"the text of {store.path} has no collocation: of its {counts[1].total:,} words no two "
            f"stand together more than {more_than} times and more often than by chance; lower "
            "masking.pmi_count, give more text, or choose masking.unit=word"
        )
    return _listed(found, _size_of_list(store, table, found, chunk))


def pmi_scores(words: np.ndarray, counts: dict[int, Counts]) -> np.ndarray:
    """float64[F]: the PMI of n-grams under the segmentation that explains them best.

    Args:
      words: uint64[F, n], hashes of their words.
      counts: by length, of all parts of them.
    """
    number, n = words.shape
    best = [np.zeros(number)]  # log-probability of the best segmentation of the first k words
    for end in range(1, n + 1):
        choices = []
        for begin in range(end):
            if (begin, end) != (0, n):
                choices.append(best[begin] + _log_p(words[:, begin:end], counts))
        best.append(np.max(choices, axis=0))
    return _log_p(words, counts) - best[n]


def _log_p(words: np.ndarray, counts: dict[int, Counts]) -> np.ndarray:
    known = counts[words.shape[1]]
    place = np.searchsorted(known.hashes, hash_words(list(words.T)))
    return np.log(known.counts[place] / counts[1].total)


def _first_occurrences(
    store: TokenStore, table: WordTable, counts: dict[int, Counts], chunk: int
) -> dict[int, tuple[np.ndarray, np.ndarray]]:
    """For each length the words of its n-grams, uint64[F, n], and their place, int64[F, 2]."""
    lookups = {n: Lookup(counts[n].hashes) for n in LENGTHS}
    words = {n: np.zeros((len(counts[n].hashes), n), np.uint64) for n in LENGTHS}
    bounds = {n: np.full((len(counts[n].hashes), 2), -1) for n in LENGTHS}
    for stretch in stretches(store, table, chunk=chunk):
        for n, lookup in lookups.items():
            first, place = _occurrences(stretch, n, lookup)
            unseen = bounds[n][place, 0] < 0
            place, number = np.unique(place[unseen], return_index=True)
            first = first[unseen][number]
            words[n][place] = np.stack([stretch.hashes[first + k] for k in range(n)], axis=1)
            bounds[n][place] = np.stack([stretch.bounds[first], stretch.bounds[first + n]], axis=1)
    return {n: (words[n], bounds[n]) for n in LENGTHS}


def _occurrences(stretch: Stretch, n: int, lookup: Lookup) -> tuple[np.ndarray, np.ndarray]:
    """The first words of the n-grams that `lookup` knows, and their places there."""
    hashes, first = windows(stretch, n)
    place = lookup.find(hashes)
    known = place >= 0
    return first[known], place[known]


def _entries(n: int, scores: np.ndarray, counts: Counts) -> np.ndarray:
    """int64[F]: the size of the list at which each n-gram enters it, the best score first."""
    order = np.lexsort((counts.hashes, -counts.counts, -scores))
    order = order[scores[order] > 0]
    enters = np.full(len(scores), NEVER)
    enters[order] = np.arange(1, len(order) + 1) * STEPS[n]
    return enters


def _size_of_list(
    store: TokenStore, table: WordTable, found: dict[int, _Frequent], chunk: int
) -> int:
    """The smallest size at which COVERED of the tokens stand in a collocation; else the largest."""
    lookups = {n: Lookup(frequent.hashes) for n, frequent in found.items()}
    enters = [frequent.enters[frequent.enters < NEVER] for frequent in found.values()]
    largest = int(max(e.max(initial=0) for e in enters))
    tokens = np.zeros(largest + 1, np.int64)  # that a list of exactly this size covers newly
    for stretch in stretches(store, table, chunk=chunk):
        soonest = np.full(len(stretch.room), NEVER)  # for each word, over the n-grams it is in
        for n, lookup in lookups.items():
            first, place = _occurrences(stretch, n, lookup)
            for k in range(n):
                soonest[first + k] = np.minimum(soonest[first + k], found[n].enters[place])
        covered = soonest < NEVER
        lengths = np.diff(stretch.bounds)[covered]
        tokens += np.bincount(soonest[covered], lengths, largest + 1).astype(np.int64)
    size = int(np.searchsorted(np.cumsum(tokens), COVERED * store.token_count))
    return min(size, largest)


def _listed(found: dict[int, _Frequent], size: int) -> Collocations:
    columns, enters = [], []
    for n, frequent in found.items():
        chosen = np.flatnonzero(frequent.enters <= size)
        words = np.full(len(chosen), n, np.int8)
        begins, ends = frequent.bounds[chosen].T
        listed = [frequent.hashes[chosen], frequent.counts[chosen], frequent.scores[chosen]]
        columns.append(Collocations(words, *listed, begins, ends))
        enters.append(frequent.enters[chosen])
    order = np.argsort(np.concatenate(enters), kind="stable")
    return Collocations(*(np.concatenate(c)[order] for c in zip(*columns, strict=True)))


def collocation_starts(
    store: TokenStore, table: WordTable, collocations: Collocations, *, chunk: int = CHUNK
) -> Iterator[np.ndarray]:
    """bool arrays that make up bool[T]: where units begin when collocations are units.

    The longest that fits wins, of equal ones the leftmost; all other words are units by themselves.
    The store may be another than the one that the collocations are from, of the same tokenizer.
    """
    lookups = {
        n: Lookup(np.sort(collocations.hashes[collocations.words == n])) for n in reversed(LENGTHS)
    }
    for stretch in stretches(store, table, chunk=chunk):
        inside = np.zeros(len(stretch.room), bool)  # behind the first word of a collocation
        taken = np.zeros(len(stretch.room), bool)
        for n, lookup in lookups.items():
            first = _occurrences(stretch, n, lookup)[0]
            # What is taken is no shorter, so it reaches into a window at one of its ends.
            first = _apart(first[~taken[first] & ~taken[first + n - 1]], n)
            for k in range(n):
                taken[first + k] = True
                inside[first + k] = k > 0
        starts = np.zeros(stretch.bounds[-1] - stretch.bounds[0], bool)
        starts[stretch.bounds[:-1][~inside] - stretch.bounds[0]] = True
        yield starts


def _apart(first: np.ndarray, n: int) -> np.ndarray:
    """The leftmost windows of n words that do not overlap; what one of them covers falls away."""
    chosen, free = [], -1
    for place in first.tolist():
        if place >= free:
            chosen.append(place)
            free = place + n
    return np.array(chosen, np.int64)
