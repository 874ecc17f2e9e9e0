"""Losses that break one process of several."""

import os
import resource

import jax.numpy as jnp
import optax

IS_ONE = os.environ.get("JAX_LOCAL_DEVICE_IDS") == "1"


def loss(logits, labels):
    if IS_ONE:
        raise ArithmeticError("the loss of process 1 is broken")
    return jnp.zeros(labels.shape) + 0 * logits.sum()


def loss_on_a_full_disk(logits, labels):
    if IS_ONE:
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, resource.RLIM_INFINITY))
    return optax.losses.softmax_cross_entropy_with_integer_labels(logits, labels)
