"""Loss spikes: a loss far above those of the steps before, which may undo what was learnt.

The rule is that of OLMo-core (`SkipStepOptimizer`): more than 6 standard deviations above the mean
of the last 128 losses, once half of them are there. Two things differ. A loss that is no number is
no loss and never enters the window: in MaxText one of them made the rule skip the 129 steps after.
And a spike enters it cut down to the limit, so that one does not hide the next, as a loss a hundred
times as high would for 128 steps, while losses that stay high, after a schedule has raised the
rate of masking, say, are ordinary again after some steps.
"""

import jax
import jax.numpy as jnp

WINDOW = 128  # losses
LEAST = WINDOW // 2  # of them, before any loss is a spike
DEVIATIONS = 6.0
ROUNDING = 1e-5  # of the mean: equal losses differ by less


def no_losses() -> jax.Array:
    """The window before training, `float32[WINDOW]`: NaN where there is no loss yet."""
    return jnp.full(WINDOW, jnp.nan, jnp.float32)


def spike_limit(recent: jax.Array) -> jax.Array:
    """What a loss must exceed to be a spike, `float32[]`; infinite as long as losses are few."""
    there = jnp.isfinite(recent)
    count = jnp.maximum(jnp.sum(there), 2)
    mean = jnp.sum(recent, where=there) / count
    variance = jnp.sum((recent - mean) ** 2, where=there) / (count - 1)
    deviation = jnp.maximum(jnp.sqrt(variance), ROUNDING * jnp.abs(mean))
    limit = mean + DEVIATIONS * deviation
    return jnp.where(jnp.sum(there) < LEAST, jnp.inf, limit)


def watch(recent: jax.Array, loss: jax.Array, *, counts: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Whether `loss` is a spike, `bool[]`, and the window after it.

    Args:
      recent: `float32[WINDOW]`, newest last.
      loss: `float32[]`, nats per masked token.
      counts: `bool[]`; False: there was no loss in this step, and the window stays.
    """
    limit = spike_limit(recent)
    after = jnp.append(recent[1:], jnp.minimum(loss, limit))
    return counts & (loss > limit), jnp.where(counts, after, recent)
