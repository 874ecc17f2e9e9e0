"""Easy rows come first on the first visits, each once, and hard ones last."""

import numpy as np
import pytest

from mlm.data import difficulty as module
from mlm.data import (
    difficulty_stages,
    epoch_counts,
    make_batch_at,
    make_epoch_order,
    make_rows,
    row_difficulty,
)
from mlm.errors import ConfigError


@pytest.mark.parametrize("mode", ["packed", "document", "blocks"])
def test_length_is_that_of_the_pieces_in_a_row(make_store, special, mode):
    store = make_store([[11, 12, 13, 14, 15, 16], [21, 22], [31], [41]])
    rows = make_rows(store, mode=mode, length=8, special=special)
    found = row_difficulty(rows, "length").tolist()
    assert (
        found
        == {
            "document": [6, 2, 1, 1],
            "packed": [6, 1.5, 1],  # 6; 2 and 1; 1
            "blocks": [
                6,
                1.5,
                1,
            ],  # the first fills its row, the last begins with [CLS] in the second
        }[mode]
    )


def test_rarity_is_mean_surprisal(make_store, special):
    store = make_store([[5, 5, 5], [5, 6], [7]])
    rows = make_rows(store, mode="document", length=8, special=special)
    often, once = np.log(6 / 4), np.log(6)
    expected = [often, (often + once) / 2, once]
    np.testing.assert_allclose(row_difficulty(rows, "rarity"), expected, rtol=1e-12)


def test_rows_are_measured_in_parts(store, special, monkeypatch):
    rows = make_rows(store, mode="packed", length=16, special=special)
    whole = [row_difficulty(rows, measure) for measure in module.MEASURES]
    monkeypatch.setattr(module, "AT_A_TIME", 7)
    parts = [row_difficulty(rows, measure) for measure in module.MEASURES]
    np.testing.assert_array_equal(whole, parts)


def test_an_unknown_measure(store, special):
    rows = make_rows(store, mode="packed", length=16, special=special)
    with pytest.raises(ConfigError, match="'size'; choose one of length, rarity"):
        row_difficulty(rows, "size")


@pytest.mark.parametrize("size", [1, 5, 10, 97])
def test_stages_are_equal_shares_by_rank(size):
    difficulty = np.random.default_rng(0).random(size)
    stages = difficulty_stages(difficulty)
    assert np.ptp(np.bincount(stages, minlength=10)) <= 1
    assert np.all(np.diff(stages[np.argsort(difficulty)].astype(int)) >= 0)


def test_equal_rows_are_shared_among_the_stages_whatever_their_place():
    stages = difficulty_stages(np.ones(1000))
    assert np.array_equal(stages, difficulty_stages(np.ones(1000)))
    halves = [np.bincount(part, minlength=10) for part in np.split(stages, 2)]
    assert np.all(np.abs(halves[0] - 50) < 25) and np.array_equal(sum(halves), [100] * 10)


@pytest.fixture
def rows(make_store, special):
    store = make_store([[10 + n] for n in range(100)])
    store.meta["sources"] = [{"name": name, "documents": 50, "tokens": 50} for name in "ab"]
    return make_rows(store, mode="document", length=4, special=special, by_source=True)


def visit(batch_at, number):
    return np.concatenate([batch_at(k)["example_ids"] for k in range(5 * number, 5 * number + 5)])


def test_first_visits_go_from_easy_to_hard(rows):
    stages = difficulty_stages(np.arange(100)[::-1])  # the last row is the easiest
    order = make_epoch_order(rows, seed=0, stages=stages, easy_visits=2)
    batch_at = make_batch_at(rows, seed=0, batch_size=20, order=order)
    visits = [visit(batch_at, number) for number in range(4)]
    for ids in visits:
        assert np.array_equal(np.sort(ids), np.arange(100))
    for ids in visits[:2]:
        assert np.array_equal(stages[ids], np.repeat(np.arange(10), 10))
        assert not np.array_equal(ids, np.arange(100)[::-1])  # any order within a stage
    assert not np.array_equal(visits[0], visits[1])
    plain = make_batch_at(rows, seed=0, batch_size=20)
    for number in (2, 3):
        assert np.array_equal(visits[number], visit(plain, number))


def test_each_source_of_a_mixture_has_its_own_curriculum(rows):
    stages = difficulty_stages(np.arange(100))
    counts = epoch_counts(rows, shares=(0.5, 0.5))
    order = make_epoch_order(rows, seed=0, counts=counts, stages=stages)
    ids, visits = order(0, np.arange(100))
    assert not visits.any()
    for part in (ids[ids < 50], ids[ids >= 50]):
        assert np.all(np.diff(stages[part].astype(int)) >= 0)
        assert not np.array_equal(part, np.sort(part))  # any order within a stage
