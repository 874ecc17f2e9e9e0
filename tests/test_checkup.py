"""`doctor` on real runs: a healthy one is well, and each harm that is done to it is found."""

import json
import shutil
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import train as train_script
from mlm import experiment
from mlm.__main__ import main
from mlm.checkup import examine_config, examine_run
from mlm.cli import run_command
from mlm.conditions import usable_cores
from mlm.config import apply_overrides, flat, load_config
from mlm.data.store import mark_checked
from mlm.doctor.sample import take_samples
from mlm.going_on import examine_going_on
from mlm.masks import make_mask, training_rates, training_strategy
from mlm.settings import run_keys
from mlm.stored_config import stored_config
from mlm.training.checkpoint import checkpoints_in

LEARNING = {
    "data.length": 32,
    "model.max_length": 32,
    "model.width": 32,
    "optimizer.learning_rate": 0.005,
    "train.total_steps": 240,
    "eval.every_steps": 120,
    "checkpoint.every_steps": 120,
    "log.every_steps": 20,
}


def make_config(tiny, **overrides):
    config = load_config("configs/default.py")
    apply_overrides(
        config, tiny | LEARNING | {k.replace("__", "."): v for k, v in overrides.items()}
    )
    return config


@pytest.fixture(scope="module")
def healthy(tiny, tmp_path_factory):
    """The workdir of a run that has learnt, whose text is a folder of its own."""
    folder = tmp_path_factory.mktemp("healthy")
    given = [f"--config.{name}={value}" for name, value in (tiny | LEARNING).items()]
    main(["prepare", "--config=configs/default.py", *given, f"--out={folder / 'text'}"])
    config = make_config(tiny, data__store=str(folder / "text"))
    assert train_script.run(config, folder / "run") == 0
    return folder


@pytest.fixture
def copy(healthy, tmp_path):
    """The run and its text, to be harmed; the config knows where the text is now."""
    shutil.copytree(healthy, tmp_path, dirs_exist_ok=True)
    fields = json.loads((tmp_path / "run/config.json").read_text())
    fields["data.store"] = str(tmp_path / "text")
    (tmp_path / "run/config.json").write_text(json.dumps(fields))
    return tmp_path


def found(workdir):
    """The findings that are not ok, words by verdict and name."""
    findings = list(examine_run(stored_config(workdir, {}), workdir, say=str))
    return {(f.verdict, f.name): f.words for f in findings if f.verdict != "ok"}


def test_a_healthy_run_is_well(healthy, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["mlm", "doctor", f"--workdir={healthy / 'run'}"])
    assert run_command(main) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[-1] == f"{len(lines) - 1} ok: all is well" and len(lines) == 29
    assert all(line.startswith("ok       ") for line in lines[:-1])


def test_a_config_before_its_run(tiny, monkeypatch, capsys):
    given = [f"--config.{name}={value}" for name, value in (tiny | LEARNING).items()]
    arguments = ["mlm", "doctor", "--config=configs/default.py", *given]
    monkeypatch.setattr(sys, "argv", arguments)
    assert run_command(main) == 0
    assert "all is well" in capsys.readouterr().out
    monkeypatch.setattr(sys, "argv", [*arguments, "--config.masking.random_ids=vocabulary"])
    assert run_command(main) == 0
    out = capsys.readouterr().out
    assert "warning  special ids inserted" in out and "1 warning: nothing is bad" in out


@pytest.mark.parametrize(
    ("overrides", "names"),
    [
        (
            {"masking__unit": "span", "masking__fit": "skip"},
            {"predicted rate, masked now", "units (span)"},
        ),
        (  # what 'auto', the default, does with words: skip those that do not fit
            {"masking__unit": "word", "masking__rate": 0.06},
            {"units (word)"},
        ),
        (
            {"masking__count": "exact", "masking__mask_selection_length": 20},
            {"rounding of counts", "mask slots"},
        ),
        ({"data__rows": "document"}, {"padding"}),
    ],
)
def test_choices_that_cost_something_are_warned_of(tiny, overrides, names):
    findings = list(examine_config(make_config(tiny, **overrides), say=str))
    assert {f.name for f in findings if f.verdict != "ok"} == names
    assert not [f for f in findings if f.verdict == "bad"]


def test_what_the_same_command_would_do_and_why_it_is_not_bit_exact(copy):
    file = copy / "run/environment.json"
    kept = json.loads(file.read_text())
    kept["attempts"][0]["conditions"] |= {"cores": 96, "jax": "0.9.9"}
    file.write_text(json.dumps(kept))
    shutil.rmtree(copy / "run/checkpoints/240")
    words = found(copy / "run")[("warning", "the same command")]
    assert words == (
        f"goes on at step 120 of 240; not bit-exact: jax 0.9.9 -> {jax.__version__}, "
        f"cores 96 -> {usable_cores()}"
    )
    file.write_text("{}")
    assert "not known" in found(copy / "run")[("warning", "the same command")]


def test_steps_that_were_skipped_are_warned_of(copy):
    file = copy / "run/metrics.jsonl"
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    [line] = [x for x in lines if x["step"] == 40 and "steps" in x]
    line["train/nonfinite_steps"] = 3
    file.write_text("".join(json.dumps(x) + "\n" for x in lines))
    words = found(copy / "run")[("warning", "finite")]
    assert words.startswith("3 steps were skipped") and "step 40" in words


def test_edited_metrics(copy):
    file = copy / "run/metrics.jsonl"
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    lines[2] |= {"masking/realised_rate": 0.3, "masking/overflow": 4.0}
    lines[3]["train/loss"] = float("nan")
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert set(found(copy / "run")) == {
        ("bad", "rate, in metrics.jsonl"),
        ("bad", "overflow"),
        ("bad", "finite"),
    }


def test_a_swapped_tokenizer(copy, monkeypatch, capsys):
    file = copy / "run/tokenizer.json"
    content = json.loads(file.read_text())
    content["normalizer"]["lowercase"] = False
    file.write_text(json.dumps(content))
    [(key, words)] = found(copy / "run").items()
    assert key == ("bad", "text and tokenizer of the run") and words.startswith("tokenizer: ")
    monkeypatch.setattr(sys, "argv", ["mlm", "doctor", f"--workdir={copy / 'run'}"])
    assert run_command(main) == 1
    assert "1 bad: not all is well" in capsys.readouterr().out


def damage(file):
    content = bytearray(file.read_bytes())
    content[0] ^= 1  # another id of the vocabulary
    file.write_bytes(content)


def test_a_damaged_store(copy):
    damage(copy / "text/train/tokens.bin")
    [(key, words)] = found(copy / "run").items()  # nothing can be masked without it
    assert key == ("bad", "text and weights") and "tokens.bin is damaged" in words
    mark_checked(copy / "text/train")  # as if it had been so when it was checked
    assert ("bad", "store, train") in found(copy / "run")


def test_another_text(copy):
    meta = copy / "text/train/meta.json"
    meta.write_text(json.dumps(json.loads(meta.read_text()) | {"fingerprint": "x"}))
    findings = examine_run(stored_config(copy / "run", {}), copy / "run", say=str)
    words = {f.name: f.words for f in findings}
    assert "text: " in words["text and tokenizer of the run"]
    assert "the same command" not in words  # which is refused


def test_other_evaluation_masks(copy):
    file = copy / "run/eval.json"
    result = json.loads(file.read_text())
    result["masks"]["token@0.15"]["mask_hash"] = "0" * 64
    file.write_text(json.dumps(result))
    assert set(found(copy / "run")) == {("bad", "evaluation masks")}
    file.write_text("{")
    assert "cannot be read" in found(copy / "run")["bad", "evaluation masks"]


def test_damaged_and_non_finite_checkpoints(copy):
    workdir = copy / "run"
    exp = experiment.build(stored_config(workdir, {}), say=str)
    state = exp.run.init_state()
    sick = jax.tree.map(lambda leaf: jnp.full_like(leaf, jnp.nan), state.params)
    with checkpoints_in(workdir / "checkpoints", keep_last=5) as checkpoints:
        checkpoints.save(241, state._replace(params=sick), interval={}, loss=None)
    assert "are not finite" in found(workdir)["bad", "numbers of checkpoint 241"]
    shutil.rmtree(workdir / "checkpoints/241/params")
    assert "is damaged (params: cannot be read)" in found(workdir)["bad", "checkpoint 241"]


def test_what_is_not_finite_but_as_it_was_saved_is_what_a_run_would_take(copy):
    workdir = copy / "run"
    exp = experiment.build(stored_config(workdir, {}), say=str)
    bad = {"numbers of checkpoint 240"}
    [_, told] = examine_going_on(exp, workdir, bad=bad)
    assert told.words.startswith("trains no more")
    [_, told] = examine_going_on(exp, workdir, bad={"checkpoint 240"})
    assert told.words.startswith("goes on at step 120")
    for refused in ("access to checkpoint 240", "text and tokenizer of the run"):
        assert len(list(examine_going_on(exp, workdir, bad={refused}))) == 1


def test_a_run_on_the_plateau_without_checkpoints(saved_run, tmp_path):
    shutil.copytree(saved_run, tmp_path, dirs_exist_ok=True)
    shutil.rmtree(tmp_path / "checkpoints")
    line = {"step": 12, "eval/token@0.15/loss": 4.0, "eval/token@0.15/unigram_loss": 4.05}
    (tmp_path / "metrics.jsonl").write_text(json.dumps(line) + "\n")
    problems = found(tmp_path)
    assert ("bad", "learning") in problems and ("warning", "checkpoints") in problems


def test_a_wrong_workdir(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["mlm", "doctor", f"--workdir={tmp_path}"])
    assert run_command(main) == 4
    assert "config.json cannot be read" in capsys.readouterr().err
    monkeypatch.setattr(sys, "argv", ["mlm", "doctor"])
    assert run_command(main) == 2
    assert "give --workdir of a run, or --config" in capsys.readouterr().err


def test_samples_are_masked_as_training_masks(tiny):
    config = make_config(
        tiny, masking__unit="word", masking__rate=0.4, masking__prediction_rate=0.2
    )
    exp = experiment.build(config, say=str)
    root, total = run_keys(config.seed).masks, exp.run.total_steps
    rates = training_rates(config, total_steps=total)
    strategy = training_strategy(config, exp.text, rates)
    [sample] = take_samples(strategy, rates, exp.run.batch_at, root=root, steps=[3])
    mask = make_mask(config, exp.text, root=root, total_steps=total)
    masked, counts = jax.jit(mask)(exp.run.batch_at(3), jnp.int32(3), ())
    assert len(sample.original) == 256 and flat(config)["train.batch_size"] == 16
    np.testing.assert_array_equal(sample.shown[:16, 0], masked["token_ids"])
    assert sample.predicted[:16].sum() == masked["mask_weights"].sum()
    places = np.take_along_axis(sample.predicted[:16, 0], np.asarray(masked["mask_positions"]), 1)
    assert places[np.asarray(masked["mask_weights"]) > 0].all()
    assert sample.corrupted[:16].sum() == counts.corrupted and sample.asked == 0.2
    assert not (sample.predicted & ~sample.corrupted).any()
    assert not ((sample.shown != sample.original[:, None]) & ~sample.corrupted).any()
    words = exp.tokenizer.token
    for place in np.flatnonzero(sample.selectable[0]):
        begins = sample.leaders[0, place] == place
        goes_on = words(int(sample.original[0, place])).startswith("##")
        assert begins == (not goes_on or place == 0 or not sample.selectable[0, place - 1])
