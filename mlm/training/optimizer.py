"""Any optax optimizer by name, with warm-up, a schedule, clipping and a weight decay mask."""

import dataclasses
import inspect
from collections.abc import Callable, Mapping
from typing import Literal

import jax
import optax

from mlm.errors import ConfigError

Schedule = Callable[[jax.Array | int], jax.Array]


@dataclasses.dataclass(frozen=True)
class OptimizerSettings:
    """What `make_optimizer` needs; durations are in steps."""

    name: str
    args: Mapping[str, object]
    learning_rate: float
    schedule: Literal["linear", "cosine", "constant"]
    warmup_steps: int
    total_steps: int
    clip_norm: float  # 0: no clipping


def make_schedule(settings: OptimizerSettings) -> Schedule:
    """The learning rate as a function of the step: linear warm-up, then down to 0 or constant."""
    peak, warmup = settings.learning_rate, min(settings.warmup_steps, settings.total_steps)
    rest = max(1, settings.total_steps - warmup)
    after = {
        "linear": optax.linear_schedule(peak, 0.0, rest),
        "cosine": optax.cosine_decay_schedule(peak, rest),
        "constant": optax.constant_schedule(peak),
    }[settings.schedule]
    # Step 0 already learns: a warm-up of w steps begins at peak / w.
    return optax.join_schedules(
        [optax.linear_schedule(peak / warmup, peak, warmup), after], [warmup]
    )


def make_optimizer(settings: OptimizerSettings, schedule: Schedule) -> optax.GradientTransformation:
    """Clipping by the global norm, then the named optimizer with the schedule.

    Optimizers that take a `mask` for their weight decay get `decay_mask`.

    Raises:
      ConfigError: for a name that optax lacks or arguments that the optimizer does not take.
    """
    factory = getattr(optax, settings.name, None)
    if not callable(factory) or "learning_rate" not in _parameters(factory):
        raise ConfigError(
            f"optimizer.name is {settings.name!r}, which is no optimizer of optax "
            f"{optax.__version__}; adamw, lamb, lion, adafactor or sgd are some"
        )
    known = _parameters(factory)
    given = {name: value for name, value in settings.args.items() if value is not None}
    unknown = sorted(set(given) - set(known))
    if unknown:
        raise ConfigError(
            f"optimizer.args has {', '.join(unknown)}, which optax.{settings.name} does not take; "
            f"its arguments are {', '.join(known)} (None removes one from the config)"
        )
    decay = {"mask": decay_mask} if "mask" in known and "weight_decay" in known else {}
    optimizer = factory(learning_rate=schedule, **decay, **given)
    if settings.clip_norm:
        return optax.chain(optax.clip_by_global_norm(settings.clip_norm), optimizer)
    return optimizer


def decay_mask(params: optax.Params) -> optax.Params:
    """True for matrices: biases and layer norms are not decayed (Devlin et al., BERT's code)."""
    return jax.tree.map(lambda leaf: leaf.ndim > 1, params)


def _parameters(factory: Callable) -> list[str]:
    try:
        return list(inspect.signature(factory).parameters)
    except (TypeError, ValueError):
        return []
