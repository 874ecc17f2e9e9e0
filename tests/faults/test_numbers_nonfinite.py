"""Losses that are no number, batches with nothing to learn from, and losses that jump."""

import jax
import numpy as np
import pytest
from processes import finish, last_error, losses, status

from mlm.training.freezing import leaf_paths
from mlm.training.metrics import read_metrics
from mlm.training.restoring import verify_checkpoint
from mlm.training.workdir import saved_steps

SHORT = {"train__total_steps": 30, "checkpoint__every_steps": 5, "eval__every_steps": 30}


def lines_of(workdir):
    return {x["step"]: x for x in read_metrics(workdir / "metrics.jsonl") if "steps" in x}


def in_steps(workdir, name):
    """The steps whose line counts something under a name."""
    return [step for step, line in lines_of(workdir).items() if line[name]]


def saved(workdir, step):
    """Every array of a checkpoint by path, verified."""
    parts = verify_checkpoint(workdir / "checkpoints" / str(step))
    return dict(zip(leaf_paths(parts), map(np.asarray, jax.tree.leaves(parts)), strict=True))


def updates(workdir):
    """How many updates the optimizer of the newest checkpoint has made; all must be finite."""
    arrays = saved(workdir, saved_steps(workdir / "checkpoints")[-1])
    learnt = {path: x for path, x in arrays.items() if path != "recent_losses"}
    assert all(np.isfinite(x).all() for x in learnt.values())
    return max(int(x) for path, x in learnt.items() if path.endswith("/count"))


@pytest.mark.smoke
@pytest.mark.fault(
    28,
    "a gradient that is NaN, in one step and in four in a row",
    "skipped and counted; parameters stay finite, and the next step trains",
)
def test_a_step_that_is_not_finite_is_skipped(train_process, tmp_path):
    process = train_process(tmp_path, inject="nan@12,nan@17-20", **SHORT)
    out, _ = finish(process)
    skipped = [12, 17, 18, 19, 20]
    assert in_steps(tmp_path, "train/nonfinite_steps") == skipped
    assert sorted(losses(tmp_path)) == [s for s in range(1, 31) if s not in skipped]
    assert "step 12: loss or gradient is not finite" in out
    assert updates(tmp_path) == 25


@pytest.mark.fault(
    29,
    "gradients that stay NaN from a step on; a learning rate of 1e18",
    "exit 5 after five steps in a row; the last good checkpoint stays, again and again",
)
def test_a_run_that_stays_non_finite_ends(train_process, tmp_path):
    run, wild = tmp_path / "run", tmp_path / "wild"
    for _ in range(2):
        # Four of the row lie before the checkpoint of step 15, which the second one goes on from.
        error = last_error(finish(train_process(run, inject="nan@12-30", **SHORT), 5)[1])
        assert "non-finite loss or gradient in steps 12 to 16" in error
        assert "the last good checkpoint is step 15" in error
        assert status(run)["state"] == "non-finite" and saved_steps(run / "checkpoints")[-1] == 15
        assert updates(run) == 11
    fields = {"optimizer__learning_rate": 1e18, "optimizer__clip_norm": 0.0}
    error = last_error(finish(train_process(wild, **SHORT, **fields), 5)[1])
    assert "non-finite loss or gradient in steps" in error
    assert status(wild)["state"] == "non-finite"


@pytest.mark.fault(
    30,
    "a batch without a masked token, and one of padding alone",
    "loss 0 and weight 0, nothing that is no number",
)
def test_a_batch_with_nothing_to_learn_from(train_process, tmp_path):
    finish(train_process(tmp_path, inject="unmasked@12,padding@17", **SHORT))
    lines = lines_of(tmp_path)
    for step in (12, 17):
        values = {n: v for n, v in lines[step].items() if not n.startswith("perf/")}
        assert values["train/loss"] == values["train/gradient_norm"] == 0
        assert values["masking/realised_rate"] == 0 and np.isfinite(list(values.values())).all()
    assert lines[17]["data/padding_share"] == 1 and lines[13]["train/loss"] > 1
    assert in_steps(tmp_path, "train/nonfinite_steps") == [] and updates(tmp_path) == 30


@pytest.mark.fault(
    31,
    "a loss a hundred times as high, twice, and a NaN between them",
    "told and counted, by choice skipped; the steps after them are ordinary ones",
)
def test_spikes(train_process, tmp_path):
    fields = SHORT | {"train__total_steps": 110, "checkpoint__every_steps": 55}
    fields["eval__every_steps"] = 110
    fault = {"inject": "spike@90,nan@93,spike@96"}
    taken = train_process(tmp_path / "taken", **fault, **fields)
    skipping = train_process(tmp_path / "skipped", **fault, **fields, train__skip_spikes=True)
    for process, workdir, made in (
        (taken, tmp_path / "taken", 109),
        (skipping, tmp_path / "skipped", 107),
    ):
        out, _ = finish(process)
        assert "step 90: loss " in out and "is a spike" in out
        assert in_steps(workdir, "train/loss_spikes") == [90, 96]
        assert in_steps(workdir, "train/nonfinite_steps") == [93]
        assert updates(workdir) == made
        window = saved(workdir, 110)["recent_losses"]
        assert np.isfinite(window).sum() == 109 and np.nanmax(window) < 10
