import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mlm.masking import row_keys
from mlm.masking.keys import Stream, draw_bits, unit_interval

ROOT = jax.random.key(0)


def test_a_row_key_is_two_folds_of_the_root():
    keys = row_keys(ROOT, jnp.array([0, 3]), jnp.array([7, 8]))
    by_hand = jax.random.fold_in(jax.random.fold_in(ROOT, 3), 8)
    assert (jax.random.key_data(keys[1]) == jax.random.key_data(by_hand)).all()


def test_one_visit_serves_the_whole_batch():
    ids = jnp.arange(4)
    same = row_keys(ROOT, 2, ids) == row_keys(ROOT, jnp.full(4, 2), ids)
    assert same.all()


def test_bits_of_a_longer_row_begin_with_those_of_a_shorter_one():
    keys = row_keys(ROOT, 0, jnp.arange(3))
    short, long = (
        draw_bits(keys, Stream.SELECTION, jnp.arange(n, dtype="uint32")[None]) for n in (10, 33)
    )
    np.testing.assert_array_equal(short, long[:, :10])


def test_streams_draw_apart():
    keys = row_keys(ROOT, 0, jnp.arange(2))
    drawn = [
        np.asarray(draw_bits(keys, stream, jnp.arange(8, dtype="uint32")[None]))
        for stream in Stream
    ]
    assert len({bits.tobytes() for bits in drawn}) == len(Stream)


def test_unit_interval_never_reaches_one():
    ends = unit_interval(jnp.array([0, 2**32 - 1], jnp.uint32))
    assert ends.tolist() == [0.0, 1 - 2**-24]


@pytest.mark.parametrize("impl", ["rbg", "unsafe_rbg"])
def test_keys_whose_draws_depend_on_the_batch_are_refused(impl):
    with pytest.raises(ValueError, match="threefry"):
        row_keys(jax.random.key(0, impl=impl), 0, jnp.arange(2))


def test_raw_key_data_is_refused():
    with pytest.raises(ValueError, match="jax.random.key"):
        row_keys(jnp.zeros(2, jnp.uint32), 0, jnp.arange(2))


def test_masks_do_not_depend_on_how_jax_counts():
    with jax.threefry_partitionable(False):
        keys = row_keys(ROOT, 0, jnp.arange(2))
        bits = draw_bits(keys, Stream.SELECTION, jnp.arange(9, dtype="uint32")[None])
    keys = row_keys(ROOT, 0, jnp.arange(2))
    again = draw_bits(keys, Stream.SELECTION, jnp.arange(9, dtype="uint32")[None])
    np.testing.assert_array_equal(bits, again)


def test_lists_and_python_integers_will_do():
    assert (row_keys(ROOT, [1, 1], [3, 4]) == row_keys(ROOT, 1, jnp.array([3, 4]))).all()


@pytest.mark.parametrize(
    ("root", "visits", "example_ids", "words"),
    [
        (0, 0, [1], "keys are int; make them with jax.random.key"),
        (jax.random.split(ROOT, 3), 0, [1, 2, 3], "root is \\(3,\\) keys; give one"),
        (ROOT, 0, 8, "example_ids have shape \\(\\)"),
        (ROOT, [0, 1, 2], [1, 2], "visits \\(3,\\); give int32"),
        (ROOT, 0, np.zeros((2, 3), int), "example_ids have shape \\(2, 3\\)"),
        (ROOT, 0.9, [1], "visits are float64; give integers"),
        (ROOT, 0, np.array([7.9]), "example_ids are float64"),
        # 32 bits of either would be those of another row.
        (ROOT, 0, np.array([7 + 2**32]), "example_ids reach from 4294967303"),
        (ROOT, -1, [1], "visits reach from -1"),
    ],
)
def test_wrong_ids_are_refused(root, visits, example_ids, words):
    with pytest.raises(ValueError, match=words):
        row_keys(root, visits, example_ids)
