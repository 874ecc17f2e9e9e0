"""Fewer predictions than corruptions, and more by disjoint copies of a row."""

import numpy as np
import pytest
from mask_kinds import (
    IDS,
    MASK,
    ROWS,
    TABLE,
    L,
    make_spec,
    mask,
    selectable,
    units_of,
    where,
)

N = selectable(IDS).sum(axis=1)
every_kind = pytest.mark.parametrize("kind", ["token", "word", "span"])


@every_kind
def test_what_is_predicted_is_a_part_of_what_is_corrupted(kind):
    spec = make_spec(kind, mask_selection_length=20, corruption_length=L)
    whole = mask(kind, IDS, 0.4, spec=make_spec(kind))
    part = mask(kind, IDS, 0.4, spec=spec, prediction_rate=0.2)
    # The ids that the model sees are those of rate 0.4, whatever is predicted.
    np.testing.assert_array_equal(part.token_ids, whole.token_ids)
    np.testing.assert_array_equal(part.corrupted, whole.corrupted)
    assert part.mask_positions.shape == (ROWS, 20)
    predicted, corrupted = where(part), where(whole)
    assert not (predicted & ~corrupted).any() and not part.overflow.any()
    # Labels are the originals.
    filled = part.mask_weights > 0
    np.testing.assert_array_equal(part.mask_ids[filled], IDS[predicted])
    assert (part.mask_weights.sum(axis=1) <= np.ceil(0.2 * N + 1e-4)).all()
    leaders = units_of(kind, IDS).leaders
    assert (predicted == np.take_along_axis(predicted, leaders, axis=1)).all()


def test_both_rates_are_realised_and_equal_ones_are_the_usual_mask():
    for predicted in (0.05, 0.2, 0.4):
        masked = mask("token", IDS, 0.4, prediction_rate=predicted)
        for count, rate in ((masked.corrupted, 0.4), (masked.mask_weights, predicted)):
            assert abs(count.sum() - rate * N.sum()) < 5 * np.sqrt(ROWS) / 2
    for one, other in zip(masked, mask("token", IDS, 0.4), strict=True):
        np.testing.assert_array_equal(one, other)


def test_what_is_predicted_at_a_lower_rate_are_its_own_selections():
    # The first of the selected: those that the lower rate alone would have selected.
    part = mask("token", IDS, 0.4, prediction_rate=0.15)
    np.testing.assert_array_equal(where(part), where(mask("token", IDS, 0.15)))


def test_the_split_is_that_of_all_corrupted_tokens():
    masked = mask(
        "token", IDS, 0.4, prediction_rate=0.1, mask_token_rate=1.0, random_token_rate=0.0
    )
    assert ((masked.token_ids == MASK).sum(axis=1) == masked.corrupted).all()


@pytest.mark.parametrize("count", ["exact", "stochastic", "bernoulli"])
def test_predictions_follow_every_count(count):
    spec = make_spec("word", count=count)
    masked = mask("word", IDS, 0.4, spec=spec, prediction_rate=0.2)
    whole, alone = mask("word", IDS, 0.4, spec=spec), mask("word", IDS, 0.2, spec=spec)
    assert not (where(masked) & ~where(whole)).any()
    if count == "bernoulli":  # nested coins
        np.testing.assert_array_equal(where(masked), where(alone))
    n = masked.mask_weights.sum()
    assert abs(n / alone.mask_weights.sum() - 1) < 0.03


def test_predictions_without_a_slot_are_counted():
    spec = make_spec(mask_selection_length=2, corruption_length=5)
    masked = mask("token", IDS, 0.4, spec=spec, prediction_rate=0.2)
    selected = mask("token", IDS, 0.4).corrupted
    predicted = np.minimum(mask("token", IDS, 0.2).corrupted, 5)
    assert masked.mask_positions.shape == (ROWS, 2) and masked.corrupted.max() == 5
    lost = np.maximum(selected - 5, 0) + np.maximum(predicted - 2, 0)
    np.testing.assert_array_equal(masked.overflow, lost)


def test_slots_for_corruption_alone_change_nothing():
    # Without a prediction rate all that is selected is predicted, and P holds it.
    some = mask("token", IDS, 0.15, spec=make_spec(mask_selection_length=20, corruption_length=L))
    usual = mask("token", IDS, 0.15, spec=make_spec(mask_selection_length=20))
    for one, other in zip(some, usual, strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_rate_of_predictions_per_row():
    rates = np.where(np.arange(ROWS) % 2, 0.4, 0.0).astype(np.float32)
    masked = mask("word", IDS, 0.4, prediction_rate=rates)
    assert not masked.mask_weights[::2].any() and masked.corrupted[::2].any()
    np.testing.assert_array_equal(masked.mask_weights[1::2].sum(axis=1), masked.corrupted[1::2])


@every_kind
@pytest.mark.parametrize("fit", ["skip", "truncate"])
def test_copies_are_disjoint_and_each_has_the_rate(kind, fit):
    spec, copies = make_spec(kind, fit=fit), 3
    masked = mask(kind, IDS, 0.15, spec=spec, copies=copies)
    assert all(len(x) == copies * ROWS for x in masked)
    hidden = where(masked).reshape(ROWS, copies, L)
    assert hidden.sum(axis=1).max() == 1
    assert not (hidden.any(axis=1) & ~selectable(IDS)).any()
    # Rows side by side: each copy differs from its own row where it is corrupted, only there.
    shown = masked.token_ids.reshape(ROWS, copies, L)
    assert (shown == IDS[:, None])[~hidden].all()
    labels = masked.mask_ids[masked.mask_weights > 0]
    np.testing.assert_array_equal(labels, np.repeat(IDS, copies, axis=0)[hidden.reshape(-1, L)])
    share = hidden.sum(axis=(0, 2)) / N.sum()
    if fit == "truncate":
        assert (np.abs(share - 0.15) < 5 * np.sqrt(ROWS) / 2 / N.sum()).all()
    else:
        # The units that fit are the short ones, and later copies find fewer of them.
        least = {"token": 0.98, "word": 0.98, "span": 0.45}[kind]
        assert (share < 0.153).all() and (share > 0.15 * least).all()
        assert kind != "span" or (np.diff(share) < 0).all()
        leaders = units_of(kind, IDS).leaders[:, None]
        assert (hidden == np.take_along_axis(hidden, leaders, axis=2)).all()


def test_the_first_copy_is_the_mask_without_copies():
    kind = "word"
    several = mask(kind, IDS, 0.15, copies=3, spec=make_spec(kind), weights=TABLE)
    for one, copy in zip(mask(kind, IDS, 0.15, weights=TABLE), several, strict=True):
        np.testing.assert_array_equal(one, copy[::3])


def test_copies_of_half_hide_every_token_once():
    masked = mask("token", IDS, 0.5, spec=make_spec(count="exact"), copies=2)
    hidden = where(masked).reshape(ROWS, 2, L)
    np.testing.assert_array_equal(hidden.sum(axis=1), selectable(IDS))


def test_tokens_without_a_weight_are_in_no_copy():
    table = np.where(np.arange(len(TABLE)) % 3, TABLE, 0).astype(np.float32)
    masked = mask("token", IDS, 0.3, copies=3, weights=table)
    assert (masked.mask_ids[masked.mask_weights > 0] % 3 > 0).all()
    # What is left for the third copy is less than its rate.
    left = masked.corrupted.reshape(ROWS, 3).sum(axis=0)
    assert left[2] < left[1] and left[2] + left[1] + left[0] <= (table[IDS] > 0).sum()


def test_copies_may_predict_less_than_they_corrupt():
    masked = mask("word", IDS, 0.3, copies=2, prediction_rate=0.1)
    assert (masked.mask_weights.sum(axis=1) <= masked.corrupted).all()
    assert abs(masked.mask_weights.sum() / (2 * N.sum()) - 0.1) < 0.004
    assert abs(masked.corrupted.sum() / (2 * N.sum()) - 0.3) < 0.01


@pytest.mark.parametrize("shape", [(0, 8), (3, 0), (3, 8)])
def test_copies_of_nothing_and_without_slots(shape):
    rows = np.full(shape, 9, np.int32)
    spec = make_spec("word", mask_selection_length=0)
    masked = mask("word", rows, 0.5, spec=spec, copies=2)
    assert masked.token_ids.shape == (2 * shape[0], shape[1])
    assert masked.mask_positions.shape == (2 * shape[0], 0) and not masked.corrupted.any()
