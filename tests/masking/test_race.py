"""The weighted race against NumPy's logarithm and against the exact law of what it draws."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mlm.masking import row_keys
from mlm.masking.race import handicaps, log2_fixed, race_scores
from mlm.masking.selection import score_units, select
from mlm.masking.smallest import NEVER
from mlm.masking.units import make_units

ROOT, ROWS = jax.random.key(9), 40_000


def numbers():
    draw = np.random.default_rng(0)
    powers = 2.0 ** draw.uniform(0, 32, 200_000)
    edges = [1, 2, 3, 2**20 - 1, 2**20, 2**31 - 1, 2**31, 2**32 - 2, 2**32 - 1]
    return np.unique(np.r_[powers.astype(np.uint64), edges]).astype(np.uint32)


def test_log2_is_numpys_but_for_1e_8():
    n = numbers()
    ours = np.asarray(log2_fixed(jnp.asarray(n))).astype(np.int64)
    error = ours / 2**26 - np.log2(n.astype(np.float64))
    assert -4e-8 < error.min() and error.max() < 2e-8  # 2^-26 is 1.5e-8; it rounds down
    assert (np.diff(ours) >= 0).all()
    assert (ours[np.isin(n, 2 ** np.arange(32))] % 2**26 == 0).all()


def test_log2_rises_between_neighbours_everywhere():
    for first in (1, 2**12, 2**20 - 2000, 2**31 - 2000, 2**32 - 4000):
        n = np.arange(first, first + 4000, dtype=np.uint64).astype(np.uint32)
        assert (np.diff(np.asarray(log2_fixed(jnp.asarray(n))).astype(np.int64)) >= 0).all()


def test_a_score_is_the_logarithm_of_an_exponential_time():
    bits = np.asarray(jax.random.bits(ROOT, (1, 100_000)))
    scores = np.asarray(race_scores(jnp.asarray(bits), jnp.zeros_like(bits)))[0]
    time = -np.log2(bits[0] / 2.0**32)
    assert np.abs(scores / 2.0**24 - 26 - np.log2(time))[time > 0.01].max() < 5e-6


def test_no_score_reaches_never_or_wraps():
    bits = jnp.array([[0, 1, 2**32 - 1]], jnp.uint32)
    furthest = race_scores(bits, jnp.full((1, 3), 224 << 24, jnp.uint32))
    assert furthest.tolist() == [[255 << 24, 255 << 24, 224 << 24]]


def handicap_of(weights, starts=None):
    weights = jnp.atleast_2d(jnp.asarray(weights, jnp.float32))
    units = make_units(jnp.ones(weights.shape, bool), starts)
    return np.asarray(handicaps(weights, units))[0]


def test_handicaps_are_logarithms_behind_the_largest():
    weights = np.array([8.0, 4.0, 1.0, 3.0, 1e-5, 1e30, 0.0, -1.0, np.nan])
    ours = handicap_of(weights)
    behind = np.log2(1e30 / weights[:5])
    np.testing.assert_allclose(ours[:5] / 2.0**24, behind, atol=2e-7)
    assert ours[5] == 0 and (ours[6:] == NEVER).all()


def test_an_infinite_weight_is_a_large_one_and_subnormal_ones_are_zero():
    assert handicap_of([np.inf, np.inf, 1.0, 1e-40])[[0, 1, 3]].tolist() == [0, 0, NEVER]
    # 2^-224 and less count alike.
    assert handicap_of([2.0**127, 2.0**-126, 2.0**-110]).tolist()[1:] == [224 << 24] * 2


def test_a_unit_weighs_the_geometric_mean_of_its_tokens():
    weights = np.array([[16.0, 1.0, 1.0, 2.0, 2.0, 0.5, 0.0, 9.0]])
    starts = jnp.array([[1, 0, 0, 1, 1, 0, 1, 0]], bool)
    ours = handicap_of(weights, starts) / 2.0**24
    behind = 4 - np.array([4 / 3] * 3 + [1.0] + [0.0] * 2)
    np.testing.assert_allclose(ours[:6], behind, atol=2**-11)
    assert (handicap_of(weights, starts)[6:] == NEVER).all()


def test_units_of_equal_tokens_weigh_as_much_as_a_token():
    starts = jnp.array([[1, 1, 0, 1, 0, 0, 1, 0, 0]], bool)
    weights = np.array([[3.0, 3.0, 3.0, 0.7, 0.7, 0.7, 11.0, 11.0, 11.0]])
    ours = handicap_of(weights, starts)
    np.testing.assert_allclose(ours, handicap_of(weights), atol=2**13)
    assert ours[0] == ours[1]


def inclusion(weights, n):
    """P(i is among the first n) where each is drawn in proportion to its weight, then removed."""
    shares = np.zeros(len(weights))
    for order in itertools.permutations(range(len(weights)), n):
        left, p = sum(weights), 1.0
        for i in order:
            p *= weights[i] / left
            left -= weights[i]
        shares[list(order)] += p
    return shares


def subsets(weights, n):
    """P of each subset, in the order of `itertools.combinations`."""
    law = {subset: 0.0 for subset in itertools.combinations(range(len(weights)), n)}
    for order in itertools.permutations(range(len(weights)), n):
        left, p = sum(weights), 1.0
        for i in order:
            p *= weights[i] / left
            left -= weights[i]
        law[tuple(sorted(order))] += p
    return np.array(list(law.values()))


@jax.jit
def selected(weights, n):
    keys = row_keys(ROOT, 0, jnp.arange(ROWS))
    units = make_units(jnp.ones((ROWS, 5), bool), None)
    scores = score_units(keys, units, jnp.broadcast_to(weights, (ROWS, 5)))
    return select(scores, jnp.full(ROWS, n), units, fit="skip")


def assert_fits(counts, shares):
    """Chi-square at five sigma over the cells that are likely enough (Wilson and Hilferty)."""
    expected = np.asarray(shares) * np.sum(counts)
    likely = expected >= 5
    if not likely.all():
        counts = np.r_[counts[likely], counts[~likely].sum()]
        expected = np.r_[expected[likely], expected[~likely].sum()]
    chi2 = np.sum((counts - expected) ** 2 / np.maximum(expected, 1e-9))
    spread = 2 / (9 * (len(counts) - 1))
    assert chi2 < (len(counts) - 1) * (1 - spread + 5 * np.sqrt(spread)) ** 3


WEIGHTS = {
    "even": [1.0, 1, 1, 1, 1],
    "gentle": [1.0, 2, 3, 4, 5],
    "steep": [1.0, 0.1, 0.01, 0.001, 1e-5],
    "tiny": [3e-20, 1e-20, 2e-20, 4e-20, 1e-19],
}


@pytest.mark.parametrize("name", WEIGHTS)
@pytest.mark.parametrize("n", [1, 2, 3])
def test_subsets_follow_successive_sampling(name, n):
    weights = WEIGHTS[name]
    chosen = np.asarray(selected(jnp.array(weights), n))
    assert (chosen.sum(axis=1) == n).all()
    names = list(itertools.combinations(range(5), n))
    which = chosen @ (1 << np.arange(5))
    counts = np.array([(which == sum(1 << i for i in s)).sum() for s in names])
    assert_fits(counts, subsets(weights, n))
    expected = inclusion(weights, n)
    sd = np.sqrt(expected * (1 - expected) / ROWS)
    assert (np.abs(chosen.mean(axis=0) - expected) <= 5 * sd + 5 / ROWS).all()


def test_the_law_would_notice_another_one():
    chosen = np.asarray(selected(jnp.array([1.0, 2, 3, 4, 6]), 1))
    with pytest.raises(AssertionError):
        assert_fits(chosen.sum(axis=0), np.array([1, 2, 3, 4, 5]) / 15)


def test_what_weighs_nothing_is_never_selected():
    chosen = np.asarray(selected(jnp.array([1.0, 0, 1e-30, -3, jnp.nan]), 2))
    assert chosen.all(axis=0).tolist() == [True, False, True, False, False]
    assert not chosen[:, [1, 3, 4]].any()


def test_the_scale_of_weights_does_not_matter():
    weights = jnp.array([1.0, 0.3, 0.07, 2.5, 0.011])
    one = np.asarray(selected(weights, 2))
    for power in (-60, -1, 1, 30):
        np.testing.assert_array_equal(one, selected(weights * 2.0**power, 2))
    other = np.asarray(selected(weights * 3.7, 2))
    assert (one != other).any(axis=1).mean() < 1e-4  # only where a logarithm rounds


def test_scores_are_the_same_compiled_or_not_and_in_a_longer_row():
    draw = np.random.default_rng(4)
    keys = row_keys(ROOT, 0, jnp.arange(64))
    weights = jnp.asarray(draw.lognormal(0, 4, (64, 50)), jnp.float32)
    selectable, starts = jnp.asarray(draw.random((2, 64, 50)) < [[[0.9]], [[0.5]]])
    starts = starts.at[:, 30].set(True)
    # In the longer row the heaviest token may stand behind: all handicaps move by one constant.
    score = jax.jit(score_units)
    for given in (None, starts):
        whole = make_units(selectable, given)
        cut = make_units(selectable[:, :30], None if given is None else given[:, :30])
        scores = np.asarray(score(keys, whole, weights))[:, :30]
        short = np.asarray(score(keys, cut, weights[:, :30]))
        runs = short < NEVER
        np.testing.assert_array_equal(scores < NEVER, runs)
        for row, run in zip(scores - short, runs, strict=True):
            assert len(set(row[run])) == 1
    np.testing.assert_array_equal(score_units(keys, whole, weights)[:, :30], scores)
