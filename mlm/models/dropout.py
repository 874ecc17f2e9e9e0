"""Dropout as a function of key and shape alone, so that it is the same on any number of devices."""

import jax
import jax.numpy as jnp


def dropout(x: jax.Array, *, rate: float, key: jax.Array | None) -> jax.Array:
    """`x` with each element zero at probability `rate` and the others divided by `1 - rate`.

    Without a key it gives `x` back.
    """
    if key is None or rate == 0:
        return x
    keep = jax.random.bernoulli(key, 1 - rate, x.shape)
    return jnp.where(keep, x / (1 - rate), 0)


def fold_in(key: jax.Array | None, place: int) -> jax.Array | None:
    """The dropout key of one place in the model; None, which means no dropout, stays None."""
    return None if key is None else jax.random.fold_in(key, place)
