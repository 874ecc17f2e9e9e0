"""SIGKILL, SIGTERM and Ctrl-C, sent for real: the run continues bit for bit."""

import json
import random
import signal

import pytest
from processes import losses, status, wait_for_step

from mlm.training.workdir import saved_steps


@pytest.mark.smoke
@pytest.mark.fault(1, "SIGKILL, SIGTERM and Ctrl-C at random steps", "bit for bit")
def test_a_run_killed_stopped_and_interrupted_equals_the_undisturbed_one(
    undisturbed, train_process, tmp_path
):
    draw = random.Random()  # a new step each time; a failure prints it
    steps = draw.randint(30, 110), draw.randint(140, 220), draw.randint(250, 330)
    print("signals at steps", steps)

    killed = train_process(tmp_path)
    wait_for_step(killed, tmp_path, steps[0])
    killed.send_signal(signal.SIGKILL)
    assert killed.wait(timeout=60) == -signal.SIGKILL
    killed.communicate()

    for step, signum, exit_code in (
        (steps[1], signal.SIGTERM, 143),
        (steps[2], signal.SIGINT, 130),
    ):
        # A kill may come before the first checkpoint is complete; then the run begins again.
        saved = saved_steps(tmp_path / "checkpoints")
        stopped = train_process(tmp_path)
        wait_for_step(stopped, tmp_path, step)
        stopped.send_signal(signum)
        out, error = stopped.communicate(timeout=120)
        assert stopped.returncode == exit_code, error
        assert f"{signum.name} received, saving at the end of the step" in error
        assert "the same command continues" in out
        assert (f"continuing at step {max(saved, default=0)} of 400" in out) == bool(saved)
        # Nothing is lost: what was logged last is what was saved.
        found = status(tmp_path)
        assert (found["state"], found["step"]) == ("stopped", max(losses(tmp_path)))

    finished = train_process(tmp_path)
    out, error = finished.communicate(timeout=300)
    assert finished.returncode == 0, error
    assert losses(tmp_path) == undisturbed.losses
    assert json.loads((tmp_path / "eval.json").read_text())["step"] == 400

    again = train_process(tmp_path)
    out, _ = again.communicate(timeout=120)
    assert again.returncode == 0 and "is complete" in out and "token@0.15" in out


def test_a_second_run_in_the_same_workdir_is_refused_and_the_first_goes_on(
    undisturbed, train_process, tmp_path
):
    first = train_process(tmp_path)
    wait_for_step(first, tmp_path, 3)
    second = train_process(tmp_path)
    _, error = second.communicate(timeout=60)
    assert second.returncode == 6
    assert error.startswith("error: --workdir") and f"in use by process {first.pid}" in error
    first.communicate(timeout=300)
    assert first.returncode == 0 and losses(tmp_path) == undisturbed.losses


def test_a_loss_that_is_not_finite_ends_with_exit_code_5(train_process, tmp_path):
    process = train_process(
        tmp_path, optimizer__learning_rate=1e18, optimizer__clip_norm=0.0, train__total_steps=100
    )
    _, error = process.communicate(timeout=120)
    assert process.returncode == 5, error
    [line] = [line for line in error.splitlines() if line.startswith("error:")]
    assert "non-finite loss or gradient in step" in line and "checkpoint" in line
    assert status(tmp_path)["state"] == "non-finite"
