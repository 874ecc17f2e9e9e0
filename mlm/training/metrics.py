"""What a run writes down: sums over a log interval, one JSON line each, TensorBoard beside it."""

import json
import time
from collections.abc import Mapping
from pathlib import Path

import jax
import numpy as np

from mlm.errors import NonFiniteError, OutputError
from mlm.training.step import StepMetrics


class Interval:
    """Sums of the steps since the last log line.

    The clock runs from the end of the previous line; `pause` takes out what is not training, and
    `start_clock` leaves the steps so far, which compiled, out of the speeds.
    """

    def __init__(self, *, slots: int):
        self.slots = slots  # B * L, padding included
        self.restart()

    def restart(self) -> None:
        self.steps = self.untimed_steps = 0
        self.paused, self.start = 0.0, time.monotonic()
        self.loss = self.masked = self.correct = self.tokens = 0.0
        self.selectable = self.overflow = 0.0

    def start_clock(self) -> None:
        self.untimed_steps, self.start = self.steps, time.monotonic()

    def pause(self, seconds: float) -> None:
        self.paused += seconds

    def add(self, step: int, metrics: StepMetrics) -> None:
        """Adds the metrics of `step`, already on the host.

        Raises:
          NonFiniteError: its loss or gradient is not finite.
        """
        if not metrics.finite:
            raise NonFiniteError(
                f"non-finite loss or gradient in step {step} (loss sum {metrics.sums.loss:g}, "
                f"gradient norm {metrics.grad_norm:g}; step {step - 1} was finite)"
            )
        self.steps += 1
        self.loss += float(metrics.sums.loss)
        self.masked += float(metrics.sums.weight)
        self.correct += float(metrics.sums.correct)
        self.selectable += float(metrics.counts.selectable)
        self.overflow += float(metrics.counts.overflow)
        self.tokens += float(metrics.tokens)
        self.last = metrics

    def line(self) -> dict[str, float]:
        """Means and rates over the interval, for `metrics.jsonl`."""
        masked = max(self.masked, 1.0)
        return {
            "train/loss": self.loss / masked,  # nats per masked token
            "train/accuracy": self.correct / masked,
            "train/learning_rate": float(self.last.learning_rate),
            "train/gradient_norm": float(self.last.grad_norm),
            "masking/realised_rate": self.masked / max(self.selectable, 1.0),
            "masking/overflow": self.overflow,  # tokens
            "data/padding_share": 1 - self.tokens / (self.slots * self.steps),
            "steps": self.steps,  # that this line covers
            **self._speeds(),
        }

    def _speeds(self) -> dict[str, float]:
        timed_steps = self.steps - self.untimed_steps
        if not timed_steps:
            return {}
        seconds = time.monotonic() - self.start - self.paused
        per_second = timed_steps / self.steps / seconds
        return {
            "perf/tokens_per_second": self.slots * self.steps * per_second,  # padding included
            "perf/useful_tokens_per_second": self.selectable * per_second,
            "perf/masked_tokens_per_second": self.masked * per_second,
            "perf/seconds_per_step": seconds / timed_steps,
        }


class MetricWriter:
    """Appends to `metrics.jsonl`, and to TensorBoard event files if wanted.

    Lines after `resume_step` come from an attempt whose later steps were lost; they are dropped,
    as is a line torn by a kill, so that each step stands there once.
    """

    def __init__(self, workdir: Path, *, resume_step: int, tensorboard: bool):
        self.file = workdir / "metrics.jsonl"
        kept = [line for line in read_metrics(self.file) if line["step"] <= resume_step]
        text = "".join(json.dumps(line) + "\n" for line in kept)
        temporary = self.file.with_suffix(".tmp")
        temporary.write_text(text)
        temporary.replace(self.file)
        self.events = _events(workdir, resume_step) if tensorboard else None

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """Adds one line; a reader sees it at once."""
        try:
            with self.file.open("a") as file:
                file.write(json.dumps({"step": step, **values}) + "\n")
        except OSError as error:
            raise OutputError(
                f"{self.file} cannot be written ({error.strerror}); free some space and start "
                "the same command again"
            ) from error
        if self.events:
            for name, value in values.items():
                self.events.add_scalar(name, value, step)
            self.events.flush()

    def close(self) -> None:
        if self.events:
            self.events.close()


def read_metrics(file: Path) -> list[dict]:
    """The lines of a `metrics.jsonl`, without one that is torn; empty if there is no file."""
    if not file.exists():
        return []
    lines = []
    for text in file.read_text().splitlines():
        try:
            lines.append(json.loads(text))
        except json.JSONDecodeError:
            continue
    return lines


def host(metrics: StepMetrics) -> StepMetrics:
    """The metrics as NumPy scalars; waits for the step that they belong to."""
    return jax.tree.map(np.asarray, jax.device_get(metrics))


def _events(workdir: Path, resume_step: int):
    from tensorboardX import SummaryWriter

    return SummaryWriter(str(workdir / "tensorboard"), purge_step=resume_step + 1)
