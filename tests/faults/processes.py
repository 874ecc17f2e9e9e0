"""What tests read of a run that is going on in another process."""

import subprocess
import time
from pathlib import Path

from mlm.training.metrics import read_metrics


def losses(workdir: Path) -> dict[int, float]:
    """Training loss by step, every digit of it."""
    lines = read_metrics(workdir / "metrics.jsonl")
    return {line["step"]: line["train/loss"] for line in lines if "train/loss" in line}


def wait_for_step(process: subprocess.Popen, workdir: Path, step: int) -> None:
    """Returns as soon as `step` is logged; fails if the process ends first."""
    while max(losses(workdir), default=0) < step:
        if process.poll() is not None:
            raise AssertionError(f"ended before step {step}: {process.communicate()[1]}")
        time.sleep(0.005)
