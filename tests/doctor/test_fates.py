import dataclasses

import numpy as np
import pytest
from samples import CLS, MASK, PAD, TEXT, V, make_sample, special, uniform_law

from mlm.doctor.fates import check_inserted, check_split, check_touched, check_whole


def changed(sample, at, id):
    """The sample with `id` shown and predicted at (row, place)."""
    shown, predicted = sample.shown.copy(), sample.predicted.copy()
    shown[at[0], 0, at[1]], predicted[at[0], 0, at[1]] = id, True
    return dataclasses.replace(sample, shown=shown, predicted=predicted, corrupted=predicted)


def test_the_split_that_was_asked_for():
    finding = check_split([make_sample()], mask_id=MASK, law=uniform_law())
    assert finding.verdict == "ok" and "(asked 0.8 / 0.1 / 0.1)" in finding.words


def test_nothing_predicted_has_no_split():
    finding = check_split([make_sample(rate=0.0)], mask_id=MASK, law=uniform_law())
    assert finding.verdict == "ok" and finding.words == "nothing is predicted at step 1"


@pytest.mark.parametrize("split", [(1.0, 0.0), (0.8, 0.2), (0.7, 0.1), (0.8, 0.0)])
def test_another_split_is_bad(split):
    finding = check_split([make_sample(split=split)], mask_id=MASK, law=uniform_law())
    assert finding.verdict == "bad" and "would be chance" in finding.words


def test_a_random_id_that_is_the_original_counts_as_kept():
    one = np.zeros(V)
    one[TEXT] = 1.0
    sample = make_sample()
    texts = np.where(sample.selectable, TEXT, sample.original)  # all is one word, drawn always
    shown = np.where(sample.shown == MASK, MASK, texts[:, None])
    sample = dataclasses.replace(sample, original=texts, shown=shown)
    assert check_split([sample], mask_id=MASK, law=one).verdict == "ok"
    assert check_split([sample], mask_id=MASK, law=uniform_law()).verdict == "bad"


def test_a_random_id_that_is_the_mask_counts_as_one():
    law = np.zeros(V)
    law[MASK] = 1.0
    sample = make_sample(split=(0.9, 0.0))
    assert check_split([sample], mask_id=MASK, law=law).verdict == "ok"  # 0.8 and all the random
    assert check_split([sample], mask_id=MASK, law=uniform_law()).verdict == "bad"


@pytest.mark.parametrize(("place", "id"), [(0, CLS), (45, PAD), (45, MASK)])
def test_a_special_token_is_touched(place, id):
    sample = make_sample()
    assert check_touched([sample], special=special()).verdict == "ok"
    finding = check_touched([changed(sample, (7, place), id)], special=special())
    assert finding.verdict == "bad" and finding.words.startswith("1 special tokens")


def test_a_special_id_is_inserted():
    settings = {"mask_id": MASK, "special": special()}
    sample = make_sample()
    assert check_inserted([sample], random_ids="selectable", **settings).verdict == "ok"
    sick = [changed(sample, (3, 5), PAD)]
    assert check_inserted(sick, random_ids="selectable", **settings).verdict == "bad"
    finding = check_inserted(sick, random_ids="vocabulary", **settings)
    assert finding.verdict == "warning" and "1 of " in finding.words


def test_units_are_whole_or_cut():
    sample = make_sample(units=4)
    finding = check_whole([sample], fit="skip", unit="word")
    assert finding.verdict == "ok" and finding.words == "400 of 400 are masked whole"
    predicted = sample.predicted.copy()
    at = int(np.argmax(predicted[0, 0]))
    predicted[0, 0, at] = False
    cut = [dataclasses.replace(sample, predicted=predicted)]
    assert check_whole(cut, fit="skip", unit="word").verdict == "bad"
    finding = check_whole(cut, fit="truncate", unit="word")
    assert finding.verdict == "ok" and finding.words.startswith("399 of 400")


def test_units_that_never_fit():
    sample = make_sample(rate=0.5, units=20)
    rates = sample.rates | {"rate": 0.2}  # 8 tokens of 40
    finding = check_whole([dataclasses.replace(sample, rates=rates)], fit="skip", unit="span")
    assert finding.verdict == "warning" and "100.0% of the text is in units" in finding.words
