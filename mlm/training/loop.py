"""The training loop, told from top to bottom; everything it uses comes in as a function."""

import dataclasses
import time
from collections.abc import Callable
from pathlib import Path

import jax
import numpy as np

from mlm.data.prefetch import prefetch
from mlm.errors import NonFiniteError
from mlm.training.checkpoint import checkpoints_in
from mlm.training.metrics import Interval, MetricWriter, host
from mlm.training.progress import ProgressDisplay
from mlm.training.signals import stop_on_signal
from mlm.training.step import Batch, Params, StepMetrics, TrainState
from mlm.training.workdir import write_json


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
      slots: B * L, for the share of padding and tokens per second.
      keep_last, keep_best: checkpoints that stay.
      tensorboard: whether event files are written beside metrics.jsonl.
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
    keep_last: int = 1
    keep_best: int = 0
    tensorboard: bool = False


@dataclasses.dataclass(frozen=True)
class Outcome:
    """How a run ended."""

    step: int
    state: TrainState
    evaluation: dict[str, dict] | None  # of this step; None if a signal came first
    exit_code: int  # 0, or 130 / 143 after a signal


def train(run: Run, workdir: str | Path) -> Outcome:
    """Trains to `run.total_steps`, from the newest checkpoint in `workdir` if there is one.

    A run that was killed continues bit for bit on the same machine and versions: batches, masks
    and dropout follow from the step. SIGTERM and Ctrl-C save and return.

    Raises:
      NonFiniteError: loss or gradient is not finite; the last good checkpoint is named.
      CheckpointError, OutputError: from reading and writing checkpoints and metrics.
    """
    workdir = Path(workdir)
    workdir.mkdir(parents=True, exist_ok=True)
    with (
        stop_on_signal() as stop,
        checkpoints_in(
            workdir / "checkpoints", keep_last=run.keep_last, keep_best=run.keep_best
        ) as checkpoints,
    ):
        # ---- where to start -------------------------------------------------------------------
        state = run.init_state()
        step = start = checkpoints.latest() or 0
        if start:
            state = checkpoints.restore(start, like=state)
        writer = MetricWriter(workdir, resume_step=start, tensorboard=run.tensorboard)
        interval = Interval(slots=run.slots)
        evaluation, pending = None, None
        batches = prefetch(run.batch_at, start=start, stop=run.total_steps, put=run.put)

        with ProgressDisplay(start=start, total=run.total_steps) as display:
            if start:
                display.say(f"continuing at step {start} of {run.total_steps}")

            def finish_pending():
                """Fetches the metrics of the step dispatched last, and logs its interval if due."""
                nonlocal pending
                if pending is None:
                    return
                done, metrics = pending
                pending = None
                interval.add(done, host(metrics))
                display.advance(done)
                if done % run.log_every == 0 or done == run.total_steps:
                    line = interval.line()
                    writer.write(done, line)
                    display.log(done, line)
                    interval.restart()

            try:
                for batch in batches:
                    # ---- one step -----------------------------------------------------------
                    state, metrics = run.step(state, batch)
                    # The device works on this step while the host reads the one before.
                    finish_pending()
                    step += 1
                    pending = (step, metrics)
                    if step == start + 1:
                        finish_pending()  # it compiled: not counted in speed and time left
                        interval.start_clock()
                        display.start_clock()

                    # ---- evaluate -----------------------------------------------------------
                    evaluation = None
                    if step % run.eval_every == 0 or step == run.total_steps:
                        finish_pending()
                        began = time.monotonic()
                        evaluation = run.evaluate(state.params)
                        writer.write(step, _flat(evaluation))
                        display.say(f"step {step}  {_summary(evaluation)}")
                        interval.pause(time.monotonic() - began)

                    # ---- save ---------------------------------------------------------------
                    due = step % run.save_every == 0 or step == run.total_steps or stop.signum
                    if due:
                        finish_pending()
                        began = time.monotonic()
                        checkpoints.save(step, state, loss=_first_loss(evaluation))
                        _write_status(workdir, "running", step, run.total_steps)
                        interval.pause(time.monotonic() - began)
                    if stop.signum:
                        break
                checkpoints.wait()
            except NonFiniteError as error:
                last = checkpoints.latest()
                good = f"the last good checkpoint is step {last}" if last else "none was saved yet"
                _write_status(workdir, "non-finite", step, run.total_steps)
                raise NonFiniteError(
                    f"{error}; {good}, in {checkpoints.folder}; a lower optimizer.learning_rate or "
                    "optimizer.clip_norm in another workdir may help"
                ) from None
            finally:
                batches.close()
                writer.close()

        # ---- the end -------------------------------------------------------------------------
        if evaluation is None and not stop.signum:
            evaluation = run.evaluate(state.params)
        ended = "complete" if step == run.total_steps else "stopped"
        _write_status(workdir, ended, step, run.total_steps)
        return Outcome(step, state, evaluation, stop.exit_code)


def _write_status(workdir: Path, state: str, step: int, total: int) -> None:
    if jax.process_index() == 0:
        write_json(workdir / "status.json", {"state": state, "step": step, "total_steps": total})


def _flat(evaluation: dict[str, dict]) -> dict[str, float]:
    return {
        f"eval/{kind}/{name}": value
        for kind, values in evaluation.items()
        for name, value in values.items()
        if isinstance(value, (int, float))
    }


def _summary(evaluation: dict[str, dict]) -> str:
    return "  ".join(
        f"{kind}: loss {values['loss']:.3f} (unigram {values['unigram_loss']:.3f}), "
        f"top-1 {values['top1']:.3f}"
        for kind, values in evaluation.items()
    )


def _first_loss(evaluation: dict[str, dict] | None) -> float | None:
    return next(iter(evaluation.values()))["loss"] if evaluation else None
