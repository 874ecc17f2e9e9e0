"""Several runs of one list of commands, and a step that does not fit its machine."""

import os
import signal
import subprocess
import sys

import pytest
from processes import finish, last_error, losses, wait_for_step

from mlm.training.workdir import saved_steps


@pytest.mark.fault(
    48,
    "of three trials (a command and a folder each) one is killed and one cannot start",
    "the third finishes; the same commands resume only the killed one, bit for bit",
)
def test_trials_that_die_leave_the_others_alone(undisturbed, train_process, tmp_path, score):
    trials = {
        "killed": {},
        "whole": {"train__total_steps": 40},
        "broken": {"train__loss": "no_such_module:loss"},
    }
    processes = {name: train_process(tmp_path / name, **trials[name]) for name in trials}
    wait_for_step(processes["killed"], tmp_path / "killed", 60)
    processes["killed"].send_signal(signal.SIGKILL)
    finish(processes["killed"], -signal.SIGKILL)
    lost = max(losses(tmp_path / "killed")) - max(saved_steps(tmp_path / "killed/checkpoints"))
    finish(processes["whole"])
    assert "no_such_module" in last_error(finish(processes["broken"], 2)[1])

    again = {name: train_process(tmp_path / name, **trials[name]) for name in ("killed", "whole")}
    assert "continuing at step" in finish(again["killed"])[0]
    assert "is complete" in finish(again["whole"])[0]
    assert losses(tmp_path / "killed") == undisturbed.losses
    score(steps_lost=lost)


@pytest.mark.fault(
    54, "a step that does not fit the memory of a TPU", "exit 2 without a TPU, one line, GiB named"
)
def test_a_step_that_does_not_fit_is_refused_without_the_machine(tiny):
    pytest.importorskip("libtpu", reason="libtpu is not installed (requirements-tpu.txt)")
    fields = tiny | {"train.batch_size": 16_000_000}
    run = subprocess.run(
        [
            *(sys.executable, "-m", "mlm", "plan", "--topology=v5e:2x2"),
            "--config=configs/default.py",
            *(f"--config.{name}={value}" for name, value in fields.items()),
        ],
        capture_output=True,
        text=True,
        env=os.environ | {"JAX_PLATFORMS": "cpu"},
    )
    assert run.returncode == 2 and "GiB" in last_error(run.stderr)
    assert run.stderr.count("\n") == 1
