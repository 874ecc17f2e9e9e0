"""The masked-LM loss, as sums: divided once, after all devices and microbatches were added up.

A mean per device is wrong as soon as devices hold different numbers of masks (run_mlm_flax did
that), a mean per microbatch likewise. B batch, P mask slots, V vocabulary.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax


class LossSums(NamedTuple):
    """`float32` sums over masked tokens; they add across batches."""

    loss: jax.Array  # weighted losses: cross-entropy in nats, unless another is chosen
    weight: jax.Array  # masked tokens
    correct: jax.Array  # those whose most probable token is the label


class SlotScores(NamedTuple):
    """How each mask slot was predicted, `float32[B, P]` each."""

    losses: jax.Array
    hits: jax.Array  # 1 where the most probable token is the label


# loss(logits float32[B, P, V], labels int32[B, P]) -> float32[B, P]
SlotLoss = Callable[[jax.Array, jax.Array], jax.Array]
# In nats.
cross_entropy: SlotLoss = optax.softmax_cross_entropy_with_integer_labels


def slot_scores(
    logits: jax.Array, labels: jax.Array, *, loss: SlotLoss = cross_entropy
) -> SlotScores:
    """The loss of every mask slot, and whether it was hit.

    Args:
      logits: `float32[B, P, V]`, only at mask positions.
      labels: `int32[B, P]`, the original ids.
      loss: of each slot, not their mean.

    Raises:
      ValueError: the loss is not one number per slot.
    """
    logits = logits.astype(jnp.float32)
    losses = loss(logits, labels)
    if np.shape(losses) != labels.shape:
        raise ValueError(
            f"the loss has shape {np.shape(losses)} for labels {labels.shape}; give one number "
            "per mask slot, not their mean"
        )
    # Not argmax, which is thirty times slower on CPU; a tie for the first place counts as a hit.
    at_label = jnp.take_along_axis(logits, labels[..., None], axis=-1)[..., 0]
    return SlotScores(losses, (at_label >= jnp.max(logits, axis=-1)).astype(jnp.float32))


def sum_scores(scores: SlotScores, weights: jax.Array) -> LossSums:
    """Sums weighted by `float32[B, P]`, which is 0 in empty slots."""
    return LossSums(
        loss=jnp.sum(scores.losses * weights),
        weight=jnp.sum(weights),
        correct=jnp.sum(scores.hits * weights),
    )


def masked_loss(
    logits: jax.Array, labels: jax.Array, weights: jax.Array, *, loss: SlotLoss
) -> LossSums:
    """`sum_scores` of `slot_scores`, where single slots are of no interest."""
    return sum_scores(slot_scores(logits, labels, loss=loss), weights)


def masked_cross_entropy(logits: jax.Array, labels: jax.Array, weights: jax.Array) -> LossSums:
    """`masked_loss` with cross-entropy in nats."""
    return masked_loss(logits, labels, weights, loss=cross_entropy)
