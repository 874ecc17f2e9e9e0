"""A loss that cannot be used in one process of several."""

import os

import jax.numpy as jnp


def loss(logits, labels):
    if os.environ.get("JAX_LOCAL_DEVICE_IDS") == "1":
        raise ArithmeticError("the loss of process 1 is broken")
    return jnp.zeros(labels.shape) + 0 * logits.sum()
