"""Sort and threshold search against each other and against NumPy, on scores of every kind."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlm.masking import smallest
from mlm.masking.smallest import NEVER, positions_of, smallest_scores

ROWS = 8
SHAPES = [(1, 3), (64, 64), (100, 20), (33, 0)]  # L and P: words cut, slots to spare, none at all


def find(scores, k, slots, *, by_sort):
    """Positions and filled slots; by the way that the CPU takes, or by the others'."""
    ways = {"threshold_by_search": "threshold_by_sort", "positions_by_bits": "positions_by_sort"}
    with pytest.MonkeyPatch.context() as patch:
        for ours, theirs in ways.items() if by_sort else ():
            patch.setattr(smallest, ours, getattr(smallest, theirs))
        return compiled(slots, by_sort)(scores, k)


@functools.cache
def compiled(slots, by_sort):
    def positions(scores, k):
        return positions_of(smallest_scores(scores, k), slots=slots)

    return jax.jit(positions)


def expected(scores, k, slots):
    """Positions of the k smallest (score, position) of each row, ascending; then 0."""
    positions = np.zeros((len(scores), slots), np.int32)
    for row, scores_of_row, n in zip(positions, scores, k, strict=True):
        row[:n] = np.sort(np.argsort(scores_of_row, kind="stable")[:n])
    return positions


def check(scores, wanted, slots):
    k = np.minimum(np.minimum(wanted, (scores < NEVER).sum(axis=1)), slots).astype(np.int32)
    for by_sort in (False, True):
        positions, filled = find(scores, k, slots, by_sort=by_sort)
        np.testing.assert_array_equal(positions, expected(scores, k, slots))
        np.testing.assert_array_equal(filled, np.arange(slots) < k[:, None])


# One strategy per trouble: even scores, many ties, a few huge gaps, all but none selectable.
KINDS = {
    "even": lambda r, shape: r.integers(0, NEVER, shape),
    "tied": lambda r, shape: r.integers(0, 4, shape) * (NEVER // 4),
    "steep": lambda r, shape: r.integers(0, NEVER, shape) >> r.integers(0, 32, shape),
    "at the top": lambda r, shape: NEVER - 1 - r.integers(0, 3, shape),
    "neighbours": lambda r, shape: (
        r.integers(0, 2**31) + r.permutation(shape[0] * shape[1]).reshape(shape)
    ),
}


@settings(max_examples=150, deadline=None, derandomize=True)
@given(
    shape=st.sampled_from(SHAPES),
    kind=st.sampled_from(sorted(KINDS)),
    seed=st.integers(0, 2**32 - 1),
    selectable=st.sampled_from([0.0, 0.1, 0.7, 1.0]),
)
def test_both_implementations_find_the_smallest(shape, kind, seed, selectable):
    length, slots = shape
    draw = np.random.default_rng(seed)
    scores = KINDS[kind](draw, (ROWS, length)).astype(np.uint32)
    scores[draw.random(scores.shape) >= selectable] = NEVER
    check(scores, draw.integers(0, length + 1, ROWS), slots)


@pytest.mark.parametrize("value", [0, 7, NEVER - 1])
def test_equal_scores_go_to_the_first_positions(value):
    scores = np.full((ROWS, 100), value, np.uint32)
    scores[:, 50] = NEVER
    check(scores, np.arange(ROWS) * 3, 20)


def test_scores_that_interpolation_alone_would_creep_through():
    scores = np.tile(2 ** np.arange(32, dtype=np.uint32), (ROWS, 2))
    check(scores, np.arange(ROWS) * 8, 64)


@pytest.mark.parametrize("shape", [(0, 5), (2, 0), (0, 0)])
def test_nothing_to_choose_from(shape):
    scores, k = jnp.zeros(shape, jnp.uint32), jnp.zeros(shape[0], jnp.int32)
    positions, filled = positions_of(smallest_scores(scores, k), slots=2)
    assert positions.shape == filled.shape == (shape[0], 2)
    assert not filled.any()


@pytest.mark.parametrize(("platform", "sorts"), [("cpu", False), ("cuda", True), ("tpu", True)])
def test_cpu_searches_and_the_others_sort(platform, sorts):
    choose = jax.jit(lambda scores, k: positions_of(smallest_scores(scores, k), slots=20))
    shapes = jax.ShapeDtypeStruct((8, 128), jnp.uint32), jax.ShapeDtypeStruct((8,), jnp.int32)
    program = choose.trace(*shapes).lower(lowering_platforms=(platform,)).as_text()
    assert ("stablehlo.sort" in program) == sorts
    assert ("stablehlo.while" in program) != sorts


def test_64_bit_mode_changes_nothing():
    scores = np.random.default_rng(0).integers(0, NEVER, (ROWS, 64)).astype(np.uint32)
    k = np.full(ROWS, 9, np.int32)
    arrays = jnp.asarray(scores), jnp.asarray(k)
    narrow = positions_of(smallest_scores(*arrays), slots=12)
    with jax.enable_x64(True):
        wide = positions_of(smallest_scores(*arrays), slots=12)
    assert wide[0].dtype == jnp.int32
    np.testing.assert_array_equal(narrow[0], wide[0])
