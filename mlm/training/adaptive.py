"""Selection weights that follow the model: what it predicts badly is masked more often.

AMLM (Edman & Fraser, BabyLM 2025) averages for each id the accuracy ("hard") or the loss ("soft")
of its predictions, exponentially over time, and masks ids by it. Here the average moves at every
step; theirs is refreshed every 200 batches. It is part of the train state and of checkpoints, so
masks depend on the state: they are re-created from the checkpoint, not from the config alone, and
on another number of devices they agree as far as the losses do.

V vocabulary, B batch, P mask slots.
"""

import dataclasses
import math
from typing import NamedTuple

import jax
import jax.numpy as jnp

from mlm.training.loss import SlotScores

# The least weight of an id, so that one that is always right is still tried now and then.
FLOOR = 0.01


@dataclasses.dataclass(frozen=True)
class Adaptive:
    """What is averaged for each id.

    Attributes:
      kind: 'accuracy' (1 for a hit, 0 for a miss) or 'loss' (that of training: nats, unless
        another is chosen).
      vocabulary_size: V.
      decay: what is left of the average after a step in which the id is predicted, in [0, 1).
    """

    kind: str
    vocabulary_size: int
    decay: float = 0.99


class IdSums(NamedTuple):
    """Sums per id over predicted tokens, `float32[V]` each; they add across microbatches."""

    total: jax.Array  # hits or losses, weighted
    weight: jax.Array  # predicted tokens


def init_table(adapt: Adaptive) -> jax.Array:
    """The averages before training, `float32[V]`: those of a model that guesses.

    No id is preferred then, and one that was never predicted keeps the weight of a guess.
    """
    guess = 0.0 if adapt.kind == "accuracy" else math.log(adapt.vocabulary_size)
    return jnp.full(adapt.vocabulary_size, guess, jnp.float32)


def id_sums(adapt: Adaptive, scores: SlotScores, labels: jax.Array, weights: jax.Array) -> IdSums:
    """Sums of a batch's scores by label.

    Args:
      scores: of each slot.
      labels: `int32[B, P]`, the original ids.
      weights: `float32[B, P]`, 0 in empty slots.
    """
    values = scores.hits if adapt.kind == "accuracy" else scores.losses
    zeros = no_sums(adapt).total
    return IdSums(zeros.at[labels].add(values * weights), zeros.at[labels].add(weights))


def no_sums(adapt: Adaptive) -> IdSums:
    """Sums over nothing."""
    return IdSums(*[jnp.zeros(adapt.vocabulary_size, jnp.float32)] * 2)


def update_table(adapt: Adaptive, table: jax.Array, sums: IdSums) -> jax.Array:
    """The averages after a step, `float32[V]`; ids that were not predicted keep theirs."""
    met = sums.weight > 0
    mean = sums.total / jnp.where(met, sums.weight, 1)
    return jnp.where(met, table + (1 - adapt.decay) * (mean - table), table)


def table_weights(table: jax.Array, kind: str) -> jax.Array:
    """Selection weights `float32[V]`, all above 0: how often the model is wrong, or its loss."""
    return jnp.maximum(1 - table if kind == "accuracy" else table, FLOOR)
