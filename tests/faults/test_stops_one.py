"""A process by itself: killed, told to stop, told twice."""

import random
import re
import signal
import time

import pytest
from processes import (
    finish,
    last_step,
    losses,
    seconds_to_stop,
    status,
    wait_for,
    wait_for_step,
)

from mlm.training.workdir import saved_steps

INTERVAL = 25  # steps between saves


def kill(process):
    process.send_signal(signal.SIGKILL)
    return finish(process, -signal.SIGKILL)


@pytest.mark.smoke
@pytest.mark.fault(
    1,
    "SIGKILL at five random steps, each time continued",
    "bit for bit; lost at most the save interval, and what came while a save was still written",
)
def test_killed_five_times(undisturbed, train_process, tmp_path, score):
    steps = [random.randint(70 * i + 5, 70 * i + 55) for i in range(5)]  # a failure prints them
    print("killed at steps", steps)
    last, lost = 0, []
    for step in [*steps, None]:
        process = train_process(tmp_path)
        if step is None:
            out, _ = finish(process, seconds=300)
        else:
            wait_for_step(process, tmp_path, step)
            out, _ = kill(process)
        found = re.search(r"continuing at step (\d+) of 400", out)
        resumed = int(found[1]) if found else 0
        # A save waits for the one before it, so of those that began only the last can be missing.
        assert resumed >= (last - 1) // INTERVAL * INTERVAL - INTERVAL
        lost.append(last - resumed)
        last = last_step(tmp_path)
    assert losses(tmp_path) == undisturbed.losses
    assert status(tmp_path).get("digest", "") == undisturbed.digest
    score(steps_lost=max(lost))


@pytest.mark.smoke
@pytest.mark.fault(
    3,
    "SIGTERM, then Ctrl-C, after random steps",
    "saved at that step within 2 s, exit 143 and 130, bit for bit after the restart",
)
def test_stopped_and_interrupted(undisturbed, train_process, tmp_path, score):
    steps = random.randint(30, 150), random.randint(200, 330)
    print("signals at steps", steps)
    took, continued = [], 0
    for step, signum in zip(steps, (signal.SIGTERM, signal.SIGINT), strict=True):
        process = train_process(tmp_path)
        wait_for_step(process, tmp_path, step)
        began = time.monotonic()
        process.send_signal(signum)
        process.wait(timeout=60)
        took.append(time.monotonic() - began)
        out, error = finish(process, 128 + signum)
        assert error.strip() == f"{signum.name} received, saving at the end of the step"
        assert "the same command continues" in out
        assert (f"continuing at step {continued} of 400" in out) == bool(continued)
        # Nothing is lost: what was logged last is what was saved.
        continued = last_step(tmp_path)
        assert (status(tmp_path)["state"], status(tmp_path)["step"]) == ("stopped", continued)
        assert saved_steps(tmp_path / "checkpoints")[-1] == continued
    out, _ = finish(train_process(tmp_path), seconds=300)
    assert f"continuing at step {continued} of 400" in out
    assert losses(tmp_path) == undisturbed.losses
    out, _ = finish(train_process(tmp_path))
    assert "is complete" in out and "token@0.15" in out
    assert max(took) < 2
    score(seconds_to_stop=max(took), steps_lost=0)


@pytest.mark.fault(
    4,
    "SIGTERM while the step compiles",
    "answered within 1 s, saved after the first step, exit 143, bit for bit after the restart",
)
def test_stopped_while_it_compiles(undisturbed, train_process, tmp_path, score):
    process = train_process(tmp_path, inject="compile@1")
    assert process.stderr.readline() == "compiling\n"
    began = time.monotonic()
    process.send_signal(signal.SIGTERM)
    assert process.stderr.readline() == "\n"
    assert "SIGTERM received" in process.stderr.readline()
    assert time.monotonic() - began < 1 and process.poll() is None
    process.wait(timeout=60)
    took = time.monotonic() - began
    finish(process, 143)
    assert saved_steps(tmp_path / "checkpoints") == [1] and last_step(tmp_path) == 1
    out, _ = finish(train_process(tmp_path), seconds=300)
    assert "continuing at step 1 of 400" in out
    assert losses(tmp_path) == undisturbed.losses
    score(seconds_to_stop=took, steps_lost=0)


@pytest.mark.fault(
    4,
    "SIGTERM before the first step: at once, and while text is prepared",
    "ends at once, killed by the signal (143 in a shell); the same command then trains bit for bit",
)
def test_stopped_before_it_trains(undisturbed, train_process, tmp_path, score):
    workdir, cache = tmp_path / "run", tmp_path / "cache"
    took = []
    for seen in (workdir.exists, lambda: any(cache.glob("*"))):
        process = train_process(workdir, data__cache_dir=cache)
        wait_for(seen)
        took.append(seconds_to_stop(process, signal.SIGTERM, -signal.SIGTERM)[0])
        assert not (workdir / "checkpoints").exists()
    finish(train_process(workdir, data__cache_dir=cache), seconds=300)
    assert losses(workdir) == undisturbed.losses
    assert max(took) < 1
    score(seconds_to_stop=max(took))


@pytest.mark.fault(
    6,
    "a second SIGTERM, a second Ctrl-C, while a step hangs",
    "leaves within 1 s, exit 143 and 130; the checkpoints are whole, bit for bit after the restart",
)
def test_told_twice(undisturbed, train_process, tmp_path, score):
    took = []
    for signum in (signal.SIGTERM, signal.SIGINT):
        process = train_process(tmp_path, inject="hang@60")
        wait_for_step(process, tmp_path, 58)
        wait_for(lambda: saved_steps(tmp_path / "checkpoints")[-1:] == [50])
        process.send_signal(signum)
        assert process.stderr.readline() == "\n"
        assert f"{signum.name} received" in process.stderr.readline()
        took.append(seconds_to_stop(process, signum, 128 + signum)[0])
    out, _ = finish(train_process(tmp_path), seconds=300)
    assert "continuing at step 50 of 400" in out
    assert losses(tmp_path) == undisturbed.losses
    assert max(took) < 1
    score(seconds_to_stop=max(took))
