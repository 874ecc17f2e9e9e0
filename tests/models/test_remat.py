"""What a gradient computes again changes what is kept for it, not its numbers.

What is kept is counted in the residuals of `jax.vjp`, on any platform the same. XLA's CPU compiler
drops the barriers that would hold the second computation back, so its own count stays as it was.
"""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mlm.models import DistilBertConfig, apply, create

CONFIG = DistilBertConfig(50, layers=4, width=32, heads=2, hidden=64, max_length=32)
KEY = jax.random.key(0)
BATCH = {
    "token_ids": jnp.arange(16 * 32).reshape(16, 32) % 50,
    "padding_mask": jnp.arange(32)[None].repeat(16, 0) < 30,
    "mask_positions": jnp.arange(4)[None].repeat(16, 0),
}


@functools.cache
def gradient(remat):
    """The gradients with dropout, and the bytes kept from the forward pass for them."""
    graphdef, params = create(dataclasses.replace(CONFIG, remat=remat), KEY)
    loss = lambda params: (apply(graphdef, params, BATCH, key=KEY) ** 2).mean()  # noqa: E731
    kept = jax.tree.leaves(jax.eval_shape(lambda params: jax.vjp(loss, params)[1], params))
    return jax.jit(jax.grad(loss))(params), sum(x.size * x.dtype.itemsize for x in kept)


@pytest.mark.parametrize("remat", ["layers", "dots"])
def test_gradients_are_the_same_and_take_less_memory(remat):
    (grads, memory), (plain, most) = gradient(remat), gradient("none")
    for ours, theirs in zip(jax.tree.leaves(grads), jax.tree.leaves(plain), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-6 * np.abs(theirs).max() + 1e-9)
    assert memory < {"layers": 0.25, "dots": 0.5}[remat] * most


def test_keeping_the_products_takes_more_than_keeping_inputs():
    assert gradient("layers")[1] < gradient("dots")[1]


@pytest.mark.parametrize("field", ["remat", "attention"])
def test_other_ways_are_refused(field):
    with pytest.raises(ValueError, match=f"{field}='half' is not possible; it must be one of"):
        dataclasses.replace(CONFIG, **{field: "half"})
