"""Rates and histograms against loops over tokens."""

import numpy as np
import pytest

from mlm.config import load_config
from mlm.inspection.measure import GROUPS, LONGEST, PARTS, frequency_groups, measure, run_lengths
from mlm.inspection.sample import KEPT, MASK, NONE, RANDOM, Masked

R, L, V, SPECIAL = 9, 33, 40, 3  # ids below SPECIAL are special


@pytest.fixture
def made():
    """Random units and fates, and tables of a made-up vocabulary."""
    rng = np.random.default_rng(0)
    ids = rng.integers(0, V, (R, L)).astype(np.int32)
    selectable = ids >= SPECIAL
    begins = (rng.random((R, L)) < 0.4) | ~selectable
    begins |= np.pad(~selectable, ((0, 0), (1, 0)), constant_values=True)[:, :-1]
    leaders = np.maximum.accumulate(np.where(begins, np.arange(L), 0), axis=1).astype(np.int32)
    fates = rng.choice([NONE, NONE, MASK, RANDOM, KEPT], (R, L)) * selectable
    shown = np.where(fates == MASK, 2, np.where(fates == RANDOM, (ids + 1) % V, ids))
    predicted = (fates != NONE) & (rng.random((R, L)) < 0.5)
    masked = Masked(
        name="made",
        config=load_config("configs/default.py"),
        requested=0.6,
        copies=1,
        token_ids=ids,
        shown=shown,
        fates=fates.astype(np.int8),
        predicted=predicted,
        leaders=leaders,
        selectable=selectable,
        overflow=0,
        hash="",
    )
    return masked, rng.random(V) < 0.4, rng.integers(0, 50, V)


def counted(lengths) -> list[int]:
    lengths = list(lengths)
    return [sum(min(length, LONGEST) == k for length in lengths) for k in range(1, LONGEST + 1)]


def test_rates_and_shares(made):
    masked, continuations, counts = made
    found = measure(masked, continuations=continuations, counts=counts)
    fates = [int(f) for f, ok in zip(masked.fates.flat, masked.selectable.flat, strict=True) if ok]
    selected = [f for f in fates if f != NONE]
    assert (found.selectable, found.selected) == (len(fates), len(selected))
    assert found.realised == len(selected) / len(fates) and found.requested == 0.6
    assert found.split == tuple(selected.count(f) / len(selected) for f in (MASK, RANDOM, KEPT))
    assert found.predicted == int(masked.predicted.sum()) and found.touched == 0


def test_units_in_tokens_and_in_words(made):
    masked, continuations, counts = made
    units: dict[tuple[int, int], list[int]] = {}
    for row in range(R):
        for i in range(L):
            if masked.fates[row, i] != NONE:
                units.setdefault((row, int(masked.leaders[row, i])), []).append(i)
    words = [
        sum(i == leader or not continuations[masked.token_ids[row, i]] for i in places)
        for (row, leader), places in units.items()
    ]
    found = measure(masked, continuations=continuations, counts=counts)
    assert found.units == len(units)
    assert found.unit_tokens.tolist() == counted(map(len, units.values()))
    # A unit whose selected tokens all go on with a word that is not selected counts as one word.
    assert found.unit_words.tolist() == counted(max(n, 1) for n in words)
    assert measure(masked, continuations=None, counts=counts).unit_words is None


def test_runs(made):
    masked, continuations, counts = made
    text = ["".join("x" if f != NONE else " " for f in row) for row in masked.fates]
    lengths = [len(run) for row in text for run in row.split()]
    found = measure(masked, continuations=continuations, counts=counts)
    assert found.runs.tolist() == counted(lengths)
    assert found.mean_run == pytest.approx(sum(lengths) / len(lengths), abs=1e-12)
    assert sorted(run_lengths(masked.fates != NONE)) == sorted(lengths)
    assert run_lengths(np.ones((2, 20), bool)).tolist() == [20, 20]


def test_rates_by_position_and_by_frequency(made):
    masked, continuations, counts = made
    found = measure(masked, continuations=continuations, counts=counts)
    groups = frequency_groups(masked.token_ids, masked.selectable, counts)
    for shares, group, number in (
        (found.positions, lambda row, i: i * PARTS // L, PARTS),
        (found.frequency, lambda row, i: groups[row, i], GROUPS),
    ):
        hits = [[] for _ in range(number)]
        for row, i in zip(*np.nonzero(masked.selectable), strict=True):
            hits[group(row, i)].append(masked.fates[row, i] != NONE)
        want = [np.mean(h) if h else np.nan for h in hits]
        np.testing.assert_allclose(shares, want, rtol=0, atol=1e-12)


def test_frequency_groups_are_tenths_from_rare_to_frequent():
    ids = np.arange(100)[None]
    counts = np.arange(100)[::-1] ** 2  # id 0 is the most frequent
    groups = frequency_groups(ids, np.ones((1, 100), bool), counts)[0]
    assert np.bincount(groups, minlength=GROUPS).tolist() == [10] * GROUPS
    assert (np.diff(groups) <= 0).all()
    same = frequency_groups(ids, np.ones((1, 100), bool), np.full(100, 7))
    assert len(set(same.flat)) == 1


def test_a_changed_or_selected_special_token_is_noticed(made):
    masked, continuations, counts = made
    row, i = (int(a[0]) for a in np.nonzero(~masked.selectable))
    masked.shown[row, i] += 1
    assert measure(masked, continuations=continuations, counts=counts).touched == 1
    masked.fates[row, i] = KEPT
    assert measure(masked, continuations=continuations, counts=counts).touched == 1


def test_nothing_selected(made):
    masked, continuations, counts = made
    masked.fates[:] = NONE
    masked.shown[:] = masked.token_ids
    found = measure(masked, continuations=continuations, counts=counts)
    assert (found.realised, found.units, found.mean_run, found.split) == (0, 0, 0, (0, 0, 0))
    assert not found.runs.any() and set(found.positions) == {0.0}
