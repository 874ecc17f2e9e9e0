"""A config.json describes a model that we have, or the error names every setting that does not."""

import json
from pathlib import Path

import bert_checkpoint
import pytest

from mlm.conversion.huggingface_settings import read_settings
from mlm.errors import CheckpointError
from mlm.models import DistilBertConfig

DISTILBERT = json.loads(
    (Path(__file__).parents[1] / "parity" / "hf_distilbert_tiny" / "config.json").read_text()
)


def read(folder, settings):
    path = folder / "config.json"
    path.write_text(settings if isinstance(settings, str) else json.dumps(settings))
    return read_settings(path)


@pytest.mark.parametrize(
    "settings, name, value",
    [
        (DISTILBERT, "activation", "relu"),
        (DISTILBERT, "activation", "gelu_new"),
        (DISTILBERT, "tie_word_embeddings", False),
        (DISTILBERT, "pruned_heads", {"0": [1]}),
        (DISTILBERT, "quantization_config", {"bits": 4}),
        (DISTILBERT, "auto_map", {"AutoModel": "modeling.Mine"}),
        (bert_checkpoint.SETTINGS, "hidden_act", "gelu_pytorch_tanh"),
        (bert_checkpoint.SETTINGS, "position_embedding_type", "relative_key"),
        (bert_checkpoint.SETTINGS, "is_decoder", True),
        (bert_checkpoint.SETTINGS, "add_cross_attention", True),
        (bert_checkpoint.SETTINGS, "tie_word_embeddings", False),
    ],
)
def test_settings_that_change_the_numbers_are_refused(tmp_path, settings, name, value):
    with pytest.raises(CheckpointError) as error:
        read(tmp_path, settings | {name: value})
    assert f"{name}={value!r} where only " in str(error.value)


def test_settings_that_change_nothing_are_accepted(tmp_path):
    plain = read(tmp_path, DISTILBERT)
    same = {"activation": "gelu_python", "pruned_heads": {}, "use_cache": True, "auto_map": None}
    assert read(tmp_path, DISTILBERT | same) == plain
    plain = read(tmp_path, bert_checkpoint.SETTINGS)
    same = {"position_embedding_type": "absolute", "is_decoder": False, "classifier_dropout": 0.5}
    assert read(tmp_path, bert_checkpoint.SETTINGS | same) == plain


def test_all_problems_are_in_one_error(tmp_path):
    changes = {
        "dim": "32",
        "n_heads": True,
        "dropout": None,
        "activation": "relu",
        "num_hidden_layers": 3,
    }
    with pytest.raises(CheckpointError) as error:
        read(tmp_path, DISTILBERT | changes)
    for problem in (
        "dim='32' is not an integer",
        "n_heads=True is not an integer",
        "dropout=None is not a number",
        "n_layers=2 contradicts num_hidden_layers=3",
        "activation='relu'",
    ):
        assert problem in str(error.value)


@pytest.mark.parametrize(
    "changes, problem",
    [
        ({"dropout": 1}, "dropout=1 is not possible"),
        ({"dropout": float("nan")}, "dropout=nan is not possible"),
        ({"n_heads": 5}, "heads=5 does not divide width=32"),
        ({"n_layers": 0}, "layers=0 is not possible"),
    ],
)
def test_values_that_no_model_can_have(tmp_path, changes, problem):
    with pytest.raises(CheckpointError, match=f"config.json .*{problem}"):
        read(tmp_path, DISTILBERT | changes)


@pytest.mark.parametrize("kind", [None, "roberta", ["bert"]])
def test_other_models_are_refused(tmp_path, kind):
    with pytest.raises(CheckpointError, match="model_type=.*'distilbert' and 'bert'"):
        read(tmp_path, DISTILBERT | {"model_type": kind})


@pytest.mark.parametrize("text", ["", "{", "[" * 100_000, '{"a": "\\ud800', "\udc80"])
def test_what_is_not_json_is_told_with_the_file(tmp_path, text):
    (tmp_path / "config.json").write_bytes(text.encode(errors="surrogateescape"))
    with pytest.raises(CheckpointError, match="config.json is not JSON") as error:
        read_settings(tmp_path / "config.json")
    assert str(error.value).isprintable()


def test_a_file_without_an_object_and_no_file(tmp_path):
    with pytest.raises(CheckpointError, match="holds no JSON object"):
        read(tmp_path, "[]")
    with pytest.raises(CheckpointError, match="nowhere has no config.json"):
        read_settings(tmp_path / "nowhere" / "config.json")


def test_a_setting_that_is_absent_gets_the_default_of_transformers(tmp_path):
    described = read(tmp_path, {"model_type": "distilbert", "vocab_size": 9, "n_layers": 2})
    assert described.config == DistilBertConfig(9, layers=2)
    assert described.notes == (
        "config.json lacks settings, which get transformers' defaults: dim=768, n_heads=12, "
        "hidden_dim=3072, max_position_embeddings=512, dropout=0.1, attention_dropout=0.1, "
        "initializer_range=0.02.",
    )
    described = read(tmp_path, {"model_type": "bert"})
    assert described.config == DistilBertConfig(30522, layers=12)
    assert described.token_types == 2


def test_distilbert_settings_under_their_general_names(tmp_path):
    names = {
        "dim": "hidden_size",
        "n_heads": "num_attention_heads",
        "n_layers": "num_hidden_layers",
    }
    renamed = {names.get(name, name): value for name, value in DISTILBERT.items()}
    assert read(tmp_path, renamed) == read(tmp_path, DISTILBERT)


def test_epsilon_of_bert_is_in_every_layer_norm(tmp_path):
    config = read(tmp_path, bert_checkpoint.SETTINGS | {"layer_norm_eps": 1e-5}).config
    assert (config.epsilon, config.head_epsilon) == (1e-5, 1e-5)


def test_training_that_differs_from_the_original_is_noted(tmp_path):
    (note,) = read(tmp_path, DISTILBERT | {"sinusoidal_pos_embds": True}).notes
    assert "sinusoidal" in note
    (note,) = read(tmp_path, bert_checkpoint.SETTINGS).notes
    assert "attention output" in note
    assert read(tmp_path, bert_checkpoint.SETTINGS | {"hidden_dropout_prob": 0}).notes == ()
