"""The loop and numbers: steps that are not finite, evaluations that are not, tokens, attempts."""

import dataclasses
import json

import numpy as np
import pytest
from test_loop import losses, make_run, stopping_at

from mlm.errors import NonFiniteError
from mlm.training import train
from mlm.training.metrics import read_metrics


def test_fewer_steps_in_a_row_are_skipped_also_across_a_restart(tmp_path):
    values = np.arange(1.0, 11)
    values[[2, 5, 6]] = np.nan  # steps 3, 6 and 7; a checkpoint is due at 3 and 6
    outcome = train(make_run(values=values, max_nonfinite_in_a_row=3)[0], tmp_path / "whole")
    finite = [step for step in range(1, 11) if step not in (3, 6, 7)]
    assert outcome.exit_code == 0 and losses(tmp_path / "whole") == {k: float(k) for k in finite}
    counted = {
        line["step"]: line["train/nonfinite_steps"]
        for line in read_metrics(tmp_path / "whole/metrics.jsonl")
        if "steps" in line
    }
    assert counted == {step: int(step not in finite) for step in range(1, 11)}

    values[7] = np.nan  # three in a row, of which the first is in the checkpoint of step 6
    run = make_run(values=values, max_nonfinite_in_a_row=3)[0]
    for _ in range(2):
        with pytest.raises(NonFiniteError, match="in steps 6 to 8 .*checkpoint is step 6"):
            train(run, tmp_path / "ends")
    status = json.loads((tmp_path / "ends/status.json").read_text())
    assert status["state"] == "non-finite"


def test_an_evaluation_that_is_no_number_makes_no_best_checkpoint(tmp_path):
    run, _ = make_run(eval_every=2, save_every=2, keep_last=1, keep_best=1)

    def evaluate(params):
        values = run.evaluate(params)["token@0.15"]
        nan = abs(float(params["w"]) - 5) > 3  # all but the second one
        return {"token@0.15": values | ({"loss": np.nan} if nan else {})}

    train(dataclasses.replace(run, evaluate=evaluate), tmp_path)
    lines = read_metrics(tmp_path / "metrics.jsonl")
    steps = [x["step"] for x in lines if np.isfinite(x.get("eval/token@0.15/loss", np.nan))]
    kept = sorted(int(p.name) for p in (tmp_path / "checkpoints").iterdir() if p.name.isdigit())
    assert len(steps) == 1 and kept == [*steps, 10]


def test_tokens_are_counted_from_the_first_step(tmp_path):
    run, _ = make_run(log_every=4)
    train(stopping_at(run, 5), tmp_path)
    train(run, tmp_path)
    lines = read_metrics(tmp_path / "metrics.jsonl")
    assert [x["train/tokens"] for x in lines if "steps" in x] == [160, 320, 400]


def test_the_step_that_an_attempt_begins_at_is_told(tmp_path):
    begun = []
    run = dataclasses.replace(make_run()[0], begin=lambda workdir, step: begun.append(step))
    stopped = train(stopping_at(run, 5), tmp_path)
    train(run, tmp_path)
    train(run, tmp_path)  # it is complete: nothing begins
    assert begun == [0, stopped.step]
