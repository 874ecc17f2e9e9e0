"""Any optax optimizer by name, with warm-up, a schedule, clipping and a weight decay mask."""

import dataclasses
import inspect
from collections.abc import Callable, Mapping
from typing import Literal

import jax
import jax.numpy as jnp
import optax

from mlm.errors import ConfigError

OURS = ("learning_rate", "mask")  # arguments that no config gives
Schedule = Callable[[jax.Array | int], jax.Array]


@dataclasses.dataclass(frozen=True)
class OptimizerSettings:
    """What `make_schedule` and `make_optimizer` need."""

    name: str
    args: Mapping[str, object]
    learning_rate: float
    schedule: Literal["linear", "cosine", "constant"]
    warmup_steps: int
    clip_norm: float  # 0: no clipping


def make_schedule(settings: OptimizerSettings, *, total_steps: int) -> Schedule:
    """The learning rate as a function of the step: linear warm-up, then down to 0 or constant."""
    peak, warmup = settings.learning_rate, min(settings.warmup_steps, total_steps)
    rest = max(1, total_steps - warmup)
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
    parameters = _parameters(factory)
    if "learning_rate" not in parameters:
        raise ConfigError(
            f"optimizer.name is {settings.name!r}, which is no optimizer of optax "
            f"{optax.__version__}; adamw, lamb, lion, adafactor or sgd are some"
        )
    known = [name for name in parameters if name not in OURS]
    given = {name: value for name, value in settings.args.items() if value is not None}
    unknown = sorted(set(given) - set(known))
    if unknown:
        raise ConfigError(
            f"optimizer.args has {', '.join(unknown)}, which optax.{settings.name} does not take; "
            f"its arguments are {', '.join(known)} (None removes one from the config)"
        )
    decay = {"mask": decay_mask} if {"mask", "weight_decay"} <= {*parameters} else {}
    try:
        optimizer = factory(learning_rate=schedule, **decay, **given)
        params = {"w": jax.ShapeDtypeStruct((2, 2), jnp.float32)}
        jax.eval_shape(lambda p: optimizer.update(p, optimizer.init(p), p), params)
    except Exception as error:
        reason = f"{type(error).__name__}: {str(error).splitlines()[0]}"
        raise ConfigError(
            f"optimizer.name {settings.name} does not work with optimizer.args {given} ({reason}); "
            "change one of them"
        ) from error
    if settings.clip_norm:
        return optax.chain(optax.clip_by_global_norm(settings.clip_norm), optimizer)
    return optimizer


def decay_mask(params: optax.Params) -> optax.Params:
    """True for matrices: biases and layer norms are not decayed (Devlin et al., BERT's code)."""
    return jax.tree.map(lambda leaf: leaf.ndim > 1, params)


def _parameters(factory: object) -> list[str]:
    try:
        return list(inspect.signature(factory).parameters)
    except (TypeError, ValueError):
        return []
