"""What `mask_tokens` refuses: rates, slots, arrays, keys."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mlm.masking import MaskingSpec, mask_tokens, row_keys

V, MASK, SPECIAL, B, L = 200, 4, (0, 2, 3, 4), 512, 64
SPEC = MaskingSpec(V, MASK, 64, SPECIAL, count="stochastic")
ROOT = jax.random.key(7)
IDS = np.random.default_rng(0).integers(5, V, (B, L)).astype(np.int32)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"rate": 1.5}, "rate is 1.5"),
        ({"rate": float("nan")}, "rate is nan"),
        ({"rate": "0.1"}, "rate is '0.1'"),
        ({"rate": None}, "rate is None; give a share between 0 and 1"),
        ({"rate": [0.1] * B}, "give a share between 0 and 1"),
        (
            {"rate": jnp.full(3, 0.1)},
            "rate has shape \\(3,\\); give one share, or float32\\[512\\]",
        ),
        ({"rate": 0.1, "random_token_rate": np.full((B, 1), 0.1)}, "random_token_rate has shape"),
        ({"rate": np.array([0.1] * (B - 1) + [1.5])}, "rate is 1.5"),
        ({"rate": jnp.float32(-0.5)}, "rate is -0.5"),
        ({"rate": 0.1, "mask_token_rate": jnp.full(B, 0.95)}, "add up to more than 1"),
        ({"rate": 0.1, "mask_token_rate": np.full(B, -0.5)}, "mask_token_rate is -0.5"),
        ({"rate": 0.1, "random_token_rate": 0.5}, "add up to more than 1"),
    ],
)
def test_impossible_rates_are_refused(arguments, words):
    with pytest.raises(ValueError, match=words):
        mask_tokens(row_keys(ROOT, 0, jnp.arange(B)), IDS, SPEC, **arguments)


def test_wrong_arrays_are_refused():
    keys = row_keys(ROOT, 0, jnp.arange(3))
    with pytest.raises(ValueError, match="token_ids are list; give an int32"):
        mask_tokens(keys, IDS[:3].tolist(), SPEC, rate=0.1)
    with pytest.raises(ValueError, match="keys are int; make them with"):
        mask_tokens(0, IDS[:3], SPEC, rate=0.1)
    with pytest.raises(ValueError, match="give a MaskingSpec"):
        mask_tokens(keys, IDS[:3], {"count": "exact"}, rate=0.1)
    with pytest.raises(ValueError, match="one key per row"):
        mask_tokens(keys, IDS, SPEC, rate=0.1)
    with pytest.raises(ValueError, match="float32; give integers"):
        mask_tokens(keys, IDS[:3].astype(np.float32), SPEC, rate=0.1)


def test_a_rate_per_row_must_fit_the_slots_too():
    small = MaskingSpec(V, MASK, 10, SPECIAL)
    keys, rates = row_keys(ROOT, 0, jnp.arange(4)), jnp.array([0.1, 0.1, 0.15, 0.2])
    with pytest.raises(ValueError, match="rate 0.2 of 64 tokens may select 13"):
        mask_tokens(keys, IDS[:4], small, rate=rates)


KEYS, ROWS = row_keys(ROOT, 0, jnp.arange(3)), IDS[:3]
TABLE = np.ones(V, np.float32)


def entry(value):
    """A table with one odd entry."""
    return np.where(np.arange(V) == 9, value, TABLE)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"unit_starts": ROWS}, "unit_starts are int32\\[3, 64\\]; give bool of shape"),
        ({"unit_starts": ROWS[:2] > 9}, "are bool\\[2, 64\\]; give bool.* of shape \\[3, 64\\]"),
        ({"unit_starts": [[True] * L] * 3}, "unit_starts are list; give bool"),
        ({"weights": TABLE[:-1]}, "weights are float32\\[199\\]; give .* \\[200\\] or \\[3, 64\\]"),
        ({"weights": TABLE.astype(int)}, "weights are int64\\[200\\]; give floating"),
        ({"weights": "frequency"}, "weights are str; give floating"),
        ({"weights": entry(-1)}, "weights hold -1.0; give finite numbers, 0 or more"),
        ({"weights": entry(np.nan)}, "weights hold nan"),
        ({"weights": entry(np.inf)}, "weights hold inf"),
        ({"weights": -np.ones(ROWS.shape)}, "weights hold -1.0"),
        (
            {"random_cdf": np.ones(195, np.uint32)},
            "uint32\\[195\\]; give uint32 of shape \\[196\\]",
        ),
        ({"random_cdf": np.ones(196)}, "random_cdf are float64\\[196\\]; give uint32"),
        ({"copies": 0}, "copies is 0; give the number of copies"),
        ({"copies": 2.0}, "copies is 2.0; give an integer"),
        ({"copies": 11}, "copies is 11 and rate 0.1: .* more than there is; give 10 copies"),
        ({"copies": 3, "rate": np.array([0.1, 0.2, 0.4])}, "3 and rate 0.4: .* give 2 copies"),
        ({"prediction_rate": 0.2}, "prediction_rate 0.2 is above rate 0.1; predict what"),
        ({"prediction_rate": np.array([0.0, 0.1, 0.3])}, "rate 0.3 is above rate 0.1"),
        ({"prediction_rate": 2}, "prediction_rate is 2; give a share"),
        ({"prediction_rate": np.zeros(2)}, "prediction_rate has shape \\(2,\\); give one share"),
    ],
)
def test_wrong_units_weights_and_copies_are_refused_in_one_line(arguments, words):
    with pytest.raises(ValueError, match=words) as error:
        mask_tokens(KEYS, ROWS, SPEC, **{"rate": 0.1, **arguments})
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"weights": TABLE}, "weights are given and count is 'bernoulli'; a coin"),
        ({"copies": 2}, "copies is 2 and count is 'bernoulli', whose coins"),
    ],
)
def test_what_coins_cannot_do(arguments, words):
    coins = MaskingSpec(V, MASK, 64, SPECIAL, count="bernoulli")
    with pytest.raises(ValueError, match=words):
        mask_tokens(KEYS, ROWS, coins, rate=0.1, **arguments)


def test_slots_for_corruption_and_for_predictions_are_told_apart():
    spec = MaskingSpec(V, MASK, 10, SPECIAL, corruption_length=20)
    mask_tokens(KEYS, ROWS, spec, rate=0.3, prediction_rate=0.15)
    with pytest.raises(
        ValueError, match="corruption_length 20 is too small: rate 0.4 .* select 26"
    ):
        mask_tokens(KEYS, ROWS, spec, rate=0.4, prediction_rate=0.15)
    with pytest.raises(ValueError, match="mask_selection_length 10 is too small: rate 0.2"):
        mask_tokens(KEYS, ROWS, spec, rate=0.3, prediction_rate=0.2)
    with pytest.raises(ValueError, match="mask_selection_length 10 is too small: rate 0.3"):
        mask_tokens(KEYS, ROWS, spec, rate=0.3)  # all that is selected is predicted
    small = MaskingSpec(V, MASK, 10, SPECIAL)
    with pytest.raises(ValueError, match="mask_selection_length 10 is too small: rate 0.3"):
        mask_tokens(KEYS, ROWS, small, rate=0.3, prediction_rate=0.1)


def test_coins_for_units_need_more_slots():
    coins = MaskingSpec(V, MASK, 30, SPECIAL, count="bernoulli")  # 9.6 + 6 * 2.86 are 27
    mask_tokens(KEYS, ROWS, coins, rate=0.15)
    with pytest.raises(ValueError, match="30 is too small: rate 0.15 of 64 tokens may select 59"):
        mask_tokens(KEYS, ROWS, coins, rate=0.15, unit_starts=ROWS > 9)


@pytest.mark.parametrize("copies", [3, 7])
def test_copies_of_a_fraction_that_floats_do_not_hold(copies):
    mask_tokens(KEYS, ROWS, SPEC, rate=1 / copies, copies=copies)


def test_traced_values_are_not_looked_at():
    masked = jax.jit(lambda rate, w: mask_tokens(KEYS, ROWS, SPEC, rate=rate, weights=w, copies=2))
    assert np.isfinite(masked(0.9, entry(np.nan)).mask_weights).all()
