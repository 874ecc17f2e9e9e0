"""Saves that something interrupts: a kill, a signal, an exception, a disk that is full."""

import os
import resource
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest
from harm import same_until
from processes import (
    digest,
    finish,
    last_error,
    losses,
    seconds_to_end,
    seconds_to_stop,
    status,
    wait_for_step,
)

from mlm.training.metrics import read_metrics
from mlm.training.quarantine import unfinished_names
from mlm.training.workdir import saved_steps


def wait_for_save(process: subprocess.Popen, folder: Path, step: int) -> None:
    """Returns while the save of `step` is running."""
    while not any(name.startswith(f"{step}.") for name in unfinished_names(folder)):
        assert process.poll() is None, process.communicate()
        time.sleep(0.001)


def wait_for_checkpoint(process: subprocess.Popen, folder: Path) -> None:
    """Returns when the first one is complete."""
    while not saved_steps(folder):
        assert process.poll() is None, process.communicate()
        time.sleep(0.001)


@pytest.mark.fault(
    2,
    "SIGKILL while a checkpoint is written in the background, three times",
    "the half of it is never used, and is removed; bit for bit from the checkpoint before",
)
def test_a_kill_in_a_save(undisturbed, train_process, tmp_path, score):
    folder = tmp_path / "checkpoints"
    for step, seconds in ((50, 0.02), (75, 0.1), (100, 0.3)):
        process = train_process(tmp_path, inject=f"slowsave@{step}")
        wait_for_save(process, folder, step)
        time.sleep(seconds)
        process.send_signal(signal.SIGKILL)
        finish(process, -signal.SIGKILL)
        assert len(unfinished_names(folder)) == 1 and saved_steps(folder)[-1] == step - 25
        score(steps_lost=max(losses(tmp_path)) - saved_steps(folder)[-1])
        # The next attempt saves this step, and is killed in the one after it.
    out, _ = finish(train_process(tmp_path))
    assert "continuing at step 75 of 400" in out
    assert losses(tmp_path) == undisturbed.losses and digest(tmp_path) == undisturbed.digest
    assert unfinished_names(folder) == []


@pytest.mark.fault(
    5,
    "SIGTERM while a checkpoint is written, and during an evaluation",
    "both checkpoints are complete, exit 143; nothing is lost",
)
def test_a_signal_in_a_save_and_in_an_evaluation(undisturbed, train_process, tmp_path, score):
    process = train_process(tmp_path, inject="slowsave@25")
    wait_for_save(process, tmp_path / "checkpoints", 25)
    took, error = seconds_to_stop(process, signal.SIGTERM, 143)
    assert "SIGTERM received, saving at the end of the step" in error
    first, last = saved_steps(tmp_path / "checkpoints")
    assert first == 25 and status(tmp_path)["step"] == last == max(losses(tmp_path))
    score(seconds_to_stop=took, steps_lost=0)

    at = last + 20
    settings = {"eval__every_steps": at, "inject": "sloweval@1"}
    process = train_process(tmp_path, **settings)
    wait_for_step(process, tmp_path, at)
    time.sleep(0.5)  # two seconds of evaluation began when this step was logged
    took, _ = seconds_to_stop(process, signal.SIGTERM, 143)
    assert status(tmp_path)["step"] == max(losses(tmp_path)) == at + 1
    score(seconds_to_stop=took, steps_lost=0)
    assert same_until(losses(tmp_path), undisturbed.losses, at + 1)
    evaluated = [line for line in read_metrics(tmp_path / "metrics.jsonl") if _has_evaluation(line)]
    assert [line["step"] for line in evaluated] == [at]


def _has_evaluation(line: dict) -> bool:
    return "perf/evaluation_seconds" in line


@pytest.mark.smoke
@pytest.mark.fault(
    7,
    "an exception in the step after a save began",
    "that checkpoint is complete, the process ends within 5 s, and goes on from there",
)
def test_an_exception_right_after_a_save(undisturbed, train_process, tmp_path, score):
    process = train_process(tmp_path, inject="slowsave@50,raise@51")
    wait_for_save(process, tmp_path / "checkpoints", 50)
    took, error = seconds_to_end(process, 1)
    assert "ArithmeticError: a fault in step 51" in error and took < 5
    assert saved_steps(tmp_path / "checkpoints") == [25, 50]
    score(seconds_to_stop=took, steps_lost=0)
    out, _ = finish(train_process(tmp_path, inject="raise@60"), 1)
    assert "continuing at step 50 of 400" in out
    assert same_until(losses(tmp_path), undisturbed.losses, 58)


# ---- a disk that is full -------------------------------------------------------------------------


@pytest.mark.smoke
@pytest.mark.fault(
    24,
    "from the first checkpoint on no file may grow beyond 2.5 KB (RLIMIT_FSIZE)",
    "exit 7, one line; what was saved stays, its half is removed; later bit for bit from there",
)
def test_files_that_may_not_grow(undisturbed, train_process, tmp_path):
    # Lines of metrics are few, so that they are not what fails first.
    process = train_process(tmp_path, log__every_steps=25)
    wait_for_checkpoint(process, tmp_path / "checkpoints")
    resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (2500, resource.RLIM_INFINITY))
    _, error = finish(process, 7)
    assert "newest complete one is" in last_error(error)
    [*_, kept] = saved_steps(tmp_path / "checkpoints")
    assert f"newest complete one is {kept};" in error and "free some space" in error
    assert unfinished_names(tmp_path / "checkpoints") == []
    out, _ = finish(train_process(tmp_path, log__every_steps=25))
    assert f"continuing at step {kept} of 400" in out and digest(tmp_path) == undisturbed.digest


@pytest.fixture
def small_disk(tmp_path):
    """`small_disk(size, *options)`: a file system of its own, mounted; skips where none can be."""
    mounted = []

    def mount(size: str, *options: str) -> Path:
        place = tmp_path / f"disk{len(mounted)}"
        place.mkdir()
        command = [
            "mount",
            "-t",
            "tmpfs",
            "-o",
            ",".join((f"size={size}", *options)),
            "none",
            place,
        ]
        if subprocess.run(command, capture_output=True).returncode:
            pytest.skip("no file system may be mounted here")
        mounted.append(place)
        return place

    yield mount
    for place in mounted:
        subprocess.run(["umount", "-l", place], check=True)


@pytest.mark.fault(
    24,
    "a file system of 3 MB is full from the first checkpoint on",
    "exit 7, one line; what was saved stays, its half is removed; later bit for bit from there",
)
def test_a_disk_that_fills_up(undisturbed, train_process, small_disk):
    disk = small_disk("3m")
    workdir, filler = disk / "run", disk / "filler"
    process = train_process(workdir)
    wait_for_checkpoint(process, workdir / "checkpoints")
    with filler.open("wb") as file:  # there stays room for lines of metrics, not for a checkpoint
        os.posix_fallocate(file.fileno(), 0, shutil.disk_usage(disk).free - 60_000)
    line = last_error(finish(process, 7)[1])
    [*_, kept] = saved_steps(workdir / "checkpoints")
    assert "No space left on device" in line and "free some space" in line
    assert unfinished_names(workdir / "checkpoints") == []

    # There is still no room: found before anything is compiled.
    error = last_error(finish(train_process(workdir), 7)[1])
    assert "free" in error
    filler.unlink()
    out, _ = finish(train_process(workdir))
    assert f"continuing at step {kept} of 400" in out
    assert losses(workdir) == undisturbed.losses and digest(workdir) == undisturbed.digest


@pytest.mark.fault(
    25,
    "the workdir is a file, read-only, below what cannot be made, or holds a file for a folder",
    "exit 7 before anything is compiled, one line, within 3 s",
)
def test_a_workdir_that_cannot_be_written(train_process, small_disk, tmp_path, score):
    (tmp_path / "file").write_text("")
    (tmp_path / "odd").mkdir()
    (tmp_path / "odd/checkpoints").write_text("")
    places = [tmp_path / "file", tmp_path / "file/below", Path("/proc/none/run"), tmp_path / "odd"]
    places.append(small_disk("1m", "ro"))
    for place in places:
        began = time.monotonic()
        out, error = finish(train_process(place), 7)
        took = time.monotonic() - began
        line = last_error(error)
        assert str(place) in line and "cannot be written" in line and out == "" and took < 3
        score(seconds_to_stop=took)


# ---- metrics -------------------------------------------------------------------------------------


@pytest.mark.fault(
    51,
    "SIGKILL while a line of metrics.jsonl is written",
    "readers pass over half a line; afterwards each step stands there once, bit for bit",
)
def test_a_torn_line(undisturbed, train_process, tmp_path, score):
    process = train_process(tmp_path)
    wait_for_step(process, tmp_path, 60)
    process.send_signal(signal.SIGKILL)
    finish(process, -signal.SIGKILL)
    reached, file = max(losses(tmp_path)), tmp_path / "metrics.jsonl"
    with file.open("a") as stream:  # what a kill in the middle of a write leaves
        stream.write(f'{{"step": {reached + 1}, "train/loss": 4.5')
    assert max(losses(tmp_path)) == reached
    score(steps_lost=reached - saved_steps(tmp_path / "checkpoints")[-1])
    finish(train_process(tmp_path))
    assert losses(tmp_path) == undisturbed.losses
    assert all(line.endswith("}") for line in file.read_text().splitlines())
