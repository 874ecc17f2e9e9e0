"""In which order the rows are visited: a permutation for every (seed, visit), never stored whole
for large corpora.

Up to `SORTED_ROWS` rows the order is a sort of random words, even over all orders. Above, a keyed
permutation computes the rows of a batch alone: 100 million rows take no memory. A curriculum sorts
the first visits once more, from easy rows to hard ones.
"""

from collections.abc import Callable
from functools import lru_cache

import numpy as np

Order = Callable[[int, np.ndarray], np.ndarray]

SORTED_ROWS = 1 << 22  # 16 MiB and half a second a visit
# Four rounds make a Feistel network of random functions look random (Luby and Rackoff 1988);
# these are only well mixed, so there are twice as many.
ROUNDS = 8


def make_order(seed: int, size: int, *, keep: int = 2) -> Order:
    """`order(visit, places)`: int32, the rows at these places of a visit; each row at one place.

    Args:
      keep: visits that are remembered, as many as a batch may straddle.
    """
    if size > SORTED_ROWS:
        return lambda visit, places: keyed_permutation(seed, visit, size, places)
    whole = lru_cache(maxsize=keep)(lambda visit: permutation(seed, visit, size))
    return lambda visit, places: whole(visit)[places]


def easy_first(order: Order, stages: np.ndarray, visits: int, *, keep: int = 2) -> Order:
    """`order` with its first `visits` visits sorted by stage; within a stage it stays as it is.

    Such a visit is held whole: 4 bytes per row, and some 30 while it is sorted.

    Args:
      stages: uint8[R], 0 for the easiest rows, see `difficulty_stages`.
      keep: see `make_order`.
    """
    places = np.arange(len(stages))

    @lru_cache(maxsize=keep)
    def whole(visit: int) -> np.ndarray:
        rows = order(visit, places)
        return rows[np.argsort(stages[rows], kind="stable")]

    return lambda visit, at: whole(visit)[at] if visit < visits else order(visit, at)


def permutation(seed: int, visit: int, size: int) -> np.ndarray:
    """The order of `size` rows on a visit: int32[size], a pure function of the arguments.

    It is the stable argsort of the first `size` 64-bit words of Philox 4x64-10 (Salmon et al. 2011)
    with key (seed, visit) and counters 1, 2, .... numpy promises the words of a bit generator but
    not the draws of `Generator.permutation`, so only words are used.
    """
    return np.argsort(_words(seed, visit, size), kind="stable").astype(np.int32)


def keyed_permutation(seed: int, visit: int, size: int, places: np.ndarray) -> np.ndarray:
    """int32, the rows at `places` (int64, below `size`) of a bijection of 0 ... size - 1.

    A balanced Feistel network over the next even power of two, keyed by Philox words of
    (seed, visit); what falls outside is encrypted again until it falls inside (cycle walking:
    Black and Rogaway 2002), which takes under four turns on average.
    """
    half = max(1, (int(size - 1).bit_length() + 1) // 2)
    keys = _words(seed, visit, ROUNDS)
    rows = _feistel(np.asarray(places, np.uint64), keys, half)
    while (outside := rows >= size).any():
        rows[outside] = _feistel(rows[outside], keys, half)
    return rows.astype(np.int32)


def _feistel(numbers: np.ndarray, keys: np.ndarray, half: int) -> np.ndarray:
    """uint64: a bijection of the numbers of 2 `half` bits."""
    half, mask = np.uint64(half), np.uint64((1 << half) - 1)
    left, right = numbers >> half, numbers & mask
    for key in keys:
        left, right = right, left ^ (_mix(right ^ key) & mask)
    return left << half | right


def _mix(words: np.ndarray) -> np.ndarray:
    """uint64: the finalizer of SplitMix64 (Steele, Lea and Flood 2014)."""
    words = (words ^ words >> np.uint64(30)) * np.uint64(0xBF58476D1CE4E5B9)
    words = (words ^ words >> np.uint64(27)) * np.uint64(0x94D049BB133111EB)
    return words ^ words >> np.uint64(31)


def _words(seed: int, visit: int, count: int) -> np.ndarray:
    return np.random.Philox(key=np.array([seed, visit], np.uint64)).random_raw(count)
