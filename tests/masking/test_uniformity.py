"""Evenness of masks, by chi-square: subsets, pairs and fates. Fixed keys, bounds at five sigma."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mlm.masking import MaskingSpec, mask_tokens, row_keys

PAD, MASK, V, ROWS = 0, 4, 50, 30_000
KEYS = row_keys(jax.random.key(11), 0, jnp.arange(ROWS))
EVERY = list(range(5, V))


def chi_square(counts, shares):
    expected = np.asarray(shares) * np.sum(counts)
    return np.sum((counts - expected) ** 2 / expected)


def assert_fits(counts, shares):
    # Wilson and Hilferty (1931): the cube root of chi-square is nearly normal, also for few cells.
    spread = 2 / (9 * (np.size(counts) - 1))
    bound = (np.size(counts) - 1) * (1 - spread + 5 * np.sqrt(spread)) ** 3
    assert chi_square(counts, shares) < bound


def test_the_chi_square_would_notice_a_small_lean():
    leaning = np.full(56, ROWS / 56) * np.linspace(0.85, 1.15, 56)
    with pytest.raises(AssertionError):
        assert_fits(leaning, np.full(56, 1 / 56))


@pytest.mark.parametrize(
    ("rate", "slots", "size"),
    [(0.375, 3, 3), (0.375, 8, 3), (0.25, 2, 2), (0.75, 2, 2), (1.0, 2, 2), (1.0, 3, 3)],
)
def test_every_subset_is_equally_likely_also_where_slots_cap(rate, slots, size):
    # Eight selectable tokens with padding between and behind them.
    row = np.array([PAD, 7, 7, 7, PAD, 7, 7, 7, 7, 7, PAD, PAD], np.int32)
    at = np.flatnonzero(row)
    spec = MaskingSpec(V, MASK, slots, overflow="drop")
    masked = mask_tokens(KEYS, np.tile(row, (ROWS, 1)), spec, rate=rate)
    positions = np.asarray(masked.mask_positions)[:, :size]
    assert (np.asarray(masked.mask_weights).sum(axis=1) == size).all()
    subsets, counts = np.unique(positions, axis=0, return_counts=True)
    assert subsets.tolist() == [list(s) for s in itertools.combinations(at, size)]
    assert_fits(counts, np.full(len(counts), 1 / len(counts)))


@pytest.mark.parametrize("slots", [154, 20])
def test_pairs_of_positions_in_a_long_row_are_equally_likely(slots):
    # 20 slots of 154: a cap that kept the head of the row would fill the first bins only.
    rows, length = 4_000, 512
    spec = MaskingSpec(V, MASK, slots, overflow="drop")
    ids = np.full((rows, length), 7, np.int32)
    masked = mask_tokens(KEYS[:rows], ids, spec, rate=0.3)
    positions = np.asarray(masked.mask_positions)
    assert positions.shape == (rows, slots)
    draw = np.random.default_rng(0)
    pair = np.sort([draw.choice(slots, 2, replace=False) for _ in range(rows)], axis=1)
    bins = np.take_along_axis(positions, pair, axis=1) // (length // 8)
    counts = np.zeros((8, 8))
    np.add.at(counts, (bins[:, 0], bins[:, 1]), 1)
    width = length // 8
    pairs = np.triu(np.full((8, 8), width * width), 1) + np.eye(8) * width * (width - 1) / 2
    upper = np.triu_indices(8)
    assert_fits(counts[upper], pairs[upper] / pairs.sum())


@pytest.fixture(scope="module")
def fates():
    """How often each id at each position became [MASK], another id, or stayed; all are selected."""
    ids = np.random.default_rng(2).choice(EVERY, (ROWS, 16)).astype(np.int32)
    spec = MaskingSpec(V, MASK, 16, (0, 1, 2, 3))
    shown = np.asarray(mask_tokens(KEYS, ids, spec, rate=1.0).token_ids)
    counts = np.zeros((16, V, 3), int)
    fate = np.where(shown == MASK, 0, np.where(shown != ids, 1, 2))
    np.add.at(counts, (np.arange(16)[None], ids, fate), 1)
    return counts


# A random id is the original in one of 45 draws, and then counts as kept.
SHARES = np.array([0.8, 0.1 * 44 / 45, 0.1 + 0.1 / 45])


def test_the_split_is_80_10_10_at_every_position(fates):
    for counts in fates.sum(axis=1):
        assert_fits(counts, SHARES)


def test_the_split_is_80_10_10_for_every_id(fates):
    for counts in fates.sum(axis=0)[EVERY]:
        assert_fits(counts, SHARES)


def test_the_split_may_differ_between_rows():
    share = jnp.where(jnp.arange(ROWS) < ROWS // 2, 1.0, 0.0)
    spec = MaskingSpec(V, MASK, 4, (0, 1, 2, 3))
    ids = np.full((ROWS, 4), 9, np.int32)
    masked = mask_tokens(KEYS, ids, spec, rate=1.0, mask_token_rate=share, random_token_rate=0.0)
    assert (np.asarray(masked.token_ids)[: ROWS // 2] == MASK).all()
    assert (np.asarray(masked.token_ids)[ROWS // 2 :] == 9).all()
