"""A workdir in a bucket: the same run as on a disk, through a kill and with one owner."""

import json
import sys
import time
from pathlib import Path

import pytest
from emulated import ended, kill, losses, wait_for

HERE = Path(__file__).parent


@pytest.fixture(scope="module")
def whole(start_in, store, fields) -> tuple[int, str, str]:
    """What a run in gs://runs/whole ended with."""
    command = ("train.py", *fields, "--workdir=gs://runs/whole", "--profile_steps=6-7")
    return ended(start_in(store.environment, sys.executable, *command))


def test_a_run_in_a_bucket_is_the_run_on_this_machine(whole, run, store, fields, local):
    code, out, err = whole
    assert (code, err) == (0, "")
    assert "the run lies in gs://runs/whole" in out
    assert losses(store.read("whole/metrics.jsonl")) == losses(
        (local / "metrics.jsonl").read_text()
    )
    for name in ("eval.json", "status.json", "text.json", "tokenizer.json"):
        assert store.read(f"whole/{name}") == (local / name).read_text()
    assert ".lock" not in store.names("whole")  # given back
    assert "the profile of steps 6-7 lies in gs://runs/whole/profile" in out
    assert any(n.endswith(".xplane.pb") for n in store.names("whole"))

    code, out, _ = run("train.py", *fields, "--workdir=gs://runs/whole")
    assert code == 0 and "is complete; choose another" in out


@pytest.mark.fault(
    49,
    "SIGKILL while a checkpoint is written to a bucket (gs://, on an emulator)",
    "the half of it is ignored and never deleted; bit for bit from the checkpoint before",
)
def test_a_run_killed_in_a_save_goes_on_from_the_step_before(start, run, store, fields, local):
    """Also: its lock is taken over once it is stale, and the wait is told."""
    process = start("train.py", *fields, "--workdir=gs://runs/killed")
    wait_for(lambda: _is_saving(store, "killed", 8))
    kill(process)
    time.sleep(0.2)  # what it had sent is written
    assert _is_saving(store, "killed", 8)
    assert ".lock" in store.names("killed")

    code, out, err = run("train.py", *fields, "--workdir=gs://runs/killed")
    assert code == 0 and err.startswith("warning: 8 in gs://runs/killed/checkpoints without commit")
    assert err.count("\n") == 0 and any("/8.bad/" in name for name in store.names("killed"))
    assert "gs://runs/killed was in use by process " in out and "; waiting up to " in out
    assert "continuing at step 4 of 12" in out
    metrics, expected = store.read("killed/metrics.jsonl"), local / "metrics.jsonl"
    assert losses(metrics) == losses(expected.read_text())
    assert store.read("killed/eval.json") == (local / "eval.json").read_text()
    assert "checkpoints/8/commit_success.txt" in store.names("killed")  # keep_last is 2


def _is_saving(store, folder: str, step: int) -> bool:
    begun = [n for n in store.names(folder) if n.startswith(f"checkpoints/{step}/")]
    return bool(begun) and f"checkpoints/{step}/commit_success.txt" not in begun


def test_a_second_run_is_refused_while_the_first_goes_on(start, run, store, fields):
    command = ("train.py", *fields, "--config.train.total_steps=1000000", "--workdir=gs://runs/one")
    first = start(*command, "--config.checkpoint.every_steps=1000000")
    wait_for(lambda: "config.json" in store.names("one"))
    code, _, err = run(*command)
    assert code == 6
    assert err.startswith("error: --workdir gs://runs/one is in use by process ")
    assert err.endswith("; wait for it, stop it, or choose another folder")

    first.terminate()
    code, out, _ = ended(first)
    assert code == 143 and "the same command continues" in out
    step = json.loads(store.read("one/status.json"))["step"]
    assert f"checkpoints/{step}/commit_success.txt" in store.names("one")
    assert max(losses(store.read("one/metrics.jsonl"))) == step
    assert ".lock" not in store.names("one")


@pytest.mark.usefixtures("whole")
def test_commands_read_a_run_in_a_bucket(run, store, local):
    code, _, err = run("eval.py", "--workdir=gs://runs/whole", "--step=8")
    assert (code, err) == (0, "")
    assert json.loads(store.read("whole/eval-8.json"))["step"] == 8

    code, out, err = run("-m", "mlm", "doctor", "--workdir=gs://runs/whole")
    assert err == "" and "checkpoint 12: can be restored" in out
    assert "as in eval.json" in out and code == 1  # it has learnt nothing in 12 steps
    here = ("-m", "mlm", "replay", "--step=3", "--row=0")
    replayed = run(*here, "--workdir=gs://runs/whole")
    assert replayed[0] == 0 and replayed == run(*here, f"--workdir={local}")
    filled = ("-m", "mlm", "fill-mask", "--json")
    found = run(*filled, "gs://runs/whole", "the [MASK] sees the bird.")
    assert found[0] == 0 and found == run(*filled, local, "the [MASK] sees the bird.")


def test_two_processes_train_one_run_in_a_bucket(start_in, run, store, fields, local):
    launch = ("-m", "mlm", "launch", "--processes=2", "--", "train.py")
    workdir = "--workdir=gs://runs/two"
    code, _, err = ended(start_in(store.environment, sys.executable, *launch, *fields, workdir))
    assert (code, err) == (0, "")
    together = losses(store.read("two/metrics.jsonl"))
    alone = losses((local / "metrics.jsonl").read_text())
    assert together == pytest.approx(alone, abs=1e-5)
    code, out, _ = run("train.py", *fields, workdir)
    assert code == 0 and "is complete" in out


def test_all_processes_end_when_another_run_has_taken_over(start_in, store, fields):
    script = (HERE / "quick.py", "train.py", *fields, "--config.train.total_steps=1000000")
    launch = ("-m", "mlm", "launch", "--processes=2", "--", *script, "--workdir=gs://runs/lost")
    process = start_in(store.environment, sys.executable, *launch)
    wait_for(lambda: "config.json" in store.names("lost"))
    store.write("lost/.lock", b"process 7 on mars\nabc\n")
    code, _, err = ended(process)
    taken = "gs://runs/lost was taken over by process 7 on mars while this run was away"
    assert code == 6
    assert err.splitlines() == [
        f"error: {taken}",
        f"process 1: error: process 0 of 2 failed (exit code 6): {taken}",
    ]
