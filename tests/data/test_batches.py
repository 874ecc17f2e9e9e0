"""Batch k depends on (seed, k) only: not on when, in which order or by which process it is read."""

import subprocess
import sys

import numpy as np
import pytest

from mlm.data import make_batch_at, make_rows, permutation, read_rows
from mlm.errors import ConfigError, DataError


@pytest.fixture
def rows(store, special):
    return make_rows(store, mode="packed", length=64, special=special)


def assert_same(a, b):
    assert a.keys() == b.keys()
    for name in a:
        assert a[name].dtype == b[name].dtype and np.array_equal(a[name], b[name]), name


def test_each_visit_covers_every_row_once(rows):
    size = 7
    assert len(rows) % size  # so that batches straddle two visits
    batch_at = make_batch_at(rows, seed=0, batch_size=size)
    batches = [batch_at(k) for k in range(len(rows))]
    ids = np.concatenate([batch["example_ids"] for batch in batches])
    visits = np.concatenate([batch["visits"] for batch in batches])
    assert ids.dtype == visits.dtype == np.int32
    assert np.array_equal(visits, np.repeat(np.arange(size), len(rows)))
    for visit in range(size):
        assert np.array_equal(ids[visits == visit], permutation(0, visit, len(rows)))
        assert np.array_equal(np.sort(ids[visits == visit]), np.arange(len(rows)))
    assert any(len(set(batch["visits"])) == 2 for batch in batches)


def test_a_batch_holds_the_rows_it_names(rows):
    batch = make_batch_at(rows, seed=3, batch_size=5)(4)
    expected = read_rows(rows, batch["example_ids"])
    assert_same(expected | {name: batch[name] for name in ("example_ids", "visits")}, batch)


def test_pure_in_k(rows):
    batch_at = make_batch_at(rows, seed=0, batch_size=7)
    forward = [batch_at(k) for k in range(30)]
    for k in (29, 3, 17, 3, 0):
        assert_same(batch_at(k), forward[k])
    assert_same(make_batch_at(rows, seed=0, batch_size=7)(29), forward[29])


def test_a_narrow_step_number_does_not_overflow(rows):
    batch_at = make_batch_at(rows, seed=0, batch_size=4)
    assert_same(batch_at(np.int32(2**30)), batch_at(2**30))


def test_examples_do_not_depend_on_the_batch_size(rows):
    small, large = (make_batch_at(rows, seed=0, batch_size=size) for size in (4, 8))
    joined = {name: np.concatenate([small(0)[name], small(1)[name]]) for name in small(0)}
    assert_same(joined, large(0))


@pytest.mark.parametrize("processes", [2, 4])
def test_processes_together_read_the_global_batch(rows, processes):
    whole = make_batch_at(rows, seed=0, batch_size=8)
    parts = [
        make_batch_at(rows, seed=0, batch_size=8, places=places)
        for places in np.split(np.arange(8), processes)
    ]
    for k in range(12):
        slices = [part(k) for part in parts]
        assert_same({n: np.concatenate([s[n] for s in slices]) for n in slices[0]}, whole(k))


def test_any_rows_of_a_batch_can_be_asked_for(rows):
    whole, places = make_batch_at(rows, seed=0, batch_size=8), np.array([6, 7, 0, 1])
    some = make_batch_at(rows, seed=0, batch_size=8, places=places)
    for k in range(12):
        assert_same(some(k), {name: values[places] for name, values in whole(k).items()})


def test_another_seed_is_another_order(rows):
    a, b = (make_batch_at(rows, seed=seed, batch_size=8)(0)["example_ids"] for seed in (0, 1))
    assert not np.array_equal(a, b)


def test_a_corpus_smaller_than_one_batch(rows):
    make_batch_at(rows, seed=0, batch_size=len(rows))(0)
    with pytest.raises(DataError, match=rf"{len(rows)} rows .* batch of {len(rows) + 1}; choose"):
        make_batch_at(rows, seed=0, batch_size=len(rows) + 1)


@pytest.mark.parametrize("size", [0, -4])
def test_a_batch_size_that_is_none(rows, size):
    with pytest.raises(ConfigError, match=f"batch size {size} is not positive"):
        make_batch_at(rows, seed=0, batch_size=size)


@pytest.mark.parametrize("seed", [-1, 2**64])
def test_a_seed_that_is_not_a_uint64(rows, seed):
    with pytest.raises(ConfigError, match=f"seed {seed} "):
        make_batch_at(rows, seed=seed, batch_size=4)


def test_the_room_does_not_import_jax():
    code = "import sys, mlm.data; print([m for m in ('jax', 'flax', 'torch') if m in sys.modules])"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"
