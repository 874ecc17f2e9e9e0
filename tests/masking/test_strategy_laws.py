"""How much each kind of unit hides, in which runs, and behind what: against the definitions."""

import jax.numpy as jnp
import numpy as np
import pytest
from mask_kinds import (
    IDS,
    KINDS,
    MASK,
    ROOT,
    ROWS,
    TABLE,
    L,
    V,
    assert_fits,
    make_spec,
    mask,
    selectable,
    units_of,
    where,
)

from mlm.masking import MaskingSpec, mask_tokens, required_slots, row_keys
from mlm.masking.transform import selectable_positions

TOTAL = selectable(IDS).sum()
UNITS = [kind for kind in KINDS if kind != "token"]


def realised(kind, rate, **changes):
    return where(mask(kind, IDS, rate, spec=make_spec(kind, **changes))).sum() / TOTAL


@pytest.mark.parametrize("kind", UNITS)
@pytest.mark.parametrize("rate", [0.15, 0.4])
def test_truncated_units_realise_the_rate_and_skipped_ones_hardly_less(kind, rate):
    cut = realised(kind, rate, fit="truncate")
    # Half a token a row at most, as for tokens: the number does not depend on the units.
    assert abs(cut * TOTAL - rate * TOTAL) < 5 * np.sqrt(ROWS) / 2
    skipped = realised(kind, rate)
    # A row of 30 tokens wants 4.5 at 0.15; where its spans are longer than that, none fits.
    least = {"word": 0.99, "bitmap": 0.9, "ngram": 0.9, "span": 0.8}[kind] * rate
    assert least < skipped <= cut


@pytest.mark.parametrize("kind", ["word", "span"])
def test_exact_never_selects_more_than_the_ceiling(kind):
    n = selectable(IDS).sum(axis=1)
    ceiling = np.ceil(0.15 * n - 1e-6)
    cut = mask(kind, IDS, spec=make_spec(kind, fit="truncate", count="exact"))
    np.testing.assert_array_equal(where(cut).sum(axis=1), ceiling)
    skipped = where(mask(kind, IDS, spec=make_spec(kind, count="exact"))).sum(axis=1)
    assert (skipped <= ceiling).all() and (kind == "word" or (skipped < ceiling).any())


def test_what_is_left_by_skip_is_shorter_than_every_unit_that_is_left():
    masked, units = mask("span", IDS, spec=make_spec("span", count="exact")), units_of("span", IDS)
    hidden, n = where(masked), np.ceil(0.15 * selectable(IDS).sum(axis=1) - 1e-6)
    left = n - hidden.sum(axis=1)
    shortest = np.where(selectable(IDS) & ~hidden, units.lengths, L).min(axis=1)
    assert (left > 0).any() and (shortest > left).all()


@pytest.mark.parametrize("kind", ["word", "span"])
def test_bernoulli_is_a_coin_per_unit(kind):
    """The run-length law: of units of each length the same share is hidden."""
    hidden = where(mask(kind, IDS, 0.3, spec=make_spec(kind, count="bernoulli")))
    units = units_of(kind, IDS)
    first = (units.leaders == np.arange(L)) & selectable(IDS)
    assert (hidden == np.take_along_axis(hidden, units.leaders, axis=1)).all()
    lengths = np.minimum(units.lengths, 12)
    for length in np.unique(lengths[first]):
        taken = hidden[first & (lengths == length)]
        assert abs(taken.mean() - 0.3) < 5 * np.sqrt(0.21 / taken.size)
    assert abs(hidden.sum() / TOTAL - 0.3) < 0.015
    slots = required_slots(0.3, L, "bernoulli", units=True)
    assert hidden.sum(axis=1).max() <= slots


def run_lengths(hidden, inside):
    """Lengths of hidden runs that nothing unselectable touches."""
    runs = []
    for row, open_row in zip(hidden, inside, strict=True):
        edges = np.flatnonzero(np.diff(np.r_[False, row, False].astype(int))).reshape(-1, 2)
        runs += [b - a for a, b in edges if a and b < L and open_row[a - 1] and open_row[b]]
    return np.array(runs)


def test_runs_of_tokens_are_geometric():
    ids = np.full((ROWS, L), 9, np.int32)
    hidden = where(mask("token", ids, 0.3, spec=make_spec(count="bernoulli")))
    # A run that begins 12 tokens before the end is counted whatever its length, up to 8 and more.
    begins = hidden & ~np.pad(hidden, ((0, 0), (1, 0)))[:, :-1]
    begins[:, 0] = False
    counts = np.zeros(5)
    for row, at in zip(*np.nonzero(begins[:, : L - 12]), strict=True):
        run = np.argmin(hidden[row, at : at + 12])
        counts[min(run, 5) - 1] += 1
    law = 0.7 * 0.3 ** np.arange(4)
    assert_fits(counts, np.r_[law, 0.3**4])


def test_mean_runs_rise_from_tokens_to_words_to_spans():
    means = {kind: run_lengths(where(mask(kind, IDS)), selectable(IDS)).mean() for kind in KINDS}
    assert 1.05 < means["token"] < 1.2 < 1.3 < means["word"] < means["ngram"] < means["span"]


def pick_span_lengths(longest):
    """Selected spans by their number of words, where each token is a word: rows of one text."""
    ids = np.full((ROWS, L), 9, np.int32)
    spec = make_spec("span", count="bernoulli")
    units = units_of("span", ids, spec=spec)
    hidden = where(mask("span", ids, 0.3, spec=spec))
    early = (units.leaders == np.arange(L)) & (np.arange(L) < L - longest)
    return np.bincount(units.lengths[hidden & early], minlength=longest + 1)[1:]


def test_hidden_spans_have_spanberts_lengths():
    law = 0.2 * 0.8 ** np.arange(10)
    assert_fits(pick_span_lengths(10), law)


@pytest.mark.parametrize("kind", ["word", "span"])
def test_the_split_is_drawn_per_token_or_per_unit(kind):
    ids, units = IDS, units_of(kind, IDS)
    shown = {}
    for fate in ("token", "unit"):
        masked = mask(kind, ids, 0.4, spec=make_spec(kind, fate=fate))
        hidden = where(masked)
        fates = np.where(masked.token_ids == MASK, 0, np.where(masked.token_ids == ids, 2, 1))
        counts = np.bincount(fates[hidden], minlength=3)
        spread = 5 * np.sqrt(units.lengths.max() if fate == "unit" else 1)
        expected = np.array([0.8, 0.1, 0.1]) * hidden.sum()
        assert (np.abs(counts - expected) < spread * np.sqrt(expected)).all()
        mixed = fates != np.take_along_axis(fates, units.leaders, axis=1)
        shown[fate] = (hidden & mixed).sum() / hidden.sum()
    # A random id is the original now and then, and looks as if it were kept.
    assert shown["unit"] < 0.01 < 0.05 < shown["token"]


def test_random_tokens_of_a_unit_are_drawn_apart():
    masked = mask("span", IDS, 0.4, mask_token_rate=0.0, random_token_rate=1.0)
    units, hidden = units_of("span", IDS), where(masked)
    long = hidden & (units.lengths > 1)
    first = np.take_along_axis(masked.token_ids, units.leaders, axis=1)
    assert (masked.token_ids == first)[long & (units.leaders != np.arange(L))].mean() < 0.02


def test_weights_shift_the_selection_and_not_the_rate():
    masked = mask("token", IDS, 0.15, weights=np.where(np.arange(V) < 100, 1, 5).astype(np.float32))
    hidden = where(masked)
    assert abs(hidden.sum() - 0.15 * TOTAL) < 5 * np.sqrt(ROWS) / 2
    light, heavy = (hidden[selectable(IDS) & side].mean() for side in (IDS < 100, IDS >= 100))
    assert 3.5 < heavy / light < 5  # without replacement the heavy ones run out


def test_weighted_words_are_drawn_by_the_geometric_mean_of_their_pieces():
    # Two words of two pieces; the product of one's weights is 16 times the other's.
    row = np.array([[10, 150, 11, 151]], np.int32)
    table = np.ones(V, np.float32)
    table[[10, 150]] = 8, 2
    masked = mask("word", np.tile(row, (4000, 1)), 0.5, weights=table)
    hidden = where(masked, 4)
    assert (hidden.sum(axis=1) == 2).all()
    assert abs(hidden[:, 0].mean() - 0.8) < 5 * np.sqrt(0.16 / 4000)


def test_replacements_follow_a_cumulative_law():
    spec = make_spec(mask_token_rate=0.0, random_token_rate=1.0)
    law = np.zeros(len(spec.replacement_ids))
    law[[0, 3, 60, -1]] = 0.5, 0.3, 0.15, 0.05
    cdf = np.round((np.cumsum(law) - law) * 2**32).astype(np.uint32)  # where each share begins
    shown = mask("token", IDS, 1.0, spec=spec, random_cdf=cdf).token_ids[selectable(IDS)]
    ids, counts = np.unique(shown, return_counts=True)
    assert ids.tolist() == spec.replacement_ids[[0, 3, 60, -1]].tolist()
    assert_fits(counts, [0.5, 0.3, 0.15, 0.05])
    even = np.arange(len(law)) / len(law)
    cdf = np.round(even * 2**32).astype(np.uint32)
    shown = mask("token", IDS, 1.0, spec=spec, random_cdf=cdf).token_ids[selectable(IDS)]
    assert_fits(np.bincount(shown, minlength=V)[spec.replacement_ids], even * 0 + 1)


def test_one_replacement_id_needs_no_law():
    spec = MaskingSpec(6, MASK, 4, (0, 1, 2, 3), 0.0, 1.0)
    keys = row_keys(ROOT, 0, jnp.arange(2))
    cdf = np.zeros(1, np.uint32)
    masked = mask_tokens(keys, np.full((2, 4), 5, np.int32), spec, rate=1.0, random_cdf=cdf)
    assert (np.asarray(masked.token_ids) == 5).all()


@pytest.mark.parametrize("kind", ["token", "word", "span"])
def test_overflow_is_counted_and_units_stay_whole(kind):
    spec = make_spec(kind, mask_selection_length=4)
    masked, units = mask(kind, IDS, 0.4, spec=spec), units_of(kind, IDS)
    hidden, wide = where(masked), mask(kind, IDS, 0.4, spec=make_spec(kind, fit="truncate"))
    assert masked.mask_positions.shape == (ROWS, 4) and (masked.overflow > 0).mean() > 0.9
    np.testing.assert_array_equal(masked.overflow + 4, np.maximum(wide.corrupted, 4))
    assert (hidden == np.take_along_axis(hidden, units.leaders, axis=1)).all()
    assert not (hidden & ~selectable(IDS)).any()
    if kind == "token":
        np.testing.assert_array_equal(hidden.sum(axis=1), np.minimum(wide.corrupted, 4))


def test_selectable_positions_are_those_of_the_spec():
    spec = make_spec()
    np.testing.assert_array_equal(selectable_positions(jnp.asarray(IDS), spec), selectable(IDS))


def test_weighted_units_keep_to_the_rate_too():
    for kind in ("word", "span"):
        cut = mask(kind, IDS, spec=make_spec(kind, fit="truncate"), weights=TABLE)
        assert abs(where(cut).sum() - 0.15 * TOTAL) < 5 * np.sqrt(ROWS) / 2
