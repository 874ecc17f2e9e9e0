"""The training loop, told from top to bottom; everything it uses comes in as a function."""

import contextlib
import dataclasses
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import numpy as np

from mlm.bucket import is_in_bucket
from mlm.data.prefetch import prefetch
from mlm.errors import HungError, NonFiniteError, OutputError
from mlm.training.bucket_metrics import BucketMetricWriter
from mlm.training.checkpoint import Checkpoints, checkpoints_in
from mlm.training.evaluations import deciding_loss, evaluation_text, flat_evaluation
from mlm.training.metrics import Hardware, Interval, MetricWriter, NoWriter, host
from mlm.training.processes import is_first
from mlm.training.progress import ProgressDisplay
from mlm.training.signals import stop_on_signal
from mlm.training.status import warn_of_lost, write_first, write_status
from mlm.training.step import Batch, Params, StepMetrics, TrainState
from mlm.training.watchdog import Pulse, watched
from mlm.training.workdir import check_config, locked_workdir, write_json


@dataclasses.dataclass(frozen=True)
class Run:
    """The functions and numbers that make a training run.

    Attributes:
      init_state: a fresh state on the mesh.
      step: one training step, from `make_train_step`.
      batch_at: batch k, a pure function of k, as NumPy arrays.
      put: a NumPy batch to devices.
      evaluate: params to `{"token@0.15": {"loss": nats, ...}, ...}`, the first entry being the one
        that decides which checkpoint is best.
      total_steps, log_every, eval_every, save_every: in steps.
      pulse: what `evaluate` beats with each batch, or at least once in an hour.
      step_seconds: after which a step hangs; None: see `mlm.training.watchdog`.
      evaluate_first: whether the params are evaluated before the first step too.
      hardware: what speeds are related to.
      slots: B * L, for the share of padding and tokens per second.
      max_nonfinite_in_a_row: steps whose loss or gradient is not finite are skipped, and so many in
        a row end the run.
      keep_last, keep_best: checkpoints that stay.
      tensorboard: whether event files are written beside metrics.jsonl.
      config: all settings by dotted name, kept in the workdir as config.json.
      keep: called with the locked workdir before training: keeps there what the run is made from,
        or refuses to continue on something else.
      begin: called with the workdir and the step that training starts from.
    """

    init_state: Callable[[], TrainState]
    step: Callable[[TrainState, Batch], tuple[TrainState, StepMetrics]]
    batch_at: Callable[[int], dict[str, np.ndarray]]
    put: Callable[[dict[str, np.ndarray]], Batch]
    evaluate: Callable[[Params], dict[str, dict]]
    total_steps: int
    log_every: int
    eval_every: int
    save_every: int
    slots: int
    hardware: Hardware = Hardware()
    pulse: Pulse = dataclasses.field(default_factory=Pulse)
    step_seconds: float | None = None
    evaluate_first: bool = False
    max_nonfinite_in_a_row: int = 1
    keep_last: int = 1
    keep_best: int = 0
    tensorboard: bool = False
    config: Mapping[str, object] = dataclasses.field(default_factory=dict)
    keep: Callable[..., object] = lambda workdir: None
    begin: Callable[[Path, int], None] = lambda workdir, step: None


@dataclasses.dataclass(frozen=True)
class Outcome:
    """How a run ended."""

    step: int
    state: TrainState
    evaluation: dict[str, dict] | None  # of the last step; None if a signal came first
    exit_code: int  # 0, or 130 / 143 after a signal


def train(run: Run, workdir: str | Path) -> Outcome:
    """Trains to `run.total_steps`, from the newest checkpoint in `workdir` if there is one.

    A run that was killed continues bit for bit on the same machine and versions: batches, masks
    and dropout follow from the step. SIGTERM and Ctrl-C save and return.

    Raises:
      ConfigError: `workdir` holds a run with another config.
      CheckpointError: it began with another text.
      NonFiniteError: too many steps in a row were not finite; the last good checkpoint is named.
      WorkdirLockedError: another process trains in `workdir`.
      CheckpointError, OutputError: from reading and writing checkpoints and metrics.
    """
    with locked_workdir(workdir) as workdir:
        check_config(workdir, run.config)
        run.keep(workdir)
        write_json(workdir / "config.json", run.config)
        return train_in(workdir, run)


def train_in(
    workdir: Path, run: Run, *, hung: Callable[[HungError], None] | None = None
) -> Outcome:
    """`train`, in a folder that this process has locked and whose config is this run's.

    Called by all of several processes it trains one model: the first has locked the folder. When
    nothing goes on any more, `hung` is called in a thread to end the process.
    """
    with (
        stop_on_signal() as stop,
        checkpoints_in(
            workdir / "checkpoints", keep_last=run.keep_last, keep_best=run.keep_best
        ) as checkpoints,
        ProgressDisplay(total=run.total_steps, quiet=not is_first()) as display,
        watched(run.pulse, step_seconds=run.step_seconds, folder=workdir, hung=hung) as watch,
    ):
        # ---- where to start -------------------------------------------------------------------
        state = run.init_state()
        most = run.max_nonfinite_in_a_row
        interval = Interval(slots=run.slots, hardware=run.hardware, max_nonfinite_in_a_row=most)
        step = start = 0
        if found := checkpoints.restore_newest(like=state):
            step, state, sums = found
            start = step
            interval.resume(sums)
            display.say(f"continuing at step {start} of {run.total_steps}")
        else:
            warn_of_lost(workdir)
        if start < run.total_steps:
            run.begin(workdir, start)
            checkpoints.check_space(state)
        writer = _writer(workdir, run, start)
        evaluation, pending = None, None
        batches = prefetch(run.batch_at, start=start, stop=run.total_steps, put=run.put)

        def finish_pending():
            """Fetches the metrics of the step dispatched last, and logs its interval if due."""
            nonlocal pending
            if pending is None:
                return
            done, metrics = pending
            pending = None
            if note := interval.add(done, host(metrics)):
                display.say(note)
            watch.completed(done)
            if done == start + 1:  # it compiled: speed and time left are measured from here
                interval.start_clock()
                display.start_clock(done)
            display.advance(done)
            if done % run.log_every == 0 or done == run.total_steps:
                seen = {"train/tokens": done * run.slots}  # an int of Python, which never wraps
                line = interval.line() | seen | display.time_left(done)
                with watch.other("writing metrics"):  # a bucket may be away for a minute
                    writer.write(done, line)
                if not line.get("masking/realised_rate", 1):
                    display.say("nothing was predicted: python -m mlm doctor tells why")
                display.log(done, line)
                interval.restart()

        def evaluate() -> dict[str, dict]:
            """Evaluates the state as it is now, and logs it."""
            began = time.monotonic()
            with watch.other("an evaluation"):
                evaluation = run.evaluate(state.params)
                seconds = time.monotonic() - began
                spent = {"perf/evaluation_seconds": seconds}
                writer.write(step, flat_evaluation(evaluation) | spent)
            interval.pause(seconds)
            display.say(f"step {step}  {evaluation_text(evaluation)}")
            return evaluation

        def tell(kind: str, step: int):
            write_status(workdir, kind, step, run.total_steps, digest=checkpoints.digest)

        try:
            if run.evaluate_first and not start:
                write_first(workdir / "eval-0.json", {"step": 0, "masks": evaluate()})
            watch.begin(step)
            for batch in _timed(batches, interval.wait):
                # ---- one step -----------------------------------------------------------------
                state, metrics = run.step(state, batch)
                finish_pending()  # of the step before, while the device works on this one
                step += 1
                pending = (step, metrics)
                if step == start + 1:
                    finish_pending()
                last, stopping = step == run.total_steps, stop.asked_at(step)
                checkpoints.check()

                # ---- evaluate -----------------------------------------------------------------
                evaluation = None
                if last or (step % run.eval_every == 0 and not stopping):
                    finish_pending()
                    evaluation = evaluate()

                # ---- save ---------------------------------------------------------------------
                if last or stopping or step % run.save_every == 0:
                    finish_pending()
                    began = time.monotonic()
                    loss = deciding_loss(evaluation)
                    with watch.other("a save"):
                        writer.flush()
                        checkpoints.save(step, state, interval=interval.sums, loss=loss)
                        tell("running", step)
                        seconds = time.monotonic() - began
                        writer.write(step, {"perf/checkpoint_seconds": seconds})
                    interval.pause(seconds)
                if stopping:
                    break
            watch.doing = "the last save"
            writer.flush()
            checkpoints.wait()
        except NonFiniteError as error:
            tell("non-finite", step)
            raise NonFiniteError(f"{error}; {_way_out(checkpoints)}") from None
        finally:
            watch.doing = "the end"
            batches.close()
            writer.close()

        # ---- the end --------------------------------------------------------------------------
        complete = step == run.total_steps
        if complete and evaluation is None:  # it was complete before
            evaluation = run.evaluate(state.params)
        tell("complete" if complete else "stopped", step)
        return Outcome(step, state, evaluation, 0 if complete else stop.exit_code)


def _timed(batches: Iterator[Batch], spent: Callable[[float], None]) -> Iterator[Batch]:
    """The batches; `spent` is told the seconds that each was waited for."""
    while True:
        began = time.monotonic()
        batch = next(batches, None)
        spent(time.monotonic() - began)
        if batch is None:
            return
        yield batch
        del batch  # or it would live until the next one is there


def _writer(workdir: Path, run: Run, start: int) -> MetricWriter | BucketMetricWriter | NoWriter:
    if not is_first():
        return NoWriter()
    kind = BucketMetricWriter if is_in_bucket(workdir) else MetricWriter
    return kind(workdir, resume_step=start, tensorboard=run.tensorboard)


def _way_out(checkpoints: Checkpoints) -> str:
    with contextlib.suppress(OutputError):
        checkpoints.wait()
    last = checkpoints.latest()
    good = f"the last good checkpoint is step {last}" if last else "none was saved yet"
    return (
        f"{good}, in {checkpoints.folder}; a lower optimizer.learning_rate or optimizer.clip_norm "
        "in another workdir may help"
    )
