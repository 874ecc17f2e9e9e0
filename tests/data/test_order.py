"""Every row once a visit, in an order that follows from (seed, visit) alone."""

import numpy as np
import pytest

from mlm.data import keyed_permutation, make_order, permutation
from mlm.data import order as module


def philox(key, counter):
    """One block of Philox 4x64-10, written from Salmon et al. 2011, section 3.3."""
    word, (a, b) = 2**64, key
    c0, c1, c2, c3 = counter, 0, 0, 0
    for _ in range(10):
        left, right = 0xD2E7470EE14C6C93 * c0, 0xCA5A826395121157 * c2
        c0, c1, c2, c3 = right // word ^ c1 ^ a, right % word, left // word ^ c3 ^ b, left % word
        a, b = (a + 0x9E3779B97F4A7C15) % word, (b + 0xBB67AE8584CAA73B) % word
    return [c0, c1, c2, c3]


@pytest.mark.parametrize("seed, visit", [(0, 0), (7, 3), (2**64 - 1, 1)])
def test_permutations_follow_their_definition(seed, visit):
    words = sum((philox((seed, visit), counter) for counter in (1, 2, 3)), [])
    assert permutation(seed, visit, 12).tolist() == sorted(range(12), key=words.__getitem__)


def test_golden_permutations():
    """A change here changes the data order of every run: raise ORDER_VERSION."""
    assert permutation(0, 0, 8).tolist() == [0, 2, 1, 5, 4, 3, 6, 7]
    assert permutation(0, 1, 8).tolist() == [5, 3, 7, 2, 4, 1, 0, 6]
    assert permutation(1, 0, 8).tolist() == [3, 5, 2, 7, 0, 6, 1, 4]
    assert permutation(2**64 - 1, 3, 1000)[:6].tolist() == [628, 218, 661, 887, 829, 660]


def test_permutations_are_uniform():
    """Each of the 6 orders of 3 rows over 6000 visits: 1000 times, standard deviation 29."""
    orders = [tuple(permutation(5, visit, 3).tolist()) for visit in range(6000)]
    _, counts = np.unique(orders, axis=0, return_counts=True)
    assert len(counts) == 6 and np.abs(counts - 1000).max() < 5 * 29


# Above SORTED_ROWS.


@pytest.mark.parametrize("size", [1, 2, 3, 4, 5, 63, 64, 65, 1000, 4097, 300_000])
@pytest.mark.parametrize(("seed", "visit"), [(0, 0), (2**64 - 1, 7)])
def test_a_keyed_permutation_has_every_row_once(size, seed, visit):
    rows = keyed_permutation(seed, visit, size, np.arange(size))
    assert rows.dtype == np.int32
    np.testing.assert_array_equal(np.sort(rows), np.arange(size))


def test_places_can_be_asked_for_one_by_one():
    whole = keyed_permutation(3, 1, 5000, np.arange(5000))
    places = np.random.default_rng(0).integers(0, 5000, 64)
    np.testing.assert_array_equal(keyed_permutation(3, 1, 5000, places), whole[places])
    assert keyed_permutation(3, 1, 5000, np.array([17]))[0] == whole[17]


def fits(counts):
    """Chi-square of even counts, within five sigma (Wilson and Hilferty 1931)."""
    freedom, expected = counts.size - 1, counts.sum() / counts.size
    spread = 2 / (9 * freedom)
    bound = freedom * (1 - spread + 5 * np.sqrt(spread)) ** 3
    return ((counts - expected) ** 2 / expected).sum() < bound


@pytest.mark.parametrize("size", [100_003, 2**18])
def test_a_keyed_order_looks_random(size):
    place = np.arange(size)
    rows, next_visit, next_seed = (
        keyed_permutation(seed, visit, size, place) for seed, visit in ((5, 0), (5, 1), (6, 0))
    )
    bins = 16 * place // size

    def table(a, b):
        return np.histogram2d(a, b, bins=16)[0]

    assert fits(table(bins, 16 * rows.astype(int) // size))  # where a place comes from
    assert fits(table(rows[:-1], rows[1:]))  # what comes next
    assert fits(table(rows, next_visit)) and fits(table(rows, next_seed))
    assert fits(table(place % 16, rows % 16))  # and the lowest bits
    # A random permutation keeps one row in its place, on average.
    assert (rows == place).sum() < 8


def test_a_lean_would_be_noticed():
    leaning = np.arange(100_003)
    assert not fits(np.histogram2d(16 * leaning // leaning.size, leaning, bins=16)[0])


def test_a_hundred_million_rows_take_no_memory(monkeypatch):
    monkeypatch.setattr(module, "permutation", None)  # not to be called
    order = make_order(seed=0, size=100_000_000)
    rows = order(3, np.arange(10**8 - 512, 10**8))
    assert len(np.unique(rows)) == 512 and rows.min() >= 0 and rows.max() < 10**8
    assert rows.std() > 2e7


def test_golden_keyed_permutations():
    """A change here changes the data order of every large run: raise ORDER_VERSION."""
    assert keyed_permutation(0, 0, 8, np.arange(8)).tolist() == [1, 4, 7, 5, 3, 0, 2, 6]
    assert keyed_permutation(7, 2, 10**8, np.arange(4)).tolist() == [
        14214069,
        90320578,
        70814449,
        4487134,
    ]
