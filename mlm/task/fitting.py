"""How the object learns: the settings of `compile`, and epochs over rows in memory.

The step is that of `mlm.training`; here are only the loop around it and what it tells.
"""

import dataclasses
import functools
import math
from collections.abc import Callable, Iterable
from typing import Any

import optax

from mlm.errors import NonFiniteError
from mlm.training.loss import LossSums, SlotLoss, cross_entropy, masked_loss
from mlm.training.metrics import Interval, host
from mlm.training.optimizer import OptimizerSettings, Schedule, make_optimizer
from mlm.training.progress import ProgressDisplay
from mlm.training.signals import StopRequest
from mlm.training.step import Batch, Params, StepMetrics, TrainState

# KerasHub's default: Adam, constant, neither decay nor clipping.
OPTIMIZER, LEARNING_RATE = "adam", 5e-5
VALIDATION = ("loss", "accuracy", "perplexity", "top5")


@dataclasses.dataclass(frozen=True, eq=False)
class Settings:
    """What `compile` decides.

    Attributes:
      tx: the optimizer.
      loss: of each mask slot, see `mlm.training.loss`.
      jit_compile: False runs operation by operation, for looking into it.
    """

    tx: optax.GradientTransformation
    loss: SlotLoss = cross_entropy
    jit_compile: bool = True

    @property
    def loss_sums(self) -> Callable[..., LossSums]:
        """`loss_sums(logits, labels, weights)`."""
        return functools.partial(masked_loss, loss=self.loss)


def make_settings(
    loss: SlotLoss | None = None,
    optimizer: str | optax.GradientTransformation | None = None,
    learning_rate: float | Schedule | None = None,
    jit_compile: bool = True,
) -> Settings:
    """The settings of `DistilBertMaskedLM.compile`; raises ValueError where they cannot be."""
    if loss is not None and not callable(loss):
        raise ValueError(
            f"loss is {loss!r}; give a function (logits float32[B, P, V], labels int32[B, P]) -> "
            "float32[B, P], or None for cross-entropy"
        )
    tx = _optimizer(optimizer, learning_rate)
    return Settings(tx, cross_entropy if loss is None else loss, bool(jit_compile))


@dataclasses.dataclass
class History:
    """What `fit` returns.

    Attributes:
      history: by name ('loss', 'accuracy', 'val_loss', ...) a value for each epoch.
      epoch: the epochs of this fit, from 0.
    """

    history: dict[str, list[float]] = dataclasses.field(default_factory=dict)
    epoch: list[int] = dataclasses.field(default_factory=list)

    def add(self, epoch: int, values: dict[str, float]) -> None:
        self.epoch.append(epoch)
        for name, value in values.items():
            self.history.setdefault(name, []).append(value)


def run_epochs(
    step: Callable[[TrainState, Batch], tuple[TrainState, StepMetrics]],
    state: TrainState,
    *,
    batches: Callable[[int], Iterable[Batch]],
    epochs: int,
    slots: int,
    masks: bool,
    validate: Callable[[Params], dict[str, Any] | None],
    display: ProgressDisplay,
    stop: StopRequest,
) -> tuple[TrainState, History]:
    """Trains for some epochs, or until a stop is asked for: the new state, and what was measured.

    Args:
      step: from `make_train_step`.
      state: its buffers are reused.
      batches: those of an epoch, on the devices.
      slots: B * L.
      masks: whether the step masks, so that there is a rate to report.
      validate: called after each epoch; None instead of a dict when it was stopped.

    Raises:
      NonFiniteError: a loss or gradient is not finite.
    """
    history, done = History(), 0

    def finish(interval: Interval, metrics: StepMetrics) -> None:
        """Fetches the metrics of the step before, while the device works on this one."""
        nonlocal done
        done += 1
        try:
            interval.add(done, host(metrics))
        except NonFiniteError as error:
            raise NonFiniteError(
                f"{error}; the model is as it was before fit: compile it with a smaller "
                "learning_rate"
            ) from None
        if done == 1:  # it compiled
            display.start_clock(done)
        display.advance(done)

    for epoch in range(epochs):
        interval, pending = Interval(slots=slots), None
        for batch in batches(epoch):
            state, metrics = step(state, batch)
            if pending is not None:
                finish(interval, pending)
            pending = metrics
            if stop.signum:
                break
        finish(interval, pending)
        measured = None if stop.signum else validate(state.params)
        if measured is None:
            display.say(f"interrupted in epoch {epoch + 1}; what was learnt until then is kept")
            break
        line = _epoch_line(interval, masks)
        line |= {f"val_{name}": measured[name] for name in VALIDATION if name in measured}
        history.add(epoch, line)
        display.say(f"epoch {epoch + 1}/{epochs}  {_shown(line)}")
    return state, history


def _optimizer(optimizer: Any, learning_rate: Any) -> optax.GradientTransformation:
    if optimizer is not None and not isinstance(optimizer, str):
        if not callable(getattr(optimizer, "init", None)):
            raise ValueError(
                f"optimizer is {optimizer!r:.60}; give the name of one of optax, or one such as "
                "optax.adam(5e-5)"
            )
        if learning_rate is not None:
            raise ValueError(
                "learning_rate goes with the name of an optimizer; this one has its own already"
            )
        return optimizer
    rate = LEARNING_RATE if learning_rate is None else learning_rate
    if not callable(rate) and not _is_rate(rate):
        raise ValueError(f"learning_rate is {rate!r}; give a number from 0, or an optax schedule")
    schedule = rate if callable(rate) else optax.constant_schedule(float(rate))
    name = OPTIMIZER if optimizer is None else optimizer
    settings = OptimizerSettings(name, {}, 0.0, "constant", warmup_steps=0, clip_norm=0.0)
    return make_optimizer(settings, schedule)


def _is_rate(value: Any) -> bool:
    try:
        return not isinstance(value, str) and math.isfinite(value) and value >= 0
    except TypeError:
        return False


def _epoch_line(interval: Interval, masks: bool) -> dict[str, float]:
    line = interval.line()
    names = {"train/loss": "loss", "train/accuracy": "accuracy"}
    if masks:
        names |= {"masking/realised_rate": "realised_rate", "masking/overflow": "overflow"}
    return {ours: line[name] for name, ours in names.items()}


def _shown(line: dict[str, Any]) -> str:
    names = ("loss", "accuracy", "val_loss", "val_accuracy")
    shown = [f"{name} {line[name]:.4f}" for name in names if name in line]
    if line.get("overflow"):
        shown.append(f"{line['overflow']:.0f} selected tokens beyond mask_selection_length")
    return "  ".join(shown)
