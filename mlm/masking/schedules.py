"""How a rate goes through a run, as a table of values that a traced step looks up.

The values are computed on the host, in float64 and rounded once, so they are the same bits on every
device, inside jit and outside of it; a formula of cosines would differ in the last bit, and a rate
that does may select other tokens. Nothing here needs jax before a step is traced.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np

# From the start value to the final one; 'reversed' is 'linear' the other way round, Ankner et al.'s
# counter-example (arXiv:2305.15096).
SCHEDULES = ("constant", "linear", "cosine", "step", "reversed")
MOST_VALUES = 10_000  # of a table; longer runs keep each value for several steps


@dataclasses.dataclass(frozen=True, eq=False)
class Schedule:
    """A rate of every step of a run, made by `make_rate_schedule` or `own_rate_schedule`.

    Attributes:
      values: `float32[K]`, in order.
      width: steps that each value lasts.
    """

    values: np.ndarray
    width: int = 1

    def __call__(self, step: Any) -> Any:
        """`float32[]` at `step`, an integer or a traced `int32[]`; the last value from then on."""
        last = len(self.values) - 1
        if isinstance(step, int | np.integer):
            return self.values[min(int(step) // self.width, last)]
        import jax.numpy as jnp  # rules read this module before jax may be imported

        return jnp.asarray(self.values)[jnp.minimum(step // self.width, last)]

    @property
    def largest(self) -> float:
        """The largest value of the run, which decides the number of mask slots."""
        return float(self.values.max())

    @property
    def smallest(self) -> float:
        """The smallest value of the run."""
        return float(self.values.min())


def make_rate_schedule(
    kind: str, start: float, final: float | None = None, *, total_steps: int, stages: int = 2
) -> Schedule:
    """The `Schedule` of one of `SCHEDULES`: step 0 has the first value, the last step the last one.

    In runs of more than 10,000 steps a value lasts several steps, so that there are at most 10,000.

    Args:
      kind: 'constant'; 'linear'; 'cosine' (half a period, flat at both ends); 'step', evenly spaced
        values, each for an equal part of the run; 'reversed', linear from `final` to `start`.
      start: the value that the run begins with ('reversed': ends with).
      final: the one at the other end; None: `start`, all along.
      total_steps: of the run.
      stages: values of 'step'; 2 of .30 and .15 are .30 and then .15.

    Raises:
      ValueError: an unknown kind, values outside [0, 1], fewer than 2 stages.
    """
    if kind not in SCHEDULES:
        raise ValueError(f"schedule is {kind!r}; choose one of {', '.join(SCHEDULES)}")
    if kind == "step" and stages < 2:
        raise ValueError(f"stages is {stages}; 'step' needs 2 or more values to go through")
    final = start if final is None or kind == "constant" else final
    for value in (start, final):
        if not 0 <= value <= 1:
            raise ValueError(f"schedule goes from {start} to {final}; give shares between 0 and 1")
    width, size = _pieces(total_steps)
    way = _way(kind, size, stages)
    values = start * (1 - way) + final * way
    return Schedule(np.clip(values, min(start, final), max(start, final)).astype(np.float32), width)


def own_rate_schedule(
    function: Callable[[np.float32, int], float], *, total_steps: int, name: str = "schedule"
) -> Schedule:
    """The `Schedule` of `function(step, total_steps) -> rate`, called on the host before the run.

    It is called for every step from 0 to total_steps - 1; in runs of more than 10,000 steps for at
    most 10,000 evenly spaced ones, and a value lasts until the next. What it returns may be a
    float or an array without dimensions, of NumPy or JAX.

    Args:
      name: of the function, for errors.

    Raises:
      ValueError: a value that is no number in [0, 1], with the step it stands at.
    """
    width, size = _pieces(total_steps)
    values = np.empty(size, np.float32)
    for i in range(size):
        step = i * width
        value = function(np.float32(step), total_steps)
        try:
            value = float(value)
        except (TypeError, ValueError):
            value = type(value).__name__
        if isinstance(value, str) or not 0 <= value <= 1:
            raise ValueError(
                f"{name} is {value} at step {step} of {total_steps}; return a share between 0 and 1"
            )
        values[i] = value
    return Schedule(values, width)


def _pieces(total_steps: int) -> tuple[int, int]:
    """How many steps a value lasts, and how many values there are."""
    if total_steps < 1:
        raise ValueError(f"total_steps is {total_steps}; a schedule needs 1 or more")
    width = -(-total_steps // MOST_VALUES)
    return width, -(-total_steps // width)


def _way(kind: str, size: int, stages: int) -> np.ndarray:
    """`float64[size]`: the share of the way from start to final."""
    place = np.arange(size)
    way = place / max(1, size - 1)
    if kind == "constant":
        return np.zeros(size)
    if kind == "cosine":
        return (1 - np.cos(np.pi * way)) / 2
    if kind == "step":
        stages = min(stages, size)
        return place * stages // size / max(1, stages - 1)
    return 1 - way if kind == "reversed" else way
