"""Some steps of a run under jax's profiler: what the host and the devices did, and for how long.

What is written is TensorBoard's layout: `plugins/profile/TIME/HOST.xplane.pb`, and beside it the
timeline as `HOST.trace.json.gz`. Imports jax only when steps are profiled.
"""

import contextlib
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from mlm.bucket import is_in_bucket, told_as
from mlm.errors import ConfigError, OutputError

if TYPE_CHECKING:
    from mlm.training.step import Batch, StepMetrics, TrainState

    Step = Callable[[TrainState, Batch], tuple[TrainState, StepMetrics]]


class Steps(NamedTuple):
    """The first and the last of some steps; the first of a run is 1."""

    first: int
    last: int

    def __str__(self) -> str:
        return f"{self.first}-{self.last}"


def read_steps(text: str) -> Steps:
    """The steps of '100-105'; raises ConfigError for anything else."""
    found = re.fullmatch(r"(\d+)-(\d+)", text)
    steps = Steps(*map(int, found.groups())) if found else Steps(0, 0)
    if not 1 <= steps.first <= steps.last:
        raise ConfigError(
            f"--profile_steps is {text}; it needs two steps of the run, the first of which is 1: "
            "--profile_steps=100-105"
        )
    return steps


def check_within(steps: Steps | None, total_steps: int) -> None:
    """Raises ConfigError where a run of `total_steps` ends before `steps` do."""
    if steps and steps.last > total_steps:
        raise ConfigError(
            f"--profile_steps is {steps} and the run ends at step {total_steps}; choose steps up "
            "to there"
        )


@contextlib.contextmanager
def profiled(step: "Step", steps: Steps | None, folder: Path, *, say: Callable) -> Iterator["Step"]:
    """`step`, of which the calls for `steps` are profiled, into `folder`.

    The profile covers whole steps: it begins when the step before has ended and ends with the last
    one, or with the context if that comes first. What happens between two of them, an evaluation
    for instance, is in it. A run that continues between `steps` profiles those that are left.

    Args:
      step: of training; at the first call the state tells which step of the run it is.
      steps: None: none are.
      say: called with a line on where the profile lies, or why there is none.
    """
    if steps is None:
        yield step
        return
    import jax

    # The profiler writes to disks alone.
    traces = Path(tempfile.mkdtemp(prefix="mlm-profile-")) if is_in_bucket(folder) else folder
    taken, began, metrics = None, None, None  # steps before, the profile's first, the newest

    def stop() -> None:
        nonlocal began
        if began:
            _stop(Steps(began, taken), metrics, traces, folder, say)
        began = None

    def traced(state: "TrainState", batch: "Batch") -> tuple["TrainState", "StepMetrics"]:
        nonlocal taken, began, metrics
        if taken is None:
            taken = int(state.step)
            if taken >= steps.last:
                say(f"--profile_steps is {steps}, which the run has behind it: nothing is profiled")
        if began is None and steps.first <= taken + 1 <= steps.last:
            jax.block_until_ready(state)
            jax.profiler.start_trace(traces)
            began = taken + 1
        with jax.profiler.StepTraceAnnotation("train", step_num=taken + 1):
            state, metrics = step(state, batch)
        taken += 1
        if taken == steps.last:
            stop()
        return state, metrics

    try:
        yield traced
    finally:
        stop()


def _stop(steps: Steps, metrics: "StepMetrics", traces: Path, folder: Path, say: Callable) -> None:
    """Waits for the step of `metrics` and writes the profile; that it fails stops no run."""
    import jax

    try:
        jax.block_until_ready(metrics)
        jax.profiler.stop_trace()
        if traces is not folder:
            _move(traces, folder)
    except (RuntimeError, OutputError) as error:
        say(f"the profile of steps {steps} could not be written to {folder}: {error}")
        return
    say(
        f"the profile of steps {steps} lies in {folder}: open it by xprof --logdir={folder} "
        "(pip install xprof), or its .trace.json.gz at ui.perfetto.dev"
    )


def _move(traces: Path, folder: Path) -> None:
    for file in (path for path in traces.rglob("*") if path.is_file()):
        with told_as(OutputError, str(folder)):
            (folder / str(file.relative_to(traces))).write_bytes(file.read_bytes())
    shutil.rmtree(traces)
