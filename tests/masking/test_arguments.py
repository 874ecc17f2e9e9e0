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
