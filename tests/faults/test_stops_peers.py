"""Two processes that train as one: what ends one of them ends both, soon, and nothing is lost."""

import os
import signal
import time

import pytest
from pids import children, gone
from processes import (
    PAIR,
    SHORT,
    finish,
    last_step,
    losses,
    status,
    wait_for,
    wait_for_step,
)

from mlm.commands.launch import free_port
from mlm.training.workdir import saved_steps


def end_of(process, pids, exit_code) -> tuple[float, str]:
    """The seconds until `launch` and all of its processes are gone, and their stderr."""
    began = time.monotonic()
    process.wait(timeout=60)
    assert all(map(gone, pids))
    return time.monotonic() - began, finish(process, exit_code)[1]


def saved_before(out: str) -> int:
    return int(out.partition("continuing at step ")[2].split()[0])


KILLED = (
    pytest.param(
        1,
        marks=[
            pytest.mark.smoke,
            pytest.mark.fault(
                8,
                "SIGKILL of one of two processes",
                "the other leaves within 5 s, exit 75; bit for bit after the restart",
            ),
        ],
    ),
    pytest.param(
        0,
        marks=pytest.mark.fault(
            9,
            "SIGKILL of the process that coordinates two",
            "both are gone within 5 s, exit 75; bit for bit after the restart",
        ),
    ),
)


@pytest.mark.parametrize("index", KILLED)
def test_one_of_two_is_killed(undisturbed_pair, train_process, tmp_path, score, index):
    process = train_process(tmp_path, **PAIR)
    wait_for_step(process, tmp_path, 30)
    wait_for(lambda: saved_steps(tmp_path / "checkpoints"))
    pids = children(process)
    os.kill(pids[index], signal.SIGKILL)
    took, error = end_of(process, pids, 75)
    assert f"process {index} was killed by SIGKILL" in error and "Traceback" not in error
    last = last_step(tmp_path)
    out, _ = finish(train_process(tmp_path, **PAIR), seconds=300)
    assert losses(tmp_path) == undisturbed_pair
    assert took < 5
    score(seconds_to_stop=took, steps_lost=last - saved_before(out))


@pytest.mark.fault(
    10,
    "an exception in one of two processes",
    "its own message comes first, the other names it; both are gone within 5 s, exit 1",
)
def test_one_of_two_raises(train_process, tmp_path, score):
    process = train_process(tmp_path, inject="raise@15#1", **PAIR)
    wait_for_step(process, tmp_path, 13)
    pids = children(process)
    took, error = end_of(process, pids, 1)
    told = [line for line in error.splitlines() if "a fault in step 15" in line]
    assert told[0] == "process 1: ArithmeticError: a fault in step 15"
    assert told[1] == "error: process 1 of 2 failed (exit code 1): a fault in step 15"
    assert " is gone" not in error and "process 0 of 2" not in error
    assert took < 5
    score(seconds_to_stop=took)


@pytest.mark.fault(
    11,
    "one of two processes sleeps in a step",
    "the watchdog ends both within the limit (3 s here), exit 75, with the stacks of both",
)
def test_one_of_two_hangs(undisturbed_pair, train_process, tmp_path, score):
    process = train_process(tmp_path, inject="hang@30#1", train__step_timeout_seconds=3, **PAIR)
    wait_for_step(process, tmp_path, 28)
    took, error = end_of(process, children(process), 75)
    assert "the limit is 3 s (train.step_timeout_seconds); last complete step" in error
    assert any(" in called" in line for line in error.splitlines() if "process 1:" in line)
    assert "Traceback" not in error and list(tmp_path.glob("stacks-*.txt"))
    assert took < 3 + 5
    finish(train_process(tmp_path, **PAIR), seconds=300)
    assert losses(tmp_path) == undisturbed_pair
    score(seconds_to_stop=took)


@pytest.mark.fault(
    11,
    "SIGSTOP of one of two processes",
    "the watchdog ends the other within the limit (3 s here), `launch` both, exit 75",
)
def test_one_of_two_is_frozen(train_process, tmp_path, score):
    process = train_process(tmp_path, train__step_timeout_seconds=3, **PAIR)
    wait_for_step(process, tmp_path, 12)
    pids = children(process)
    os.kill(pids[1], signal.SIGSTOP)
    took, error = end_of(process, pids, 75)
    assert "the limit is 3 s (train.step_timeout_seconds); last complete step" in error
    assert (tmp_path / "stacks-0.txt").exists()
    assert took < 3 + 8
    score(seconds_to_stop=took)


@pytest.mark.smoke
@pytest.mark.fault(
    12,
    "SIGTERM to one of two processes",
    "both save the same step and exit with 143; bit for bit after the restart",
)
def test_one_of_two_is_stopped(undisturbed_pair, train_process, tmp_path, score):
    address = f"--coordinator=127.0.0.1:{free_port()}", "--num_processes=2"
    both = [train_process(tmp_path, *address, f"--process_id={i}", **SHORT) for i in (0, 1)]
    wait_for_step(both[0], tmp_path, 15)
    began = time.monotonic()
    both[1].send_signal(signal.SIGTERM)
    ended = [finish(process, 143) for process in both]
    took = time.monotonic() - began
    stopped = last_step(tmp_path)
    assert f"all processes save at the end of step {stopped}" in ended[0][1]
    for out, _ in ended[:1]:
        assert f"stopped and saved at step {stopped}" in out
    assert (status(tmp_path)["state"], status(tmp_path)["step"]) == ("stopped", stopped)
    assert saved_steps(tmp_path / "checkpoints")[-1] == stopped
    out, _ = finish(train_process(tmp_path, **PAIR), seconds=300)
    assert f"continuing at step {stopped} of 60" in out
    assert losses(tmp_path) == undisturbed_pair
    score(seconds_to_stop=took, steps_lost=0)
