"""What is written is read back bit for bit, and what the format cannot say is refused or told."""

import dataclasses
import json
from pathlib import Path

import jax
import numpy as np
import pytest
from bert_checkpoint import ENCODER, HEAD, random_tensors, write
from safetensors.numpy import load_file

from mlm.conversion import load_huggingface, save_huggingface
from mlm.errors import CheckpointError, OutputError
from mlm.models import DistilBertConfig, create

SOURCE = Path(__file__).parents[1] / "parity" / "hf_distilbert_tiny"
CONFIG = DistilBertConfig(
    11, layers=1, width=8, heads=2, hidden=12, max_length=6, dropout=0, attention_dropout=0.25
)


@pytest.fixture(scope="module")
def params():
    return create(CONFIG, jax.random.key(0))[1]


def assert_same(actual, expected):
    jax.tree.map(np.testing.assert_array_equal, actual, expected)


def test_save_then_load_gives_the_same_bits(tmp_path, params):
    assert save_huggingface(tmp_path, CONFIG, params, pad_token_id=0) == ()
    loaded = load_huggingface(tmp_path)
    assert loaded.config == CONFIG
    assert loaded.notes == ()
    assert_same(loaded.params, params)


def test_load_then_save_gives_the_tensors_of_transformers(tmp_path):
    loaded = load_huggingface(SOURCE)
    save_huggingface(tmp_path, loaded.config, loaded.params, pad_token_id=0)
    ours, theirs = (load_file(folder / "model.safetensors") for folder in (tmp_path, SOURCE))
    assert ours.keys() == theirs.keys()
    for name, tensor in theirs.items():
        assert ours[name].tobytes() == tensor.tobytes()


def test_the_config_is_the_one_that_transformers_writes(tmp_path):
    config = load_huggingface(SOURCE).config
    save_huggingface(tmp_path, config, create(config, jax.random.key(0))[1], pad_token_id=0)
    ours, theirs = (
        json.loads((folder / "config.json").read_text()) for folder in (tmp_path, SOURCE)
    )
    assert ours.pop("torch_dtype") == theirs["dtype"]
    assert {name: theirs[name] for name in ours} == ours
    assert {name for name in theirs if name not in ours} == {
        "bos_token_id",
        "dtype",
        "eos_token_id",
        "qa_dropout",
        "seq_classif_dropout",
        "transformers_version",
    }


def test_bert_becomes_a_distilbert(tmp_path):
    bert = load_huggingface(write(tmp_path / "bert", random_tensors(ENCODER | HEAD)))
    out = tmp_path / "distilbert"
    out.mkdir()
    save_huggingface(out, bert.config, bert.params, pad_token_id=0)
    names = load_file(out / "model.safetensors").keys()
    assert len(names) == 4 + 16 * 3 + 5
    assert {n for n in names if not n.startswith(("distilbert.", "vocab_"))} == set()
    loaded = load_huggingface(out)
    assert loaded.config == bert.config
    assert_same(loaded.params, bert.params)


def test_the_same_model_gives_the_same_bytes(tmp_path, params):
    reversed_params = dict(reversed(params.items()))
    for name, tree in {"1": params, "2": jax.tree.map(np.asarray, reversed_params)}.items():
        (tmp_path / name).mkdir()
        save_huggingface(tmp_path / name, CONFIG, tree, pad_token_id=0)
    for name in ("config.json", "model.safetensors"):
        assert (tmp_path / "1" / name).read_bytes() == (tmp_path / "2" / name).read_bytes()


@pytest.mark.parametrize("name", ["epsilon", "head_epsilon"])
def test_an_epsilon_that_distilbert_cannot_have_is_written_only_when_asked(tmp_path, params, name):
    config = dataclasses.replace(CONFIG, **{name: 1e-5})
    with pytest.raises(CheckpointError, match=f"{name}=1e-05 .*allow_epsilon_change=True"):
        save_huggingface(tmp_path, config, params, pad_token_id=0)
    assert list(tmp_path.iterdir()) == []
    (note,) = save_huggingface(tmp_path, config, params, pad_token_id=0, allow_epsilon_change=True)
    assert f" {name}=1e-05 get 1e-12" in note
    assert load_huggingface(tmp_path).config == CONFIG


def test_further_entries_of_the_config(tmp_path, params):
    extra = {"sep_token_id": 3, "transformers_version": "5.24.0"}
    save_huggingface(tmp_path, CONFIG, params, pad_token_id=None, extra_config=extra)
    settings = json.loads((tmp_path / "config.json").read_text())
    assert settings.items() >= extra.items()
    assert settings["pad_token_id"] is None


@pytest.mark.parametrize(
    "arguments, problem",
    [
        ({"extra_config": {"dim": 9, "n_heads": 1}}, "dim, n_heads, which the model decides"),
        ({"pad_token_id": 11}, "pad_token_id=11 is outside the vocabulary of 11"),
        ({"pad_token_id": -1}, "pad_token_id=-1 is outside"),
    ],
)
def test_arguments_that_contradict_the_model(tmp_path, params, arguments, problem):
    with pytest.raises(CheckpointError, match=problem):
        save_huggingface(tmp_path, CONFIG, params, **{"pad_token_id": 0, **arguments})
    assert list(tmp_path.iterdir()) == []


def test_params_of_another_model_are_refused(tmp_path, params):
    other = dataclasses.replace(CONFIG, layers=2)
    half = jax.tree.map(lambda leaf: leaf.astype(np.float16), params)
    for config, tree, problem in (
        (other, params, "missing distilbert.transformer.layer.1"),
        (CONFIG, {"backbone": params["backbone"]}, "5 do not fit: missing vocab_layer_norm.bias"),
        (CONFIG, half, "has dtype float16, expected float32"),
        (CONFIG, params | {"adapter": {"kernel": np.zeros(2)}}, "params hold adapter"),
    ):
        with pytest.raises(CheckpointError, match=problem):
            save_huggingface(tmp_path, config, tree, pad_token_id=0)
    assert list(tmp_path.iterdir()) == []


def test_what_cannot_be_written_is_an_output_error(tmp_path, params, full_disk):
    with pytest.raises(OutputError, match="config.json cannot be written"):
        save_huggingface(tmp_path / "nowhere", CONFIG, params, pad_token_id=0)
    with full_disk(2000), pytest.raises(OutputError, match="model.safetensors cannot be written"):
        save_huggingface(tmp_path, CONFIG, params, pad_token_id=0)
