"""Reading a checkpoint is strict: all of it, exactly, or one error that tells what does not fit."""

import json
import shutil
from pathlib import Path

import jax
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from mlm.models import DistilBertConfig, create_abstract, load_huggingface
from mlm.models.huggingface import to_huggingface

SOURCE = Path(__file__).parents[1] / "parity" / "hf_distilbert_tiny"
WORD = "distilbert.embeddings.word_embeddings.weight"


@pytest.fixture
def checkpoint(tmp_path):
    for name in ("config.json", "model.safetensors"):
        shutil.copy(SOURCE / name, tmp_path)
    return tmp_path


def edit_tensors(folder, edit):
    tensors = load_file(folder / "model.safetensors")
    edit(tensors)
    save_file(tensors, folder / "model.safetensors")


def edit_config(folder, **changes):
    settings = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(settings | changes))


def test_config_and_layout():
    config, params = load_huggingface(SOURCE)
    assert config == DistilBertConfig(120, layers=2, width=32, heads=4, hidden=64, max_length=64)
    _, abstract = create_abstract(config)
    assert jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), abstract) == jax.tree.map(
        lambda leaf: (leaf.shape, leaf.dtype), params
    )
    tensors = load_file(SOURCE / "model.safetensors")
    up = params["backbone"]["layers"][1]["feed_forward"]["up"]["kernel"]
    np.testing.assert_array_equal(up, tensors["distilbert.transformer.layer.1.ffn.lin1.weight"].T)


def test_names_lead_back_to_the_same_tensors():
    _, params = load_huggingface(SOURCE)
    tensors = load_file(SOURCE / "model.safetensors")
    ours = to_huggingface(params)
    assert ours.keys() == tensors.keys()
    for name, tensor in tensors.items():
        np.testing.assert_array_equal(ours[name], tensor)


def test_two_digit_layers_keep_their_numbers():
    config = DistilBertConfig(7, layers=11, width=4, heads=1, hidden=4, max_length=4)
    names = jax.eval_shape(to_huggingface, create_abstract(config)[1])
    assert "distilbert.transformer.layer.10.attention.q_lin.weight" in names
    assert len(names) == 4 + 16 * 11 + 5


def test_all_misfits_are_named_in_one_error(checkpoint):
    def edit(tensors):
        del tensors["vocab_transform.bias"]
        tensors["pre_classifier.weight"] = np.zeros((2, 2), np.float32)
        tensors[WORD] = tensors[WORD][:7]

    edit_tensors(checkpoint, edit)
    with pytest.raises(ValueError) as error:
        load_huggingface(checkpoint)
    for problem in (
        "(3): ",
        "missing vocab_transform.bias",
        "unexpected pre_classifier.weight",
        f"{WORD} has shape (7, 32), expected (120, 32)",
    ):
        assert problem in str(error.value)


def test_many_misfits_are_counted(checkpoint):
    edit_config(checkpoint, n_layers=3)
    with pytest.raises(ValueError, match=r"\(16\): .*; and 6 more$") as error:
        load_huggingface(checkpoint)
    assert str(error.value).count("missing") == 10


def test_swapped_axes_are_not_taken_for_a_kernel(checkpoint):
    name = "distilbert.transformer.layer.0.ffn.lin1.weight"
    edit_tensors(checkpoint, lambda tensors: tensors.update({name: np.zeros((32, 64), np.float32)}))
    with pytest.raises(ValueError, match=r"shape \(32, 64\), expected \(64, 32\)"):
        load_huggingface(checkpoint)


def test_a_stored_output_projection_must_be_the_word_embedding(checkpoint):
    name = "vocab_projector.weight"
    edit_tensors(checkpoint, lambda tensors: tensors.update({name: tensors[WORD].copy()}))
    load_huggingface(checkpoint)
    edit_tensors(checkpoint, lambda tensors: tensors.update({name: tensors[name] + 1}))
    with pytest.raises(ValueError, match="unexpected vocab_projector.weight"):
        load_huggingface(checkpoint)


def test_half_precision_weights_become_float32(checkpoint):
    edit_tensors(
        checkpoint,
        lambda tensors: tensors.update({n: t.astype(np.float16) for n, t in tensors.items()}),
    )
    _, params = load_huggingface(checkpoint)
    assert {leaf.dtype for leaf in jax.tree.leaves(params)} == {np.dtype("float32")}


@pytest.mark.parametrize(
    "name, value",
    [
        ("activation", "relu"),
        ("sinusoidal_pos_embds", True),
        ("tie_word_embeddings", False),
        ("model_type", "bert"),
    ],
)
def test_settings_that_change_the_numbers_are_refused(checkpoint, name, value):
    edit_config(checkpoint, **{name: value})
    with pytest.raises(ValueError, match=f"{name}={value!r} where only .* is implemented"):
        load_huggingface(checkpoint)


def test_absent_files_and_settings_are_named(checkpoint):
    settings = json.loads((checkpoint / "config.json").read_text())
    del settings["n_heads"]
    (checkpoint / "config.json").write_text(json.dumps(settings))
    with pytest.raises(ValueError, match="no n_heads"):
        load_huggingface(checkpoint)
    (checkpoint / "model.safetensors").unlink()
    with pytest.raises(FileNotFoundError, match="has no model.safetensors"):
        load_huggingface(checkpoint)
