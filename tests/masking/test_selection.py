"""How many tokens are selected: exact in exact arithmetic, unbiased, or binomial."""

import json
import math
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mlm.masking import row_keys
from mlm.masking.selection import (
    count_selected,
    exact_count,
    row_rates,
    score_units,
    stochastic_count,
)
from mlm.masking.units import make_units

ROOT = jax.random.key(3)
RECORDED = Path(__file__).parent.parent / "parity/mask_generator/tf_text_selected_counts.json"


@pytest.mark.parametrize("compiled", [True, False])  # XLA may fuse multiply and subtract
def test_exact_is_the_ceiling_for_every_thousandth_and_every_n_to_8192(compiled):
    count = jax.jit(exact_count) if compiled else exact_count
    n = np.arange(8193)
    for thousandths in range(1001):
        counts = count(jnp.float32(thousandths / 1000), jnp.asarray(n))
        np.testing.assert_array_equal(counts, -(-thousandths * n // 1000))


def test_exact_selects_one_where_anything_can_be_selected():
    assert exact_count(jnp.float32(1e-9), jnp.array([0, 1, 500])).tolist() == [0, 1, 1]
    assert exact_count(jnp.float32(0), jnp.array([0, 1, 500])).tolist() == [0, 0, 0]


def test_exact_is_what_keras_hub_selects_but_for_its_rounding():
    recorded = json.loads(RECORDED.read_text())
    differing = 0
    for rate, theirs in recorded.items():
        ours = np.asarray(exact_count(jnp.float32(rate), jnp.arange(len(theirs))))
        for n in np.flatnonzero(ours != theirs):
            # Their float32 product lies above the integer that it should be: 0.15 of 100 is 16.
            product = np.float32(rate) * np.float32(n)
            assert theirs[n] == ours[n] + 1 == math.ceil(product)
            assert product - ours[n] < 1e-4
            differing += 1
    assert len(recorded) == 11 and 1 <= differing <= 10


@pytest.mark.parametrize("rate", [0.0, 0.001, 0.15, 0.4, 0.999, 1.0])
def test_stochastic_is_unbiased_for_every_n(rate):
    coins = (jnp.arange(2**12, dtype=jnp.float32) + 0.5) / 2**12
    count = jax.jit(jax.vmap(lambda n: stochastic_count(jnp.float32(rate), n, coins)))
    counts = np.asarray(count(jnp.arange(513)))
    expected = rate * np.arange(513)
    # Evenly spread coins miss a fraction by at most their spacing.
    np.testing.assert_allclose(counts.mean(axis=1), expected, atol=2**-12 + 1e-4)
    assert (counts >= np.floor(expected - 1e-4)[:, None]).all()
    assert (counts <= np.ceil(expected + 1e-4)[:, None]).all()


@pytest.mark.parametrize("rate", [0.15, 0.4])
def test_bernoulli_is_binomial(rate):
    rows, n = 40_000, 20
    keys = row_keys(ROOT, 0, jnp.arange(rows))
    units = make_units(jnp.arange(32) < jnp.full((rows, 1), n), None)
    scores = score_units(keys, units)
    counts = count_selected(keys, scores, units, rate=jnp.full(rows, rate), count="bernoulli")
    expected = [rows * math.comb(n, k) * rate**k * (1 - rate) ** (n - k) for k in range(n + 1)]
    seen = np.bincount(counts, minlength=n + 1)
    likely = np.array(expected) >= 20
    chi2 = np.sum((seen - expected)[likely] ** 2 / np.array(expected)[likely])
    cells = likely.sum()
    assert chi2 < cells + 5 * np.sqrt(2 * cells)


@pytest.mark.parametrize("lowest, highest", [(0.1, 0.3), (0.0, 1.0), (0.15, 0.15), (0.05, 0.0501)])
def test_rates_of_rows_are_the_same_bits_however_they_are_compiled(lowest, highest):
    keys = row_keys(ROOT, 0, np.arange(20_000))
    lowest, highest = jnp.float32(lowest), jnp.float32(highest)
    one_by_one = np.asarray(row_rates(keys, lowest, highest))
    np.testing.assert_array_equal(jax.jit(row_rates)(keys, lowest, highest), one_by_one)
    assert lowest <= one_by_one.min() and one_by_one.max() <= highest
    # Even: the mean and the spread of a uniform law.
    width = highest - lowest
    assert abs(one_by_one.mean() - (lowest + width / 2)) <= 0.01 * width + 1e-7
    assert abs(one_by_one.std() - width / math.sqrt(12)) <= 0.01 * width + 1e-7
