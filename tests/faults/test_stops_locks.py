"""One run in a folder at a time, and nothing left of one that was killed."""

import os
import signal
import time
import uuid
from pathlib import Path

import pytest
from pids import children, gone
from processes import (
    PAIR,
    finish,
    last_error,
    losses,
    seconds_to_end,
    wait_for,
    wait_for_step,
)


@pytest.mark.smoke
@pytest.mark.fault(
    26,
    "a second run in the folder of one that goes on",
    "exit 6 within 2 s, naming process and host; the first goes on, bit for bit",
)
def test_two_runs_in_a_folder(undisturbed, train_process, tmp_path, score):
    first = train_process(tmp_path)
    wait_for_step(first, tmp_path, 3)
    began = time.monotonic()
    second = train_process(tmp_path)
    _, error = finish(second, 6)
    took = time.monotonic() - began
    line = last_error(error)
    assert line.startswith("error: --workdir") and error.count("\n") == 1
    assert f"in use by process {first.pid} on {os.uname().nodename}" in line
    finish(first, seconds=300)
    assert losses(tmp_path) == undisturbed.losses
    assert took < 2
    score(seconds_to_stop=took)


@pytest.mark.fault(27, "SIGKILL of a run, and its command again", "it has the folder at once")
def test_a_lock_that_was_left(train_process, tmp_path):
    short = {"train__total_steps": 60}
    killed = train_process(tmp_path, **short)
    wait_for_step(killed, tmp_path, 3)
    killed.send_signal(signal.SIGKILL)
    again = train_process(tmp_path, **short)
    finish(killed, -signal.SIGKILL)
    lock = tmp_path / ".lock"
    assert wait_for(lambda: lock.read_text().startswith(f"process {again.pid} on")) < 3
    finish(again)


def of_run(mark: str) -> list[int]:
    """All processes that were started with `mark` in their environment."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if mark.encode() in (folder / "environ").read_bytes() and not gone(int(folder.name)):
                found.append(int(folder.name))
        except OSError:  # it ended, or is not ours
            continue
    return found


@pytest.fixture
def marked():
    """A mark, and the environment that has it; nothing with the mark is left at the end."""
    mark = f"mark-{uuid.uuid4().hex}"
    yield mark, {"MARK": mark}
    assert of_run(mark) == []


@pytest.mark.fault(
    41,
    "the thread that makes batches dies",
    "its end is told with exit 1 within 5 s, no wait for a batch that never comes",
)
def test_the_thread_of_batches_dies(train_process, tmp_path, score):
    process = train_process(tmp_path, inject="endthread@60")
    wait_for_step(process, tmp_path, 58)
    took, error = seconds_to_end(process, 1)
    assert "the thread that makes batches was ended at batch 59" in error
    assert took < 5
    score(seconds_to_stop=took)


@pytest.mark.fault(
    41,
    "the thread that makes batches stalls",
    "the watchdog ends the run with exit 75, its stacks show where the thread is",
)
def test_the_thread_of_batches_stalls(train_process, tmp_path, score):
    process = train_process(tmp_path, inject="stall@60", train__step_timeout_seconds=1)
    wait_for_step(process, tmp_path, 58)
    took, error = seconds_to_end(process, 75)
    line = last_error(error)
    # A step is complete when its metrics were read, which is while the next one computes.
    assert "step 59 has taken" in line and "last complete step 58" in line
    assert " in made\n" in (tmp_path / "stacks-0.txt").read_text()
    score(seconds_to_stop=took)


@pytest.mark.fault(
    41,
    "SIGKILL of a run, and of `launch` with two processes",
    "no process outlives it, nothing is left in /dev/shm",
)
def test_nothing_outlives_a_killed_run(train_process, tmp_path, marked, score):
    mark, environment = marked
    shared, took = sorted(os.listdir("/dev/shm")), []
    for name, kind in (("one", {}), ("two", PAIR)):
        process = train_process(tmp_path / name, environment=environment, **kind)
        wait_for_step(process, tmp_path / name, 3)
        assert len(children(process)) == kind.get("processes", 0) == len(of_run(mark)) - 1
        process.send_signal(signal.SIGKILL)
        finish(process, -signal.SIGKILL)
        took.append(wait_for(lambda: not of_run(mark), seconds=5))
    assert sorted(os.listdir("/dev/shm")) == shared
    score(seconds_to_stop=max(took))
