"""Two and four processes train like one, for real; and what ends one of them ends all."""

import json
import os
import signal
import time

import numpy as np
import pytest
from launched import COUNTS, last_step, lines, status, wait_for_new_step
from pids import children, gone

from mlm.commands.launch import free_port
from mlm.replay import replay
from mlm.stored_config import stored_config
from mlm.training.workdir import saved_steps

TEXT = "the [MASK] dog sees a small bird."


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return tmp_path_factory.mktemp("whole")


@pytest.fixture
def single(start, whole):
    """The workdir of the same run in one process, to the end."""
    if not (whole / "eval.json").exists():
        process = start("train.py", f"--workdir={whole}")
        _, error = process.communicate(timeout=120)
        assert process.returncode == 0, error
    return whole


def test_two_then_four_then_one_equal_one(start, single, tmp_path):
    # ---- two: SIGTERM to one of them ----------------------------------------------------------
    fsdp = {"mesh__data": 1, "mesh__fsdp": -1}
    two = start("train.py", f"--workdir={tmp_path}", processes=2, **fsdp)
    wait_for_new_step(two, tmp_path, 30)
    os.kill(children(two)[1], signal.SIGTERM)
    out, error = two.communicate(timeout=60)
    assert two.returncode == 143, error
    stopped = last_step(tmp_path)
    assert f"all processes save at the end of step {stopped}" in error
    assert status(tmp_path)["state"] == "stopped" and status(tmp_path)["step"] == stopped
    assert saved_steps(tmp_path / "checkpoints")[-1] == stopped
    assert f"stopped and saved at step {stopped}" in out and out.count("step  30/400") == 1

    # ---- four: one is killed ------------------------------------------------------------------
    four = start("train.py", f"--workdir={tmp_path}", processes=4, mesh__fsdp=2)
    wait_for_new_step(four, tmp_path, stopped + 20)
    pids = children(four)
    began = time.monotonic()
    os.kill(pids[2], signal.SIGKILL)
    out, error = four.communicate(timeout=60)
    assert time.monotonic() - began < 10 and all(map(gone, pids))
    assert four.returncode == 75 and f"continuing at step {stopped} of 400" in out
    assert "process 2 was killed by SIGKILL" in error and "Traceback" not in error

    # ---- one, to the end ----------------------------------------------------------------------
    saved = saved_steps(tmp_path / "checkpoints")[-1]
    one = start("train.py", f"--workdir={tmp_path}")
    out, error = one.communicate(timeout=120)
    assert one.returncode == 0, error
    assert stopped <= saved and f"continuing at step {saved} of 400" in out

    assert_equal_runs(single, tmp_path, steps=400)


def assert_equal_runs(one, other, *, steps):
    expected, found = lines(one), lines(other)
    assert len(expected) == len(found) == steps
    for step in expected:
        for name in COUNTS:
            assert found[step][name] == expected[step][name], (step, name)
        assert abs(found[step]["train/loss"] - expected[step]["train/loss"]) < 1e-5, step


def test_all_that_a_run_may_have_on_two_processes_of_two_devices(start, single, tmp_path):
    fields = {
        "model__init_from": single,
        "model__dropout": 0.1,
        "masking__weights": "accuracy",
        "masking__prediction_rate": 0.3,  # each row stands twice in a batch
        "train__freeze": ".*/embeddings/.*",
        "train__accumulation": 2,
        "train__total_steps": 30,
        "checkpoint__every_steps": 10,
        "checkpoint__keep_last": 2,
        "eval__fill": TEXT,
    }
    mesh = {"mesh__data": 1, "mesh__fsdp": 2, "mesh__tensor": 2}
    one = start("train.py", f"--workdir={tmp_path / 'one'}", **fields)
    shown, error = one.communicate(timeout=120)
    assert one.returncode == 0, error
    two = start(
        "train.py", f"--workdir={tmp_path / 'two'}", processes=2, devices=2, **fields | mesh
    )
    out, error = two.communicate(timeout=120)
    assert two.returncode == 0, error
    assert_equal_runs(tmp_path / "one", tmp_path / "two", steps=30)
    fills = [
        text[text.index(TEXT, text.index("Evaluation")) :].splitlines()[:2] for text in (shown, out)
    ]
    assert fills[0] == fills[1] and len(fills[0][1].split()) == 10

    runs = tmp_path / "one", tmp_path / "two"
    hashes = [replay(stored_config(w, {}), w, 21, say=str).mask_hash for w in runs]
    assert hashes[0] == hashes[1]

    filling = start(
        "eval.py", f"--workdir={runs[1]}", f"--fill={TEXT}", "--config.mesh.tensor=1", processes=2
    )
    out, error = filling.communicate(timeout=60)
    assert filling.returncode == 0, error
    assert out.splitlines()[-2:] == fills[0]


def test_evaluation_and_batches_are_those_of_one_process(start, single, tmp_path):
    expected = json.loads((single / "eval.json").read_text())["masks"]["token@0.15"]
    process = start("eval.py", f"--workdir={single}", processes=2)
    out, error = process.communicate(timeout=60)
    assert process.returncode == 0, error
    found = json.loads((single / "eval.json").read_text())["masks"]["token@0.15"]
    for name in ("mask_hash", "masked_tokens", "realised_rate", "unigram_loss", "top1", "top5"):
        assert found[name] == expected[name], name
    assert abs(found["loss"] - expected["loss"]) < 1e-5

    flags = f"--out={tmp_path / 'step.npz'}", "--step=77"
    process = start("tests/processes/consume.py", *flags, processes=2)
    _, error = process.communicate(timeout=60)
    assert process.returncode == 0, error
    seen = np.load(tmp_path / "step.npz")
    replayed = replay(stored_config(single, {}), single, 77, say=str).arrays
    assert len(seen.files) >= 8
    for name in seen.files:
        np.testing.assert_array_equal(seen[name], replayed[name], err_msg=name)


def test_an_exception_in_one_process_ends_all_and_is_told_first(start, tmp_path):
    process = start(
        "train.py", f"--workdir={tmp_path}", processes=2, train__loss="broken_loss:loss"
    )
    _, error = process.communicate(timeout=60)
    assert process.returncode not in (0, 75)
    told = [line for line in error.splitlines() if "the loss of process 1 is broken" in line]
    assert told[0].startswith("process 1: ")
    assert told[-1].startswith("error: process 1 of 2 failed") and " is gone" not in error


def test_a_full_disk_of_one_ends_both(start, tmp_path):
    fields = {"train__loss": "broken_loss:loss_on_a_full_disk", "checkpoint__every_steps": 20}
    process = start("train.py", f"--workdir={tmp_path}", processes=2, **fields)
    _, error = process.communicate(timeout=60)
    assert process.returncode == 7, error
    told = [line for line in error.splitlines() if "error: " in line]
    assert told[0].startswith("process 1: error: a checkpoint could not be written to")
    assert told[1].startswith("error: process 1 of 2 failed (exit code 7): a checkpoint could not")
    assert len(told) == 2 and last_step(tmp_path) < 60


@pytest.mark.parametrize("other", [0, 1])
def test_another_config_is_refused_by_both_before_anything_is_written(start, tmp_path, other):
    port = free_port()
    flags = f"--coordinator=127.0.0.1:{port}", "--num_processes=2", f"--workdir={tmp_path}"
    both = [
        start(
            "train.py", *flags, f"--process_id={i}", model__custom="none:none" if i == other else ""
        )
        for i in (0, 1)
    ]
    told = [process.communicate(timeout=30)[1].splitlines() for process in both]
    assert [process.returncode for process in both] == [2, 2]
    assert told[0] == told[1] and len(told[0]) == 1
    assert "differs from process 0" in told[0][0] and "model.custom" in told[0][0]
    assert list(tmp_path.iterdir()) == []


def test_ctrl_c_to_one_before_the_first_step_ends_both(start, tmp_path):
    flags = f"--coordinator=127.0.0.1:{free_port()}", "--num_processes=2", f"--workdir={tmp_path}"
    both = [start("train.py", *flags, f"--process_id={i}") for i in (0, 1)]
    while not (tmp_path / ".lock").exists():  # they have met
        time.sleep(0.01)
    both[1].send_signal(signal.SIGINT)
    told = [process.communicate(timeout=30)[1] for process in both]
    assert [process.returncode for process in both] == [130, 130]
    assert told[0] == "error: process 1 of 2 was interrupted; the same command goes on\n"
    assert told[1] == "error: interrupted; the same command goes on\n"


def test_a_process_by_itself_does_not_wait_longer_than_it_may(start, tmp_path):
    flags = f"--coordinator=127.0.0.1:{free_port()}", "--num_processes=2", f"--workdir={tmp_path}"
    limit = {"processes__init_timeout_seconds": 1}
    began = time.monotonic()
    both = [start("train.py", *flags, f"--process_id={i}", **limit) for i in (0, 1)]
    both[1].kill()
    told = both[0].communicate(timeout=30)[1]
    both[1].communicate()
    assert both[0].returncode == 75 and time.monotonic() - began < 11
    assert told.startswith("error: process") and "Traceback" not in told


def test_a_second_run_in_the_same_workdir_is_refused(start, single):
    import fcntl

    with open(single / ".lock", "r+") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        process = start("train.py", f"--workdir={single}", processes=2)
        _, error = process.communicate(timeout=60)
    assert process.returncode == 6, error
    lines = error.splitlines()
    assert lines[0].startswith("error: --workdir") and "is in use by" in lines[0]
    assert lines[1].startswith("process 1: error: process 0 of 2 failed (exit code 6)")
    assert len(lines) == 2


def test_a_checkpoint_is_good_in_each_of_several_processes(start, saved_run):
    checkpoint = saved_run / "checkpoints" / "12"
    process = start(
        "tests/processes/verify.py", f"--checkpoint={checkpoint}", processes=2, devices=2
    )
    _, error = process.communicate(timeout=60)
    assert process.returncode == 0, error
