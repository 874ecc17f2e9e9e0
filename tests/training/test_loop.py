"""The loop's own promises, with a step so small that nothing else can hide them."""

import dataclasses
import json
import os
import shutil
import signal
import threading
import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mlm.errors import ConfigError, NonFiniteError, WorkdirLockedError
from mlm.training import Run, TrainState, train
from mlm.training.loop import train_in
from mlm.training.loss import LossSums
from mlm.training.metrics import MetricWriter, read_metrics
from mlm.training.step import MaskCounts, StepMetrics
from mlm.training.workdir import locked_workdir


@jax.jit
def add_step(state, batch):
    """A running sum with momentum; the loss is the batch's value, so a NaN there is one here."""
    value = batch["value"]
    moved = 0.9 * state.opt_state["m"] + value
    one = jnp.float32(1)
    metrics = StepMetrics(
        LossSums(value * 4, one * 4, one),
        MaskCounts(one * 20, one * 0, one * 4),
        one * 30,
        value,
        one,
        True,
    )._replace(finite=jnp.isfinite(value))
    return TrainState(state.step + 1, {"w": state.params["w"] + moved}, {"m": moved}), metrics


def make_run(total=10, values=None, **changes):
    values = np.arange(1.0, total + 1) if values is None else values
    evaluated = []

    def evaluate(params):
        evaluated.append(float(params["w"]))
        loss = 100 - float(params["w"])
        return {"token@0.15": {"loss": loss, "unigram_loss": 1.0, "top1": 0.5, "mask_hash": "x"}}

    run = Run(
        init_state=lambda: TrainState(jnp.int32(0), {"w": jnp.zeros(())}, {"m": jnp.zeros(())}),
        step=add_step,
        batch_at=lambda k: {"value": np.float32(values[k])},
        put=lambda batch: jax.tree.map(jnp.asarray, batch),
        evaluate=evaluate,
        total_steps=total,
        **{**dict(log_every=1, eval_every=5, save_every=3, slots=40), **changes},
    )
    return run, evaluated


def losses(workdir):
    return {
        line["step"]: line["train/loss"]
        for line in read_metrics(workdir / "metrics.jsonl")
        if "train/loss" in line
    }


def test_every_step_is_logged_once_and_the_end_is_evaluated(tmp_path):
    run, evaluated = make_run()
    outcome = train(run, tmp_path)
    assert (outcome.step, outcome.exit_code) == (10, 0)
    assert losses(tmp_path) == {k: float(k) for k in range(1, 11)}
    assert len(evaluated) == 2 and outcome.evaluation["token@0.15"]["loss"] == 100 - evaluated[1]
    assert json.loads((tmp_path / "status.json").read_text())["state"] == "complete"


def test_the_first_params_are_evaluated_once_if_wanted(tmp_path):
    run, evaluated = make_run(evaluate_first=True, save_every=5, keep_last=2)
    train(run, tmp_path)
    assert evaluated[0] == 0 and len(evaluated) == 3
    first = json.loads((tmp_path / "eval-0.json").read_text())
    assert first["step"] == 0 and first["masks"]["token@0.15"]["loss"] == 100
    lines = read_metrics(tmp_path / "metrics.jsonl")
    assert [line["step"] for line in lines if "eval/token@0.15/loss" in line] == [0, 5, 10]
    # A run that goes on does not begin anew; one that has saved nothing does, without the old line.
    shutil.rmtree(tmp_path / "checkpoints/10")
    train(run, tmp_path)
    assert len(evaluated) == 4 and evaluated.count(0) == 1
    shutil.rmtree(tmp_path / "checkpoints")
    train(run, tmp_path)
    steps = [line["step"] for line in read_metrics(tmp_path / "metrics.jsonl")]
    assert evaluated.count(0) == 2 and steps.count(0) == 1


def test_a_line_covers_its_interval(tmp_path):
    train(make_run(log_every=4)[0], tmp_path)
    assert losses(tmp_path) == {4: 2.5, 8: 6.5, 10: 9.5}
    line = next(x for x in read_metrics(tmp_path / "metrics.jsonl") if x["step"] == 4)
    assert line["masking/realised_rate"] == line["masking/corrupted_rate"] == 0.2
    assert line["data/padding_share"] == 0.25
    assert line["train/accuracy"] == 0.25 and line["steps"] == 4


def test_waiting_evaluating_and_saving_are_timed(tmp_path):
    def slow(k):
        time.sleep(0.03)
        return {"value": np.float32(1)}

    run, _ = make_run()
    train(dataclasses.replace(run, batch_at=slow), tmp_path)
    lines = read_metrics(tmp_path / "metrics.jsonl")

    def seconds(name):
        return {x["step"]: x[f"perf/{name}"] for x in lines if f"perf/{name}" in x}

    assert list(seconds("evaluation_seconds")) == [5, 10]
    assert list(seconds("checkpoint_seconds")) == [3, 6, 9, 10]
    waits = seconds("data_wait_seconds")
    assert list(waits) == list(range(2, 11)) and sum(waits.values()) > 0.1
    assert all(value >= 0 for line in lines for n, value in line.items() if "seconds" in n)


def test_metrics_are_read_one_step_behind(tmp_path):
    # While the host reads step k - 1, step k must have been dispatched already.
    order = []
    run, _ = make_run(eval_every=100, save_every=100)

    def step(state, batch):
        order.append(f"dispatch {int(batch['value'])}")
        return add_step(state, batch)

    import mlm.training.loop as loop

    fetch = loop.host

    def host(metrics):
        fetched = fetch(metrics)
        order.append(f"read {int(fetched.sums.loss / 4)}")
        return fetched

    loop.host = host
    try:
        train(dataclasses.replace(run, step=step), tmp_path)
    finally:
        loop.host = fetch
    # The first step compiled and is waited for; the last one has no successor.
    assert order[:2] == ["dispatch 1", "read 1"]
    for k in range(3, 11):
        assert order.index(f"dispatch {k}") < order.index(f"read {k - 1}")


def test_a_signal_saves_and_the_same_call_continues_bit_for_bit(tmp_path):
    whole, _ = make_run()
    expected = train(whole, tmp_path / "whole")

    run, _ = make_run()

    first = train(stopping_at(run, 6), tmp_path / "halves")
    assert first.exit_code == 143 and 0 < first.step < 10 and first.evaluation is None
    assert json.loads((tmp_path / "halves/status.json").read_text())["state"] == "stopped"
    second = train(run, tmp_path / "halves")
    assert second.exit_code == 0 and second.state.params == expected.state.params
    assert losses(tmp_path / "halves") == losses(tmp_path / "whole")


def stopping_at(run, k, signum=signal.SIGTERM):
    """The run, with a signal sent while batch k is made."""

    def batch_at(i):
        if i == k:
            os.kill(os.getpid(), signum)
        return run.batch_at(i)

    return dataclasses.replace(run, batch_at=batch_at)


@pytest.mark.parametrize("k", [2, 5, 8])
def test_a_line_whose_interval_was_interrupted_is_the_same(tmp_path, k):
    run, _ = make_run(log_every=4, save_every=100, eval_every=100)
    stopped = train(stopping_at(run, k), tmp_path)
    assert stopped.exit_code == 143
    train(run, tmp_path)
    assert losses(tmp_path) == {4: 2.5, 8: 6.5, 10: 9.5}
    lines = read_metrics(tmp_path / "metrics.jsonl")
    assert [line["steps"] for line in lines if "steps" in line] == [4, 4, 2]


def test_a_stop_does_not_wait_for_an_evaluation(tmp_path):
    run, evaluated = make_run(eval_every=1)
    outcome = train(stopping_at(run, 4), tmp_path)
    assert outcome.exit_code == 143 and len(evaluated) == outcome.step - 1


def test_a_signal_in_the_last_step_leaves_a_complete_run(tmp_path):
    run, evaluated = make_run()
    late = dataclasses.replace(
        run, evaluate=lambda params: os.kill(os.getpid(), signal.SIGTERM) or run.evaluate(params)
    )
    outcome = train(dataclasses.replace(late, eval_every=10), tmp_path)
    assert (outcome.step, outcome.exit_code) == (10, 0) and outcome.evaluation
    assert json.loads((tmp_path / "status.json").read_text())["state"] == "complete"


def test_a_workdir_serves_one_run_at_a_time_and_one_config(tmp_path):
    run, _ = make_run(config={"masking.rate": 0.15})
    train(run, tmp_path)
    with locked_workdir(tmp_path), pytest.raises(WorkdirLockedError):
        train(run, tmp_path)
    with pytest.raises(ConfigError, match="masking.rate 0.15 -> 0.3"):
        train(dataclasses.replace(run, config={"masking.rate": 0.3}), tmp_path)


def test_handlers_are_given_back(tmp_path):
    before = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)
    train(make_run(total=2)[0], tmp_path)
    assert (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)) == before


def test_training_works_outside_the_main_thread(tmp_path):
    outcomes = []
    thread = threading.Thread(target=lambda: outcomes.append(train(make_run()[0], tmp_path)))
    thread.start()
    thread.join(60)
    assert outcomes[0].step == 10


def test_a_non_finite_loss_ends_the_run_and_names_the_last_good_checkpoint(tmp_path):
    values = np.arange(1.0, 11)
    values[7] = np.nan
    run, _ = make_run(values=values)
    with pytest.raises(NonFiniteError, match="in step 8 .*step 7 was finite.*checkpoint is step 6"):
        train(run, tmp_path)
    assert list(losses(tmp_path)) == list(range(1, 8))
    steps = sorted(int(p.name) for p in (tmp_path / "checkpoints").iterdir() if p.name.isdigit())
    assert steps[-1] == 6


def test_nothing_non_finite_is_saved_when_a_save_is_due(tmp_path):
    values = np.arange(1.0, 11)
    values[5] = np.inf  # step 6, where a checkpoint is due
    with pytest.raises(NonFiniteError, match="checkpoint is step 3"):
        train(make_run(values=values)[0], tmp_path)


def test_the_last_and_the_best_checkpoints_stay(tmp_path):
    values = np.array([1, 1, 60, -90, -1, -1, -1, -1, -1, -1.0])
    run, _ = make_run(values=values, eval_every=1, save_every=1, keep_last=2, keep_best=1)
    train(run, tmp_path)
    steps = sorted(int(p.name) for p in (tmp_path / "checkpoints").iterdir() if p.name.isdigit())
    assert steps == [3, 9, 10]


def test_a_complete_run_trains_no_further(tmp_path):
    run, _ = make_run()
    first = train(run, tmp_path)
    dispatched = []
    counted = dataclasses.replace(run, step=lambda *a: dispatched.append(1))
    again = train(counted, tmp_path)
    assert not dispatched and again.step == 10
    assert again.evaluation == first.evaluation


def test_an_error_in_the_data_thread_surfaces(tmp_path):
    run, _ = make_run(values=np.arange(1.0, 5))  # no fifth value
    with pytest.raises(IndexError):
        train(run, tmp_path)
    # The checkpoint that was being written is complete all the same.
    assert (tmp_path / "checkpoints/3/params").is_dir()


def test_a_metric_that_is_slow_to_write_is_no_step_that_hangs(tmp_path, monkeypatch):
    write, told = MetricWriter.write, []

    def slow(self, step, values):
        time.sleep(1.6)  # a bucket that is away for a while
        write(self, step, values)

    monkeypatch.setattr(MetricWriter, "write", slow)
    run, _ = make_run(total=2, log_every=2, save_every=2, eval_every=2, step_seconds=1.0)
    with locked_workdir(tmp_path):
        assert train_in(tmp_path, run, hung=told.append).step == 2
    assert told == []


def test_a_run_never_begins_again_in_silence(tmp_path, capsys):
    run, _ = make_run()
    train(run, tmp_path)
    assert "beginning at step 0" not in capsys.readouterr().err
    shutil.rmtree(tmp_path / "checkpoints")
    assert train(run, tmp_path).step == 10
    words = "status.json says step 10, but no checkpoint is there; beginning at step 0"
    assert words in capsys.readouterr().err
