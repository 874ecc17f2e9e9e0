"""What tests read of a run that is going on in another process."""

import json
import subprocess
import time
from pathlib import Path

from mlm.training.metrics import read_metrics

SHORT = {"train__total_steps": 60, "checkpoint__every_steps": 10}
PAIR = SHORT | {"processes": 2}  # whose steps are slower


def losses(workdir: Path) -> dict[int, str]:
    """Training loss by step, every bit of it; each step stands there once."""
    lines = [line for line in read_metrics(workdir / "metrics.jsonl") if "train/loss" in line]
    assert len({line["step"] for line in lines}) == len(lines)
    return {line["step"]: float(line["train/loss"]).hex() for line in lines}


def last_step(workdir: Path) -> int:
    return max(losses(workdir), default=0)


def status(workdir: Path) -> dict:
    return json.loads((workdir / "status.json").read_text())


def digest(workdir: Path) -> str:
    """Of the state that was saved last."""
    return status(workdir)["digest"]


def wait_for_step(process: subprocess.Popen, workdir: Path, step: int) -> None:
    """Returns when `process`, just started, has logged `step`; fails if it ends first.

    A run replaces metrics.jsonl when it takes over, so lines of the attempt before do not count,
    and its signal handlers are in place by then.
    """
    before = _inode(workdir)
    while _inode(workdir) == before or last_step(workdir) < step:
        if process.poll() is not None:
            raise AssertionError(f"ended before step {step}: {process.communicate()[1]}")
        time.sleep(0.005)


def finish(process: subprocess.Popen, exit_code: int = 0, *, seconds: float = 120):
    """What a process wrote to stdout and stderr, at its end."""
    out, error = process.communicate(timeout=seconds)
    assert process.returncode == exit_code, f"exit code {process.returncode}\n{out}\n{error}"
    return out, error


def seconds_to_end(process: subprocess.Popen, exit_code: int) -> tuple[float, str]:
    """How long a process takes to end from now on, and its stderr."""
    began = time.monotonic()
    process.wait(timeout=120)
    return time.monotonic() - began, finish(process, exit_code)[1]


def seconds_to_stop(process: subprocess.Popen, signum: int, exit_code: int) -> tuple[float, str]:
    """How long a process takes to end after a signal, and its stderr."""
    process.send_signal(signum)
    return seconds_to_end(process, exit_code)


def wait_for(true, seconds: float = 60) -> float:
    """The seconds until `true()` is."""
    began = time.monotonic()
    while not true():
        assert time.monotonic() - began < seconds
        time.sleep(0.005)
    return time.monotonic() - began


def last_error(error: str) -> str:
    """The last line of stderr, which must say what is wrong in one line, without a traceback."""
    line = error.strip().splitlines()[-1]
    assert line.startswith("error: ") and "Traceback" not in error, error
    return line


def _inode(workdir: Path) -> int | None:
    file = workdir / "metrics.jsonl"
    return file.stat().st_ino if file.exists() else None
