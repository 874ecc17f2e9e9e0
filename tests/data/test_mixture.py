"""Shares hold exactly in every epoch, and each source is read through before it is read again."""

import numpy as np
import pytest

from mlm.data import apportion, epoch_counts, make_batch_at, make_epoch_order, make_rows
from mlm.data.mixture import turns
from mlm.errors import ConfigError, DataError

SIZES = (30, 3, 0, 67)


@pytest.fixture
def rows(make_store, special):
    """100 rows of one document each, of four sources."""
    store = make_store([[10 + n] for n in range(100)])
    store.meta["sources"] = [
        {"name": f"s{i}", "documents": n, "tokens": n} for i, n in enumerate(SIZES)
    ]
    return make_rows(store, mode="document", length=4, special=special, by_source=True)


def epoch(order, number, size=100):
    """Rows and visits of a whole epoch, asked for in uneven parts."""
    parts = np.split(np.arange(size), [7, 8, 60])
    found = [order(number, places) for places in parts]
    return (np.concatenate(column) for column in zip(*found, strict=True))


@pytest.mark.parametrize("shares", [(0.2, 0.5, 0, 0.3), (1, 1, 0, 1), (0, 9, 0, 1), (0, 0, 0, 2)])
def test_every_epoch_holds_the_shares_exactly(rows, shares):
    counts = epoch_counts(rows, shares=shares)
    assert counts.sum() == 100
    assert np.all(np.abs(counts - 100 * np.array(shares) / sum(shares)) < 1)
    order = make_epoch_order(rows, seed=3, counts=counts)
    for number in range(5):
        ids, _ = epoch(order, number)
        sources = np.searchsorted(rows.source_bounds, ids, side="right") - 1
        assert np.bincount(sources, minlength=4).tolist() == counts.tolist()


def test_no_row_is_seen_again_before_all_of_its_source_have_been(rows):
    order = make_epoch_order(rows, seed=0, counts=epoch_counts(rows, shares=(0.3, 0.5, 0, 0.2)))
    seen = np.zeros(100, int)
    borders = rows.source_bounds
    source_of = [
        slice(*borders[np.searchsorted(borders, r, "right") - 1 :][:2]) for r in range(100)
    ]
    for number in range(12):
        for row, visit in zip(*epoch(order, number), strict=True):
            assert visit == seen[row]  # how often it was seen before
            assert seen[row] == seen[source_of[row]].min()
            seen[row] += 1
        for begin, end in zip(rows.source_bounds[:-1], rows.source_bounds[1:], strict=True):
            if end > begin:
                assert np.ptp(seen[begin:end]) <= 1
    assert seen[:30].tolist() == [12] * 30 and seen[30:33].tolist() == [200] * 3


@pytest.mark.parametrize("shares", [(0.2, 0.5, 0, 0.3), (1, 1, 0, 98), (0.5, 0, 0, 0.5)])
def test_any_stretch_of_an_epoch_holds_the_shares(rows, shares):
    counts = epoch_counts(rows, shares=shares)
    ids, _ = epoch(make_epoch_order(rows, seed=0, counts=counts), 0)
    sources = np.searchsorted(rows.source_bounds, ids, side="right") - 1
    for begin in range(0, 90, 7):
        for size in (10, 33):
            found = np.bincount(sources[begin : begin + size], minlength=4)
            expected = counts / 100 * len(sources[begin : begin + size])
            assert np.all(np.abs(found - expected) < 3)


@pytest.mark.parametrize("total", [1, 2, 97, 1000])
def test_every_turn_is_taken_once_and_in_order(total):
    draw = np.random.default_rng(total)
    for _ in range(20):
        counts = apportion(draw.random(5) * (draw.random(5) < 0.7) + [1e-9, 0, 0, 0, 0], total)
        sources, numbers = turns(counts, np.arange(total))
        for source, count in enumerate(counts):
            assert np.array_equal(numbers[sources == source], np.arange(count))
        some = draw.permutation(total)[: total // 2 + 1]
        assert np.array_equal(turns(counts, some), (sources[some], numbers[some]))


def test_turns_of_very_many_rows_do_not_overflow():
    counts = np.array([2**31 - 100, 99], np.int64)
    sources, numbers = turns(counts, np.array([0, 2**31 - 2]))
    assert sources.tolist() == [0, 0] and numbers.tolist() == [0, 2**31 - 101]


def test_a_curriculum_holds_in_each_source(rows):
    stages = np.arange(100, dtype=np.uint8)[::-1]
    counts = epoch_counts(rows, shares=(0.3, 0.1, 0, 0.6))
    ids, visits = epoch(make_epoch_order(rows, seed=0, counts=counts, stages=stages), 0)
    for begin, end in zip(rows.source_bounds[:-1], rows.source_bounds[1:], strict=True):
        first = ids[(ids >= begin) & (ids < end) & (visits == 0)]
        assert np.array_equal(first, np.arange(begin, end)[::-1][: len(first)])


def test_epochs_and_seeds_differ(rows):
    counts = epoch_counts(rows, shares=(0.5, 0.1, 0, 0.4))
    order = make_epoch_order(rows, seed=0, counts=counts)
    other = make_epoch_order(rows, seed=1, counts=counts)
    lists = [next(epoch(o, number)).tolist() for o, number in ((order, 0), (order, 1), (other, 0))]
    assert lists[0] != lists[1] != lists[2] != lists[0]


def test_temperature_is_between_sizes_and_equal_shares(rows):
    assert epoch_counts(rows, temperature=1.0) is None
    sizes = np.array(SIZES)
    two = epoch_counts(rows, temperature=2.0)
    assert np.all(np.abs(two - 100 * np.sqrt(sizes) / np.sqrt(sizes).sum()) < 1)
    assert two[2] == 0
    # The empty source has no share at any temperature.
    assert epoch_counts(rows, temperature=1e9).tolist() == [33, 33, 0, 34]
    assert epoch_counts(rows, temperature=0.002).tolist() == [0, 0, 0, 100]


def test_batches_of_a_mixture_are_pure_in_k(rows):
    counts = epoch_counts(rows, shares=(0.3, 0.3, 0, 0.4))

    def fresh():
        return make_batch_at(
            rows, seed=5, batch_size=8, order=make_epoch_order(rows, seed=5, counts=counts)
        )

    batch_at = fresh()
    forward = [batch_at(k) for k in range(40)]
    for k in (31, 2, 12, 2):
        for name, value in fresh()(k).items():
            assert np.array_equal(value, forward[k][name]), name
    assert forward[0]["visits"].dtype == forward[0]["example_ids"].dtype == np.int32
    for index in (0, 1):
        part = make_batch_at(
            rows,
            seed=5,
            batch_size=8,
            order=make_epoch_order(rows, seed=5, counts=counts),
            places=4 * index + np.arange(4),
        )
        ids = forward[13]["example_ids"][4 * index : 4 * index + 4]
        assert np.array_equal(part(13)["example_ids"], ids)


def test_sources_above_the_size_that_is_sorted(rows, monkeypatch):
    monkeypatch.setattr("mlm.data.order.SORTED_ROWS", 16)
    counts = epoch_counts(rows, shares=(0.2, 0.2, 0, 0.6))
    order = make_epoch_order(rows, seed=0, counts=counts)
    ids, _ = epoch(order, 0)
    sources = np.searchsorted(rows.source_bounds, ids, side="right") - 1
    assert np.bincount(sources, minlength=4).tolist() == counts.tolist() == [20, 20, 0, 60]


def test_wrong_numbers_of_shares_and_empty_sources(rows):
    with pytest.raises(ConfigError, match="has 2 numbers for 4 sources .s0, s1, s2, s3.; give one"):
        epoch_counts(rows, shares=(1, 2))
    with pytest.raises(DataError, match="of s2 there is no row to train on; .* a share of 0"):
        epoch_counts(rows, shares=(1, 1, 1, 1))


@pytest.mark.parametrize("total", [1, 7, 100, 12345])
def test_apportionment_adds_up(total):
    weights = np.random.default_rng(total).random(9)
    counts = apportion(weights, total)
    assert counts.sum() == total
    assert np.all(np.abs(counts - weights / weights.sum() * total) < 1)
