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
    """Returns when `process`, just started, has logged `step`; fails if it ends first.

    A run replaces metrics.jsonl when it takes over, so lines of the attempt before do not count,
    and its signal handlers are in place by then.
    """
    before = _inode(workdir)
    while _inode(workdir) == before or max(losses(workdir), default=0) < step:
        if process.poll() is not None:
            raise AssertionError(f"ended before step {step}: {process.communicate()[1]}")
        time.sleep(0.005)


def _inode(workdir: Path) -> int | None:
    file = workdir / "metrics.jsonl"
    return file.stat().st_ino if file.exists() else None
