"""The masked-LM loss, as sums: divided once, after all devices and microbatches were added up.

A mean per device is wrong as soon as devices hold different numbers of masks (run_mlm_flax did
that), a mean per microbatch likewise. B batch, P mask slots, V vocabulary.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax


class LossSums(NamedTuple):
    """`float32` sums over masked tokens; they add across batches."""

    loss: jax.Array  # weighted losses: cross-entropy in nats, unless another is chosen
    weight: jax.Array  # masked tokens
    correct: jax.Array  # those whose most probable token is the label


# loss(logits float32[B, P, V], labels int32[B, P]) -> float32[B, P]
SlotLoss = Callable[[jax.Array, jax.Array], jax.Array]


def masked_loss(
    logits: jax.Array, labels: jax.Array, weights: jax.Array, *, loss: SlotLoss
) -> LossSums:
    """Weighted sums of a loss and of hits over all mask slots.

    Args:
      logits: `float32[B, P, V]`, only at mask positions.
      labels: `int32[B, P]`, the original ids.
      weights: `float32[B, P]`, 0 in empty slots.
      loss: of each slot, not their mean.

    Raises:
      ValueError: the loss is not one number per slot.
    """
    logits = logits.astype(jnp.float32)
    losses = loss(logits, labels)
    if jnp.shape(losses) != labels.shape:
        raise ValueError(
            f"the loss has shape {jnp.shape(losses)} for labels {labels.shape}; give one number "
            "per mask slot, not their mean"
        )
    # Not argmax, which is thirty times slower on CPU; a tie for the first place counts as a hit.
    at_label = jnp.take_along_axis(logits, labels[..., None], axis=-1)[..., 0]
    hits = (at_label >= jnp.max(logits, axis=-1)).astype(jnp.float32)
    return LossSums(
        loss=jnp.sum(losses * weights),
        weight=jnp.sum(weights),
        correct=jnp.sum(hits * weights),
    )


def masked_cross_entropy(logits: jax.Array, labels: jax.Array, weights: jax.Array) -> LossSums:
    """`masked_loss` with cross-entropy in nats."""
    cross_entropy = optax.softmax_cross_entropy_with_integer_labels
    return masked_loss(logits, labels, weights, loss=cross_entropy)
