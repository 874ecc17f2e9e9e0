"""`replay --compare`: a step repeated on the machine of its run, and every way to be different."""

import json
import shutil
import sys

import jax
import pytest

import train as train_script
from mlm.__main__ import main
from mlm.cli import run_command
from mlm.config import apply_overrides, load_config
from mlm.errors import CheckpointError, ConfigError
from mlm.retraining import compare
from mlm.stored_config import stored_config
from mlm.training.checkpoint import checkpoints_in
from mlm.training.restoring import verify_checkpoint
from mlm.training.step import TrainState

FIELDS = {
    "train.total_steps": 30,
    "log.every_steps": 4,
    "checkpoint.every_steps": 10,
    "checkpoint.keep_last": 9,
    "eval.every_steps": 30,
    "model.dropout": 0.1,
}


@pytest.fixture(scope="module")
def finished(tiny, tmp_path_factory):
    config = load_config("configs/default.py")
    apply_overrides(config, tiny | FIELDS)
    workdir = tmp_path_factory.mktemp("compared") / "run"
    assert train_script.run(config, workdir) == 0
    return workdir


@pytest.fixture
def copy(finished, tmp_path):
    return shutil.copytree(finished, tmp_path / "run")


def compared(workdir, step, **overrides):
    return compare(stored_config(workdir, overrides), workdir, step, say=str)


def test_a_step_has_the_bits_that_were_recorded(finished):
    # Lines stand at 4, 8, 12, ..., 28 and 30, checkpoints at 10, 20 and 30.
    found = compared(finished, 27)
    assert (found.began, found.recorded, found.differing) == (20, 28, ())
    assert found.equal == 12 and "bit for bit" in list(found.lines())[-1]
    leaves = len(jax.tree.leaves(verify_checkpoint(finished / "checkpoints/30")))
    last = compared(finished, 29)
    assert (last.began, last.recorded, last.equal) == (20, 30, 12 + leaves)
    first = compared(finished, 1)
    assert (first.began, first.recorded, first.differing) == (0, 4, ())
    saved = compared(finished, 9)
    assert (saved.began, saved.recorded, saved.equal) == (0, 10, leaves)


def test_the_interval_of_lines_may_have_changed_since(copy):
    fields = json.loads((copy / "config.json").read_text())
    (copy / "config.json").write_text(json.dumps(fields | {"log.every_steps": 3}))
    assert compared(copy, 23).differing == ()


def test_another_number_is_found_and_the_conditions_are_not_blamed(copy, monkeypatch, capsys):
    file = copy / "metrics.jsonl"
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    [line] = [x for x in lines if x["step"] == 28]
    line["train/loss"] += 1e-15
    file.write_text("".join(json.dumps(x) + "\n" for x in lines))
    arguments = ["mlm", "replay", f"--workdir={copy}", "--step=28", "--compare"]
    monkeypatch.setattr(sys, "argv", arguments)
    assert run_command(main) == 1
    out = capsys.readouterr().out.splitlines()
    assert out[-2].startswith("train/loss ") and " -> " in out[-2]
    assert "1 of 12 are different, and the conditions are the same" in out[-1]
    monkeypatch.setattr(sys, "argv", [*arguments[:3], "--step=24", "--compare"])
    assert run_command(main) == 0


def test_a_checkpoint_of_other_numbers_is_found(copy, finished):
    parts = verify_checkpoint(copy / "checkpoints/20")
    parts["params"]["head"]["output_bias"] += 1e-7
    shutil.rmtree(copy / "checkpoints/20")
    shutil.rmtree(copy / "checkpoints/30")
    with checkpoints_in(copy / "checkpoints", keep_last=9) as checkpoints:
        checkpoints.save(20, TrainState(jax.numpy.int32(20), **parts), interval={}, loss=None)
    found = compared(copy, 19)
    assert [d.split()[1] for d in found.differing] == ["params/head/output_bias"]


def test_another_mesh_is_named_as_the_cause(finished):
    found = compared(finished, 29, **{"mesh.data": 2, "mesh.fsdp": 4})
    assert found.differing and found.conditions == (
        "mesh slices 1 data 8 fsdp 1 tensor 1 -> slices 1 data 2 fsdp 4 tensor 1",
    )
    *shown, verdict = found.lines()
    assert len(shown) <= 6 and "are different, not bit-exact: mesh slices" in verdict


def test_what_was_not_recorded_or_is_not_known_is_told(copy):
    for step in (0, 31):
        with pytest.raises(ConfigError, match="has recorded steps 1 to 30"):
            compared(copy, step)
    changes = [{"step": 20, "field": "seed", "then": 0, "now": 1}]
    (copy / "data_changes.json").write_text(json.dumps({"changes": changes}))
    with pytest.raises(CheckpointError, match="after step 20 .* step 15 is not known any more"):
        compared(copy, 15)
    changes = [{"step": 23, "field": "seed", "then": 0, "now": 1}]
    (copy / "data_changes.json").write_text(json.dumps({"changes": changes}))
    with pytest.raises(CheckpointError, match="step 25 cannot be taken again from step 20"):
        compared(copy, 25)
    changes[0]["step"] = 20
    (copy / "data_changes.json").write_text(json.dumps({"changes": changes}))
    assert compared(copy, 25).differing == ()


def test_nothing_is_equal_where_nothing_was_compared(copy):
    facts = copy / "checkpoints/10/_CHECKPOINT_METADATA"
    shutil.rmtree(copy / "checkpoints/10/digests")  # as version 7 wrote it
    facts.write_text(facts.read_text().replace('"digests"', '"other"'))
    with pytest.raises(CheckpointError, match=r"checkpoint 10 .* nothing to compare with; .* 10$"):
        compared(copy, 9)
