"""Whole runs in this process, on eight virtual devices, and every config for a step."""

import gzip
import json

import jax
import numpy as np
import pytest

import eval as eval_script
import train as train_script
from mlm import experiment
from mlm.config import apply_overrides, load_config
from mlm.masks import training_rates, training_strategy
from mlm.rules import validate
from mlm.training import loop
from mlm.training.profile import Steps
from mlm.training.watchdog import OTHER_SECONDS

SLOTS = {"mask", "random", "keep"}
ENTRY = {
    "loss",
    "perplexity",
    "top1",
    "top5",
    "unigram_loss",
    "masked_tokens",
    "realised_rate",
    "mask_hash",
    "by_slot",
}


def make_config(tiny, name="default", **overrides):
    config = load_config(f"configs/{name}.py")
    apply_overrides(config, tiny | {k.replace("__", "."): v for k, v in overrides.items()})
    validate(config)
    return config


@pytest.fixture(scope="module")
def finished(tiny, tmp_path_factory):
    """A run to the end, with a training rate of its own."""
    workdir = tmp_path_factory.mktemp("run")
    config = make_config(
        tiny, masking__rate=0.3, eval__fill=("the cat sees the [MASK].",), log__tensorboard=True
    )
    assert train_script.run(config, workdir) == 0
    return workdir, config


def test_a_run_leaves_its_files(finished):
    workdir, _ = finished
    names = {path.name for path in workdir.iterdir()}
    assert names >= {
        "config.json",
        "metrics.jsonl",
        "tensorboard",
        "checkpoints",
        "status.json",
        "tokenizer.json",
        "eval.json",
    }


def test_eval_json_has_the_promised_shape(finished):
    result = json.loads((finished[0] / "eval.json").read_text())
    assert result["step"] == 12 and set(result["masks"]) == {"token@0.15", "token@0.3"}
    for rate, values in zip((0.15, 0.3), result["masks"].values(), strict=True):
        assert set(values) == ENTRY and set(values["by_slot"]) == SLOTS
        assert abs(values["realised_rate"] - rate) < 0.03
        assert values["perplexity"] == pytest.approx(np.exp(values["loss"]))
        assert len(values["mask_hash"]) == 64


def test_a_stale_evaluation_does_not_pass_for_the_end(finished):
    workdir, config = finished
    right = json.loads((workdir / "eval.json").read_text())
    eval_script.run(workdir, step=8)
    assert json.loads((workdir / "eval-8.json").read_text())["step"] == 8
    assert json.loads((workdir / "eval.json").read_text()) == right
    (workdir / "eval.json").write_text(json.dumps(right | {"step": 8}))
    assert train_script.run(config, workdir) == 0
    assert json.loads((workdir / "eval.json").read_text()) == right


def test_the_standard_rate_decides_which_checkpoint_is_best(tiny):
    exp = experiment.build(make_config(tiny, masking__rate=0.1), say=str)
    masks = exp.run.evaluate(exp.run.init_state().params)
    assert list(masks) == ["token@0.15", "token@0.1"]


def test_eval_py_repeats_the_numbers(finished, capsys):
    workdir, _ = finished
    before = json.loads((workdir / "eval.json").read_text())
    eval_script.run(workdir)
    assert json.loads((workdir / "eval.json").read_text()) == before
    assert "token@0.15" in capsys.readouterr().out


def test_eval_py_fills_masks(finished, capsys):
    eval_script.run(finished[0], fill=["the [MASK] sees [MASK] dog"], top_k=3)
    lines = capsys.readouterr().out.splitlines()
    at = lines.index("the [MASK] sees [MASK] dog")
    assert all(len(line.split()) == 6 for line in lines[at + 1 : at + 3])


def test_the_same_command_again_says_that_the_run_is_complete(finished, capsys):
    workdir, config = finished
    assert train_script.run(config, workdir) == 0
    assert "is complete" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("name", "rows"),
    [
        ("default", "packed"),
        ("quickstart", "blocks"),
        ("distilbert_base", "document"),
        ("adapt_to_domain", "packed"),
    ],
)
def test_every_config_and_row_mode_runs_a_shrunken_step(tiny, name, rows):
    config = make_config(tiny, name, data__rows=rows, model__init_from="")
    exp = experiment.build(config, say=str)
    state, metrics = exp.run.step(exp.run.init_state(), exp.run.put(exp.run.batch_at(0)))
    assert metrics.finite and metrics.sums.weight > 0 and int(state.step) == 1


def test_training_settings_leave_the_frozen_masks_alone(tiny, finished):
    other = make_config(
        tiny,
        seed=5,
        masking__rate=0.5,
        masking__count="bernoulli",
        masking__mask_token_rate=1.0,
        masking__random_token_rate=0.0,
        data__rows="blocks",
        eval__batch_size=8,
    )
    exp = experiment.build(other, say=str)
    masks = exp.run.evaluate(exp.run.init_state().params)
    stored = json.loads((finished[0] / "eval.json").read_text())["masks"]
    for name in ("mask_hash", "unigram_loss", "masked_tokens"):
        assert masks["token@0.15"][name] == pytest.approx(stored["token@0.15"][name])


def test_the_loss_of_a_document_is_the_same_packed_or_alone(tiny):
    config = make_config(tiny, data__length=192, model__max_length=192)
    exp = experiment.build(config, say=str)
    params = exp.run.init_state().params
    batch = exp.run.batch_at(0)
    packed = np.flatnonzero((batch["segment_ids"] == 2).any(axis=1))
    compared = 0
    for row in packed[:3]:
        for segment in np.unique(batch["segment_ids"][row])[1:]:
            at = np.flatnonzero(batch["segment_ids"][row] == segment)
            together = {name: values[row : row + 1] for name, values in batch.items()}
            alone = np.zeros((1, 192), np.int32)
            alone[0, : len(at)] = batch["token_ids"][row, at]
            hidden = at[1:-1][:2]
            together = together | {"mask_positions": hidden[None]}
            single = {
                "token_ids": alone,
                "padding_mask": np.arange(192)[None] < len(at),
                "mask_positions": hidden[None] - at[0],
            }
            labels = batch["token_ids"][row, hidden]
            losses = [
                -jax.nn.log_softmax(exp.apply(params, b))[0, np.arange(len(labels)), labels]
                for b in (together, single)
            ]
            np.testing.assert_allclose(*losses, atol=1e-5)
            compared += len(labels)
    assert compared >= 8


def training_spec(config, exp):
    return training_strategy(config, exp.text, training_rates(config, total_steps=1)).spec


def test_no_training_mask_hides_a_special_token(tiny):
    exp = experiment.build(make_config(tiny, masking__rate=0.5), say=str)
    spec = training_spec(make_config(tiny, masking__rate=0.5), exp)
    special = exp.tokenizer.special
    assert set(spec.unselectable_token_ids) == set(exp.tokenizer.special_ids) - {special.unk}
    without = make_config(tiny, masking__select_unknown=False)
    spec = training_spec(without, exp)
    assert set(spec.unselectable_token_ids) == set(exp.tokenizer.special_ids)


def test_steps_are_profiled_into_the_workdir(tiny, tmp_path, capsys, monkeypatch):
    limits, train_in = [], loop.train_in

    def seen(workdir, run, **more):
        limits.append(run.step_seconds)
        return train_in(workdir, run, **more)

    monkeypatch.setattr(loop, "train_in", seen)
    config = make_config(tiny, train__total_steps=4)
    assert train_script.run(config, tmp_path, profile=Steps(2, 3)) == 0
    printed = " ".join(capsys.readouterr().out.split())
    assert "the profile of steps 2-3 lies in" in printed and "xprof --logdir=" in printed
    [file] = tmp_path.glob("profile/plugins/profile/*/*.trace.json.gz")
    timeline = gzip.decompress(file.read_bytes()).decode()
    assert '"PjitFunction(train_step)"' in timeline
    assert '"step_num":"3"' in timeline and '"step_num":"4"' not in timeline
    assert limits == [OTHER_SECONDS]  # writing it is no step that hangs
