from fractions import Fraction

import jax
import numpy as np
import pytest

from mlm.masking.tables import draw_ids, frequency_weights, random_id_cdf, read_weights

COUNTS = np.array([0, 1, 16, 10**9, 81])
SELECTABLE = np.array([False, True, True, True, True])


def test_weights_fall_with_the_count_as_its_power():
    weights = frequency_weights(COUNTS, 0.75)
    assert weights.dtype == np.float32
    np.testing.assert_allclose(weights, [1, 1, 1 / 8, 10**-6.75, 1 / 27], rtol=1e-6)
    np.testing.assert_allclose(frequency_weights(COUNTS, -0.25)[2:] * 10**2.25, [2, 10**2.25, 3])
    assert (frequency_weights(COUNTS, 0.0) == 1).all()


@pytest.mark.parametrize("alpha", [50.0, -50.0, 1e300])
def test_weights_are_never_0_nor_infinite(alpha):
    weights = frequency_weights(COUNTS, alpha)
    assert np.isfinite(weights).all() and weights.max() == 1
    assert weights.min() == np.finfo(np.float32).tiny  # the least that devices do not take for 0


def saved(tmp_path, array, name="table.npy"):
    np.save(tmp_path / name, array)
    return str(tmp_path / name)


def test_a_table_is_read_and_scaled(tmp_path):
    table = read_weights(saved(tmp_path, np.array([1e300, 2, 0, 4, 1e-290])), 5, SELECTABLE)
    least = np.finfo(np.float32).tiny
    assert table.dtype == np.float32 and table.tolist() == [0, 0.5, 0, 1, least]
    assert read_weights(saved(tmp_path, np.arange(5)), 5, SELECTABLE).tolist() == [
        *(0, 0.25, 0.5, 0.75, 1)
    ]


@pytest.mark.parametrize(
    ("array", "words"),
    [
        (np.ones(4), "4 for a vocabulary of 5; give one number per id"),
        (np.ones((5, 2)), r"an array of shape \(5, 2\) for a vocabulary of 5"),
        (np.array([1, 1, -0.5, 1, -1]), "id 2 has -0.5; give numbers of 0 or more"),
        (np.array([1, 1, 1, np.nan, 1]), "id 3 has nan; give finite numbers"),
        (np.array([1, np.inf, 1, 1, 1]), "id 1 has inf; give finite numbers"),
        (np.array([1.0, 0, 0, 0, 0]), "0 for all 4 ids that may be selected"),
        (np.array(["a"] * 5), r"no .npy file of numbers \(holds <U1\); write one"),
        (np.array([{}] * 5), "no .npy file of numbers .*Python objects"),
    ],
)
def test_a_table_that_cannot_be_used_is_named_in_one_line(tmp_path, array, words):
    with pytest.raises(ValueError, match=words) as error:
        read_weights(saved(tmp_path, array), 5, SELECTABLE)
    assert "table.npy: " in str(error.value) and "\n" not in str(error.value)


def test_what_is_no_table_is_named_in_one_line(tmp_path):
    with pytest.raises(ValueError, match="weights none.npy: no such file; write one"):
        read_weights("none.npy", 5, SELECTABLE)
    for content in (b"", b"1 2 3 4 5", b"\x93NUMPY\x01\x00"):
        (tmp_path / "x.npy").write_bytes(content)
        with pytest.raises(ValueError, match="x.npy: no .npy file of numbers") as error:
            read_weights(str(tmp_path / "x.npy"), 5, SELECTABLE)
        assert "\n" not in str(error.value)
    np.savez(tmp_path / "two.npz", a=np.ones(5))
    (tmp_path / "two.npz").rename(tmp_path / "x.npy")
    with pytest.raises(ValueError, match="holds several arrays"):
        read_weights(str(tmp_path / "x.npy"), 5, SELECTABLE)


def law(cdf):
    """The exact probability of each index: how many of the 2^32 draws fall to it."""
    ends = [*(int(x) for x in cdf[1:]), 2**32]
    return [Fraction(end - int(begin), 2**32) for begin, end in zip(cdf, ends, strict=True)]


@pytest.mark.parametrize("alpha", [1, 2, 0, -1])
def test_the_law_of_the_table_is_the_definition(alpha):
    counts = np.random.default_rng(0).zipf(1.3, 3000) % 10**6 * (np.arange(3000) % 7 > 0)
    ids = np.arange(5, 3000, 2)
    cdf = random_id_cdf(counts, ids, alpha)
    assert cdf.dtype == np.uint32 and cdf[0] == 0 and (np.diff(cdf.astype(np.int64)) >= 0).all()
    weights = [Fraction(max(int(counts[i]), 1)) ** alpha for i in ids]
    total = sum(weights)
    errors = (abs(p - w / total) for p, w in zip(law(cdf), weights, strict=True))
    assert max(errors) <= Fraction(1, 2**31)


def test_alpha_0_is_uniform_whatever_the_counts():
    assert random_id_cdf(COUNTS, np.arange(4), 0.0).tolist() == [0, 2**30, 2**31, 3 * 2**30]


def test_bits_find_the_id_whose_share_they_fall_in():
    cdf = np.array([0, 10, 10, 2**31, 2**32 - 1], np.uint32)  # nothing is left for the second
    bits = np.array([[0, 9, 10, 2**31 - 1], [2**31, 2**32 - 2, 2**32 - 1, 1]], np.uint32)
    found = jax.jit(draw_ids)(cdf, bits)
    assert found.dtype == np.int32 and found.tolist() == [[0, 0, 2, 2], [3, 3, 4, 0]]


def test_ids_too_rare_for_32_bits_leave_the_indices_in_range():
    cdf = random_id_cdf(np.array([10**18, 1, 1]), np.arange(3), 1.0)
    assert cdf.tolist() == [0, 2**32 - 1, 2**32 - 1]
    assert draw_ids(cdf, np.uint32([2**32 - 1])).tolist() == [2]
