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


SUMS = ("loss", "masked", "correct", "selectable", "overflow", "corrupted", "tokens")
COUNTS = ("steps", "nonfinite", "spikes")
LAST = ("learning_rate", "grad_norm")  # of the last finite step
IN_A_ROW = "nonfinite_in_a_row"  # at the end of the interval; it goes on into the next one


class Interval:
    """Sums of the steps since the last log line, and how long they took.

    A checkpoint between two lines holds the sums, so that a resumed run writes the same line. Steps
    whose loss or gradient is not finite are counted and leave no trace in the other sums.
    """

    def __init__(
        self, *, slots: int, hardware: Hardware = Hardware(), max_nonfinite_in_a_row: int = 1
    ):
        self.slots = slots  # B * L, padding included
        self.hardware = hardware
        self.most = max_nonfinite_in_a_row
        self.sums = _nothing()
        self.restart()

    def resume(self, sums: Mapping[str, float]) -> None:
        """Goes on from the sums of a checkpoint; one that it lacks reads as 0."""
        self.sums = _nothing() | dict(sums)

    def restart(self) -> None:
        self.sums = _nothing() | {IN_A_ROW: self.sums[IN_A_ROW]}
        self.start_clock()

    def start_clock(self) -> None:
        """From here on steps count for speeds; those before compiled, or ran before a restart."""
        self.timed = _nothing()
        self.paused, self.waited, self.start = 0.0, 0.0, time.monotonic()

    def pause(self, seconds: float) -> None:
        """Takes time out that was not spent on training."""
        self.paused += seconds

    def wait(self, seconds: float) -> None:
        """Adds time for which no batch was ready; it counts as time spent on training."""
        self.waited += seconds

    def add(self, step: int, metrics: StepMetrics) -> str:
        """Adds the metrics of `step`, already on the host; what a person should know, or ''.

        Raises:
          NonFiniteError: its loss or gradient is not finite, and it is the last one in a row of as
            many as end a run.
        """
        if not metrics.finite:
            return self._add_nonfinite(step, metrics)
        values = dict(zip(SUMS, (*metrics.sums, *metrics.counts, metrics.tokens), strict=True))
        for name, value in (values | {"steps": 1, "spikes": metrics.spike}).items():
            self.sums[name] += float(value)
            self.timed[name] += float(value)
        self.sums |= {name: float(getattr(metrics, name)) for name in LAST} | {IN_A_ROW: 0.0}
        if not metrics.spike:
            return ""
        return f"step {step}: loss {metrics.sums.loss / metrics.sums.weight:.3f} is a spike"

    def _add_nonfinite(self, step: int, metrics: StepMetrics) -> str:
        for name in ("steps", "nonfinite"):
            self.sums[name] += 1
            self.timed[name] += 1
        self.sums[IN_A_ROW] += 1
        row = int(self.sums[IN_A_ROW])
        if row >= self.most:
            steps = f"step {step}" if row == 1 else f"steps {step - row + 1} to {step}"
            raise NonFiniteError(
                f"non-finite loss or gradient in {steps} (loss sum {metrics.sums.loss:g}, "
                f"gradient norm {metrics.grad_norm:g}; step {step - row} was finite)"
            )
        return (
            f"step {step}: loss or gradient is not finite, so nothing is learnt from it; "
            f"{self.most} in a row end the run"
        )

    def line(self) -> dict[str, float]:
        """What `metrics.jsonl` gets of the interval; without means if no step was finite."""
        sums = self.sums
        return {
            **(self._means() if sums["steps"] > sums["nonfinite"] else {}),
            "train/nonfinite_steps": int(sums["nonfinite"]),
            "train/loss_spikes": int(sums["spikes"]),
            "steps": int(sums["steps"]),  # that this line covers
            **self._speeds(),
        }

    def _means(self) -> dict[str, float]:
        sums = self.sums
        masked, finite = sums["masked"] or 1.0, sums["steps"] - sums["nonfinite"]
        return {
            "train/loss": sums["loss"] / masked,  # nats per masked token
            "train/accuracy": sums["correct"] / masked,
            "train/learning_rate": sums["learning_rate"],
            "train/gradient_norm": sums["grad_norm"],
            "masking/realised_rate": sums["masked"] / max(sums["selectable"], 1.0),
            "masking/corrupted_rate": sums["corrupted"] / max(sums["selectable"], 1.0),
            "masking/overflow": sums["overflow"],  # tokens
            "data/padding_share": 1 - sums["tokens"] / (self.slots * finite),
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


def _nothing() -> dict[str, float]:
    return dict.fromkeys((*SUMS, *COUNTS, *LAST, IN_A_ROW), 0.0)


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
