"""Counters that could wrap, conditions that change, clocks that jump."""

import json
import os
import signal

import jax
import pytest
from processes import digest, finish, losses, status, wait_for_step

from mlm.training.metrics import read_metrics
from mlm.training.workdir import saved_steps

SHORT = {"train__total_steps": 60, "eval__every_steps": 60}
SLOTS = 16 * 16  # of a batch


@pytest.mark.fault(
    52,
    "a run that passes 2^31 tokens",
    "the count goes on, and so do rows, masks and checkpoints",
)
def test_more_tokens_than_31_bits_count(train_process, tmp_path):
    most = 2**31 // SLOTS
    total = {"train__total_steps": most + 30, "eval__every_steps": most + 30}
    process = train_process(tmp_path, **total)
    wait_for_step(process, tmp_path, 5)
    process.send_signal(signal.SIGTERM)
    finish(process, 143)
    [step] = saved_steps(tmp_path / "checkpoints")[-1:]
    folder = tmp_path / "checkpoints"
    (folder / str(step)).rename(folder / str(most - 20))
    out, _ = finish(train_process(tmp_path, **total))
    assert f"continuing at step {most - 20} of {most + 30}" in out
    lines = [x for x in read_metrics(tmp_path / "metrics.jsonl") if x["step"] > most - 20]
    tokens = [line["train/tokens"] for line in lines if "steps" in line]
    assert tokens == [SLOTS * k for k in range(most - 19, most + 31)]
    assert tokens[0] < 2**31 < tokens[-1]
    assert all(line["train/loss"] > 0 for line in lines if "steps" in line)
    assert status(tmp_path)["step"] == most + 30


def started_on_one_core(start):
    """What `start` starts may use one core; a child has the cores of who starts it."""
    cores = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(cores)})
    try:
        return start()
    finally:
        os.sched_setaffinity(0, cores)


@pytest.mark.skipif(len(os.sched_getaffinity(0)) == 1, reason="takes two cores")
@pytest.mark.fault(
    53,
    "resume on one core of two, with another flag of XLA, threefry off, another jax",
    "goes on and names each in a line 'not bit-exact: ...', as doctor does",
)
def test_other_conditions_are_named(train_process, tmp_path):
    process = train_process(tmp_path, **SHORT)
    wait_for_step(process, tmp_path, 20)
    process.send_signal(signal.SIGTERM)
    assert "not bit-exact" not in finish(process, 143)[0]
    began = json.loads((tmp_path / "environment.json").read_text())
    began["attempts"][0]["conditions"]["jax"] = "0.9.9"
    (tmp_path / "environment.json").write_text(json.dumps(began))

    flag = "--xla_cpu_enable_fast_min_max=true"
    other = {"XLA_FLAGS": flag, "JAX_THREEFRY_PARTITIONABLE": "0"}
    out, _ = finish(
        started_on_one_core(lambda: train_process(tmp_path, environment=other, **SHORT))
    )
    [line] = [text for text in out.splitlines() if text.startswith("not bit-exact")]
    assert line == (
        f"not bit-exact: jax 0.9.9 -> {jax.__version__}, "
        f"cores {len(os.sched_getaffinity(0))} -> 1, "
        f"XLA_FLAGS none -> {flag}, jax_threefry_partitionable True -> False"
    )
    assert sorted(losses(tmp_path)) == list(range(1, 61))


@pytest.mark.fault(
    55,
    "the clock jumps by a day, ahead and back; another time zone",
    "bit for bit; limits, speeds and locks take a clock that only goes on, saves go by steps",
)
def test_the_clock_decides_nothing(undisturbed, train_process, tmp_path):
    zone = {"TZ": "Pacific/Kiritimati"}
    # The steps after a save, so that it is still running.
    process = train_process(
        tmp_path, inject="ahead@26,ahead@51,ahead@76,back@120,back@180", environment=zone
    )
    out, error = finish(process)
    assert losses(tmp_path) == undisturbed.losses and digest(tmp_path) == undisturbed.digest
    assert saved_steps(tmp_path / "checkpoints")[-2:] == [375, 400] and "warning" not in error
    lines = read_metrics(tmp_path / "metrics.jsonl")
    timed = [v for line in lines for n, v in line.items() if n.startswith("perf/")]
    assert all(0 <= value < 1e12 for value in timed) and "not bit-exact" not in out
    seconds = [v for line in lines for n, v in line.items() if n.endswith("seconds")]
    assert max(seconds) < 86_400 / 2
