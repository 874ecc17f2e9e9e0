import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mlm.masking.threefry import threefry_bits

KEYS = jax.vmap(jax.random.key)(jnp.array([0, 1, 2**31 - 1, -5]))


@pytest.mark.parametrize("length", [1, 31, 128, 1000])
@pytest.mark.parametrize("x64", [False, True])
def test_the_bits_are_those_of_jax(length, x64):
    with jax.enable_x64(x64):
        theirs = jax.vmap(lambda key: jax.random.bits(key, (length,), "uint32"))(KEYS)
        counters = jnp.arange(length, dtype=jnp.uint32)[None]
        ours = threefry_bits(jax.random.key_data(KEYS), counters)
    assert ours.dtype == jnp.uint32
    np.testing.assert_array_equal(ours, theirs)


def test_any_counter_can_be_drawn_by_itself():
    whole = np.asarray(jax.vmap(lambda key: jax.random.bits(key, (500,)))(KEYS))
    at = np.random.default_rng(0).integers(0, 500, (4, 7)).astype(np.uint32)
    some = jax.jit(threefry_bits)(jax.random.key_data(KEYS), at)
    np.testing.assert_array_equal(some, np.take_along_axis(whole, at.astype(int), axis=1))


def test_the_published_vectors():
    # Random123's known answers for threefry2x32 with 20 rounds: the xor of the two words.
    # jax.random.bits counts (0, i), so of those only the all-zero one can be asked for.
    bits = threefry_bits(jnp.zeros((1, 2), jnp.uint32), jnp.zeros((1, 1), jnp.uint32))
    assert int(bits[0, 0]) == 0x6B200159 ^ 0x99BA4EFE
