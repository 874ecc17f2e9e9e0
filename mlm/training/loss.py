"""The masked-LM loss, as sums: divided once, after all devices and microbatches were added up.

A mean per device is wrong as soon as devices hold different numbers of masks (run_mlm_flax did
that), a mean per microbatch likewise. B batch, P mask slots, V vocabulary.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax


class LossSums(NamedTuple):
    """`float32` sums over masked tokens; they add across batches."""

    loss: jax.Array  # weighted cross-entropy, nats
    weight: jax.Array  # masked tokens
    correct: jax.Array  # those whose most probable token is the label


def masked_cross_entropy(logits: jax.Array, labels: jax.Array, weights: jax.Array) -> LossSums:
    """Weighted sums of cross-entropy and hits over all mask slots.

    Args:
      logits: `float32[B, P, V]`, only at mask positions.
      labels: `int32[B, P]`, the original ids.
      weights: `float32[B, P]`, 0 in empty slots.
    """
    logits = logits.astype(jnp.float32)
    losses = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
    # Not argmax, which is thirty times slower on CPU; a tie for the first place counts as a hit.
    at_label = jnp.take_along_axis(logits, labels[..., None], axis=-1)[..., 0]
    hits = (at_label >= jnp.max(logits, axis=-1)).astype(jnp.float32)
    return LossSums(
        loss=jnp.sum(losses * weights),
        weight=jnp.sum(weights),
        correct=jnp.sum(hits * weights),
    )
