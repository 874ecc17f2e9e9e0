"""Best fit equals its definition, wastes less than first fit, and its work does not grow."""

import sys
import zlib

import numpy as np
import pytest

from mlm.data import best_fit


def best_fit_by_definition(lengths, capacity):
    """Free space of each row, pieces placed one by one."""
    spaces = []
    for length in sorted(lengths, reverse=True):
        fits = [space for space in spaces if space >= length]
        if fits:
            spaces.remove(min(fits))
        spaces.append((min(fits) if fits else capacity) - length)
    return sorted(spaces)


def first_fit_rows(lengths, capacity):
    spaces = []
    for length in lengths:
        row = next((r for r, space in enumerate(spaces) if space >= length), None)
        if row is None:
            spaces.append(capacity - length)
        else:
            spaces[row] -= length
    return len(spaces)


def mixed_lengths(n, capacity):
    """Short, middling and full pieces, as text cut at `capacity` has them."""
    rng = np.random.default_rng(n)
    return np.clip(rng.lognormal(3.5, 1.0, n).astype(int), 3, capacity)


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("capacity", [3, 10, 32])
def test_equals_the_definition(seed, capacity):
    rng = np.random.default_rng(seed)
    lengths = rng.integers(1, rng.integers(2, capacity + 2), 120)
    rows = best_fit(lengths, capacity)
    filled = np.bincount(rows, weights=lengths)
    assert sorted(capacity - filled) == best_fit_by_definition(lengths, capacity)
    assert filled.min() > 0  # row numbers have no gaps


def test_worked_example():
    # 7 opens row 0 (3 free), 5 row 1 (5 free), 4 goes into row 1 (1 free), the first 3 into
    # row 0 (0 free), the second opens row 2.
    assert best_fit(np.array([3, 4, 5, 7, 3]), 10).tolist() == [0, 1, 1, 0, 2]


def test_one_row_takes_many_equal_pieces():
    assert best_fit(np.full(7, 3), 10).tolist() == [0, 0, 0, 1, 1, 1, 2]


def test_full_pieces_stay_alone():
    assert best_fit(np.array([8, 8, 8]), 8).tolist() == [0, 1, 2]


def test_golden_plan():
    """A change here changes rows, and with them the masks of every run: raise ORDER_VERSION."""
    lengths = np.arange(500) ** 2 % 97 + 3
    assert zlib.crc32(best_fit(lengths, 128).astype("<i8")) == 1582289862


def test_wastes_no_more_than_first_fit():
    lengths = mixed_lengths(2000, 128)
    rows = best_fit(lengths, 128).max() + 1
    assert rows <= first_fit_rows(lengths, 128)
    assert lengths.sum() / (rows * 128) >= 0.95


def test_work_does_not_grow_with_the_corpus():
    lengths = mixed_lengths(2000, 128)
    lines = [lines_executed(np.tile(lengths, times)) for times in (1, 50)]
    assert lines[1] < 1.5 * lines[0]


def lines_executed(lengths):
    count = 0

    def trace(frame, event, argument):
        nonlocal count
        count += event == "line"
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        best_fit(lengths, 128)
    finally:
        sys.settrace(before)
    return count
