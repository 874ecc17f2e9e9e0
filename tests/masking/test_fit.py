"""Units that fit and units that do not: skip and truncate against plain loops, both ways."""

import functools

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlm.masking import smallest
from mlm.masking.selection import select
from mlm.masking.smallest import NEVER
from mlm.masking.units import make_units

ROWS, LENGTH = 8, 45


@functools.cache
def compiled(fit, by_sort):
    return jax.jit(lambda scores, n, units: select(scores, n, units, fit=fit))


def selected(scores, n, units, fit, *, by_sort):
    with pytest.MonkeyPatch.context() as patch:
        if by_sort:
            patch.setattr(smallest, "threshold_by_search", smallest.threshold_by_sort)
        return np.asarray(compiled(fit, by_sort)(scores, n, units))


def by_loops(scores, n, units, fit):
    """Greedily, in the order of (score, position): a unit, a part of it, or none of it."""
    chosen = np.zeros(scores.shape, bool)
    for row in range(len(scores)):
        leaders = sorted({int(i) for i in units.leaders[row]}, key=lambda i: (scores[row, i], i))
        left = n[row]
        for first in leaders:
            length = int(units.lengths[row, first])
            if scores[row, first] == NEVER or (length > left and fit == "skip"):
                continue
            length = min(length, left)
            chosen[row, first : first + length] = True
            left -= length
    return chosen


def draw_case(seed, longest, ties, selectable):
    """Scores alike over each unit, many of them tied, and units of 1 to `longest` tokens."""
    draw = np.random.default_rng(seed)
    allowed = draw.random((ROWS, LENGTH)) < selectable
    units = jax.device_get(make_units(allowed, draw.random((ROWS, LENGTH)) < 1 / longest))
    scores = draw.integers(0, ties, (ROWS, LENGTH)).astype(np.uint32) * np.uint32(NEVER // ties)
    scores = np.take_along_axis(scores, units.leaders, axis=1)
    scores[~allowed] = NEVER
    return scores, units


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    seed=st.integers(0, 2**32 - 1),
    longest=st.sampled_from([1, 3, 10, 1000]),
    ties=st.sampled_from([1, 3, 40, 2**30]),
    selectable=st.sampled_from([0.0, 0.3, 0.9, 1.0]),
)
def test_both_ways_select_what_plain_loops_do(seed, longest, ties, selectable):
    scores, units = draw_case(seed, longest, ties, selectable)
    n = np.random.default_rng(seed).integers(0, LENGTH + 1, ROWS)
    n = np.minimum(n, (scores < NEVER).sum(axis=1)).astype(np.int32)
    for fit in ("skip", "truncate"):
        chosen = by_loops(scores, n, units, fit)
        for by_sort in (False, True):
            np.testing.assert_array_equal(selected(scores, n, units, fit, by_sort=by_sort), chosen)


@pytest.mark.parametrize("n", [0, 1, 44, 45])
def test_from_none_to_all(n):
    scores, units = draw_case(0, 4, 2**30, 1.0)
    n = np.full(ROWS, n, np.int32)
    for fit in ("skip", "truncate"):
        for by_sort in (False, True):
            np.testing.assert_array_equal(
                selected(scores, n, units, fit, by_sort=by_sort), by_loops(scores, n, units, fit)
            )


def test_a_unit_as_long_as_the_row_is_all_or_nothing():
    units = jax.device_get(
        make_units(np.ones((ROWS, LENGTH), bool), np.zeros((ROWS, LENGTH), bool))
    )
    scores = np.full((ROWS, LENGTH), 7, np.uint32)
    for n, taken in ((44, 0), (45, 45)):
        wanted = np.full(ROWS, n, np.int32)
        skipped = selected(scores, wanted, units, "skip", by_sort=False)
        assert (skipped.sum(axis=1) == taken).all()
        cut = selected(scores, wanted, units, "truncate", by_sort=False)
        assert cut[:, :n].all() and not cut[:, n:].any()
