"""What a run writes down: sums over a log interval, one JSON line each, TensorBoard beside it."""

import dataclasses
import json
import time
from collections.abc import Mapping
from pathlib import Path

import jax
import numpy as np

from mlm.errors import NonFiniteError, OutputError
from mlm.json_text import parse_json
from mlm.training.step import StepMetrics
from mlm.whole_file import write_whole


@dataclasses.dataclass(frozen=True)
class Hardware:
    """What speeds are related to.

    Attributes:
      devices: how many share a step.
      step_flops: operations of a step, see `mlm.training.flops`; None: not known.
      peak_flops: what one device can do per second; None: not known.
    """

    devices: int = 1
    step_flops: float | None = None
    peak_flops: float | None = None


SUMS = ("steps", "loss", "masked", "correct", "selectable", "overflow", "corrupted", "tokens")


class Interval:
    """Sums of the steps since the last log line, and how long they took.

    A checkpoint between two lines holds the sums, so that a resumed run writes the same line.
    """

    def __init__(self, *, slots: int, hardware: Hardware = Hardware()):
        self.slots = slots  # B * L, padding included
        self.hardware = hardware
        self.restart()

    def resume(self, sums: Mapping[str, float]) -> None:
        """Goes on from the sums of a checkpoint; one that it lacks reads as 0."""
        self.sums = dict.fromkeys(SUMS, 0.0) | dict(sums)

    def restart(self) -> None:
        self.sums = dict.fromkeys(SUMS, 0.0)
        self.timed = dict.fromkeys(SUMS, 0.0)
        self.start_clock()

    def start_clock(self) -> None:
        """From here on steps count for speeds; those before compiled, or ran before a restart."""
        self.timed = dict.fromkeys(SUMS, 0.0)
        self.paused, self.waited, self.start = 0.0, 0.0, time.monotonic()

    def pause(self, seconds: float) -> None:
        """Takes time out that was not spent on training."""
        self.paused += seconds

    def wait(self, seconds: float) -> None:
        """Adds time for which no batch was ready; it counts as time spent on training."""
        self.waited += seconds

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
        sums, counts = metrics.sums, metrics.counts
        values = (1, *sums, *counts, metrics.tokens)
        for name, value in zip(SUMS, values, strict=True):
            self.sums[name] += float(value)
            self.timed[name] += float(value)
        self.last = metrics

    def line(self) -> dict[str, float]:
        """Means and rates over the interval, for `metrics.jsonl`."""
        sums = self.sums
        masked = sums["masked"] or 1.0
        return {
            "train/loss": sums["loss"] / masked,  # nats per masked token
            "train/accuracy": sums["correct"] / masked,
            "train/learning_rate": float(self.last.learning_rate),
            "train/gradient_norm": float(self.last.grad_norm),
            "masking/realised_rate": sums["masked"] / max(sums["selectable"], 1.0),
            "masking/corrupted_rate": sums["corrupted"] / max(sums["selectable"], 1.0),
            "masking/overflow": sums["overflow"],  # tokens
            "data/padding_share": 1 - sums["tokens"] / (self.slots * sums["steps"]),
            "steps": int(sums["steps"]),  # that this line covers
            **self._speeds(),
        }

    def _speeds(self) -> dict[str, float]:
        timed = self.timed
        if not timed["steps"]:
            return {}
        seconds, devices = time.monotonic() - self.start - self.paused, self.hardware.devices
        tokens, useful = self.slots * timed["steps"] / seconds, timed["selectable"] / seconds
        return {
            "perf/tokens_per_second": tokens,  # with padding
            "perf/useful_tokens_per_second": useful,
            "perf/tokens_per_second_per_device": tokens / devices,
            "perf/useful_tokens_per_second_per_device": useful / devices,
            "perf/masked_tokens_per_second": timed["masked"] / seconds,
            "perf/seconds_per_step": seconds / timed["steps"],
            "perf/data_wait_seconds": self.waited,
            **self._utilisation(timed["steps"] / seconds),
        }

    def _utilisation(self, steps_per_second: float) -> dict[str, float]:
        """The speed in operations, and as a share of the peak ("MFU", arXiv:2204.02311)."""
        hardware = self.hardware
        if hardware.step_flops is None:
            return {}
        each = hardware.step_flops * steps_per_second / hardware.devices
        share = {} if hardware.peak_flops is None else {"perf/mfu": each / hardware.peak_flops}
        return {"perf/flops_per_second_per_device": each, **share}


class MetricWriter:
    """Appends to `metrics.jsonl`, and to TensorBoard event files if wanted.

    Lines after `resume_step` come from an attempt whose later steps were lost; they are dropped,
    as is a line torn by a kill, so that each step stands there once.
    """

    def __init__(self, workdir: Path, *, resume_step: int, tensorboard: bool):
        self.file = workdir / "metrics.jsonl"
        # A run that begins anew evaluates its step 0 anew.
        lines = read_metrics(self.file) if resume_step else []
        kept = [line for line in lines if line["step"] <= resume_step]
        write_whole(self.file, "".join(json.dumps(line) + "\n" for line in kept))
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

    def flush(self) -> None:
        """Everything is on disk already."""

    def close(self) -> None:
        if self.events:
            self.events.close()


class NoWriter:
    """In place of a `MetricWriter` in a process beside the first, which writes for all."""

    def write(self, step: int, values: Mapping[str, float]) -> None:
        pass

    def flush(self) -> None:
        pass

    def close(self) -> None:
        pass


def read_metrics(file: Path) -> list[dict]:
    """The lines of a `metrics.jsonl`, without one that is torn; empty if there is no file."""
    if not file.exists():
        return []
    lines = []
    for text in file.read_bytes().splitlines():
        try:
            line = parse_json(text)
        except ValueError:
            continue
        if isinstance(line, dict) and isinstance(line.get("step"), int):
            lines.append(line)
    return lines


def host(metrics: StepMetrics) -> StepMetrics:
    """The metrics as NumPy scalars; waits for the step that they belong to."""
    return jax.tree.map(np.asarray, jax.device_get(metrics))


def _events(workdir: Path, resume_step: int):
    from tensorboardX import SummaryWriter

    return SummaryWriter(str(workdir / "tensorboard"), purge_step=resume_step and resume_step + 1)
