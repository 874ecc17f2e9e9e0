"""From one run to the next: pretrained weights, new tokens, frozen parts, before and after."""

import json
import shutil

import jax
import numpy as np
import pytest

import train as train_script
from mlm import experiment, models, pretrained, saved
from mlm.config import ARCHITECTURE, apply_overrides, from_flat, load_config
from mlm.errors import ConfigError
from mlm.rules import validate
from mlm.settings import model_config
from mlm.text import load_tokenizer
from mlm.training.freezing import leaf_paths
from mlm.training.metrics import read_metrics

NEW = ("catfish", "birdhouse")
FREEZE = ("backbone/layers/.*", ".*/position")


def make_config(fields):
    config = load_config("configs/default.py")
    apply_overrides(config, fields)
    validate(config)
    return config


@pytest.fixture(scope="module")
def first(saved_run):
    """The workdir of a run to start from, at step 12."""
    return saved_run


@pytest.fixture(scope="module")
def other(tiny, corpus_file, tmp_path_factory):
    """Overrides for another text: all that a fork of default.py says but sizes."""
    text = corpus_file.read_text().replace("small bird", "birdhouse").replace("dog", "catfish")
    file = tmp_path_factory.mktemp("other") / "fish.txt"
    file.write_text(text)
    sizes = {f"model.{name}" for name in ARCHITECTURE}
    fields = {name: value for name, value in tiny.items() if name not in sizes}
    return fields | {"data.corpus": str(file), "optimizer.learning_rate": 5e-3}


@pytest.fixture(scope="module")
def adapted(first, other, tmp_path_factory):
    """A run that starts from the first one, and its overrides."""
    workdir = tmp_path_factory.mktemp("adapted") / "run"
    fields = {"model.init_from": str(first), "data.new_tokens": NEW, "train.freeze": FREEZE}
    assert train_script.run(make_config(other | fields), workdir) == 0
    return workdir, other | fields


def params_of(workdir, step=12):
    """Every array of a checkpoint, by path."""
    config, tokenizer = read(workdir, "config.json"), load_tokenizer(workdir)
    model = model_config(from_flat(config), tokenizer.vocabulary_size)
    params = saved.restore_params(models.create_abstract(model)[1], workdir, step)
    return dict(zip(leaf_paths(params), map(np.asarray, jax.tree.leaves(params)), strict=True))


def read(workdir, name):
    return json.loads((workdir / name).read_text())


def test_the_evaluation_before_training_is_that_of_the_first_run(first, other):
    own = experiment.build(make_config(other | {"model.init_from": str(first)}), say=str)
    before = own.run.evaluate(own.run.init_state().params)
    # The same without init_from: the first run's config and tokenizer, on the other text.
    stored = {k: v for k, v in read(first, "config.json").items() if k.startswith("model.")}
    fields = other | stored | {"data.tokenizer": str(first)}
    plain = experiment.build(make_config(fields), say=str)
    assert before == plain.run.evaluate(saved.restore_params(plain.params, first, 12))
    assert own.model == plain.model and own.tokenizer.hash == plain.tokenizer.hash


def test_training_helps_and_both_evaluations_are_kept(adapted):
    workdir, _ = adapted
    result = read(workdir, "eval.json")
    assert list(result) == ["step", "before", "masks"] and result["step"] == 12
    before, after = result["before"]["token@0.15"], result["masks"]["token@0.15"]
    assert after["loss"] < before["loss"] - 0.1
    assert after["mask_hash"] == before["mask_hash"]
    [line, *rest] = read_metrics(workdir / "metrics.jsonl")
    assert line["step"] == 0 and line["eval/token@0.15/loss"] == before["loss"]
    assert all(line["step"] for line in rest)


def test_what_a_run_started_from_is_written_down(adapted, first):
    workdir, _ = adapted
    began, config = read(workdir, "init.json"), read(workdir, "config.json")
    assert began["place"] == str(first) and began["kind"] == "run" and len(began["digest"]) == 64
    assert config["model.init_from"] == str(first) and config["model.width"] == 16
    sizes = {f"model.{name}" for name in ARCHITECTURE}
    stored = read(first, "config.json")
    assert {n: config[n] for n in sizes} == {n: stored[n] for n in sizes}


def test_frozen_bits_are_those_of_the_first_run_and_the_others_moved(adapted, first):
    old, new = params_of(first), params_of(adapted[0])
    frozen = {path for path in old if "/layers/" in path or path.endswith("position")}
    assert len(frozen) == 17
    for path, leaf in old.items():
        assert np.array_equal(new[path][: len(leaf)], leaf) == (path in frozen), path


def test_new_tokens_are_in_the_tokenizer_and_began_as_the_mean_of_their_pieces(first, other):
    fields = {"model.init_from": str(first), "data.new_tokens": NEW}
    config = make_config(other | fields)
    start = experiment.find_start(config)
    old = load_tokenizer(first)
    size = old.vocabulary_size
    assert start.tokenizer.encode(["Birdhouse catfish the dog"])[0][:2] == [size + 1, size]
    assert start.tokenizer.encode(["the dog"]) == old.encode(["the dog"])
    [pieces] = old.encode(["catfish"])
    assert len(pieces) > 1 and start.model.vocabulary_size == size + 2
    params = params_of(first)
    for name, rows in (
        ("backbone/embeddings/word", start.params["backbone"]["embeddings"]["word"]),
        ("head/output_bias", start.params["head"]["output_bias"]),
    ):
        np.testing.assert_array_equal(rows[:size], params[name])
        np.testing.assert_allclose(rows[size], params[name][pieces].mean(0), rtol=1e-6)


def test_a_resumed_run_needs_no_pretrained_weights_and_continues_bit_for_bit(
    adapted, tmp_path, monkeypatch, capsys
):
    workdir, fields = adapted
    resumed = tmp_path / "run"
    shutil.copytree(workdir, resumed)
    shutil.rmtree(resumed / "checkpoints/12")

    def unreachable(*args, **kwargs):
        raise AssertionError("the weights were read again")

    monkeypatch.setattr(pretrained, "load_pretrained", unreachable)
    (resumed / "eval.json").unlink()
    assert train_script.run(make_config(fields), resumed) == 0
    out = capsys.readouterr().out
    assert "continuing at step 8 of 12" in out and "init started from" in out
    assert "frozen 17 of 25 arrays, " in out
    whole, again = params_of(workdir), params_of(resumed)
    assert all(np.array_equal(again[path], leaf) for path, leaf in whole.items())
    assert read(resumed, "eval.json") == read(workdir, "eval.json")
    assert read(resumed, "init.json") == read(workdir, "init.json")
    steps = [line["step"] for line in read_metrics(resumed / "metrics.jsonl")]
    assert steps == [line["step"] for line in read_metrics(workdir / "metrics.jsonl")]

    with pytest.raises(ConfigError, match=r"another config \(model.init_from .* -> elsewhere"):
        train_script.run(make_config(fields | {"model.init_from": "elsewhere"}), resumed)
    with pytest.raises(ConfigError, match="another config .data.new_tokens"):
        train_script.run(make_config(fields | {"data.new_tokens": ()}), resumed)
    assert train_script.run(make_config(fields), resumed) == 0
    assert "before training -> at step 12" in capsys.readouterr().out
