"""Reading a checkpoint is strict: all of it, exactly, or one error that tells what does not fit."""

import shutil
from pathlib import Path

import jax
import numpy as np
import pytest
from bert_checkpoint import ENCODER, HEAD, PRETRAINING, random_tensors, write
from safetensors.numpy import load_file, save_file

from mlm.conversion import load_huggingface
from mlm.conversion.huggingface_names import BERT, modern, to_huggingface
from mlm.errors import CheckpointError
from mlm.models import DistilBertConfig, create_abstract, create_head

SOURCE = Path(__file__).parents[1] / "parity" / "hf_distilbert_tiny"
WORD = "distilbert.embeddings.word_embeddings.weight"


@pytest.fixture
def checkpoint(tmp_path):
    for name in ("config.json", "model.safetensors"):
        shutil.copy(SOURCE / name, tmp_path)
    return tmp_path


def edit_tensors(folder, edit):
    tensors = load_file(folder / "model.safetensors")
    save_file(edit(tensors) or tensors, folder / "model.safetensors")


def leave_out(tensors, name):
    return {other: tensor for other, tensor in tensors.items() if other != name}


def without_head(tensors):
    return {name: tensor for name, tensor in tensors.items() if not name.startswith("vocab_")}


def bare(tensors):
    return {n.removeprefix("distilbert."): t for n, t in without_head(tensors).items()}


def test_config_and_layout():
    loaded = load_huggingface(SOURCE)
    assert loaded.notes == ()
    assert loaded.config == DistilBertConfig(
        120, layers=2, width=32, heads=4, hidden=64, max_length=64
    )
    _, abstract = create_abstract(loaded.config)
    assert jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), abstract) == jax.tree.map(
        lambda leaf: (leaf.shape, leaf.dtype), loaded.params
    )
    tensors = load_file(SOURCE / "model.safetensors")
    up = loaded.params["backbone"]["layers"][1]["feed_forward"]["up"]["kernel"]
    np.testing.assert_array_equal(up, tensors["distilbert.transformer.layer.1.ffn.lin1.weight"].T)


def test_names_lead_back_to_the_same_tensors():
    tensors = load_file(SOURCE / "model.safetensors")
    ours = to_huggingface(load_huggingface(SOURCE).params)
    assert ours.keys() == tensors.keys()
    for name, tensor in tensors.items():
        np.testing.assert_array_equal(ours[name], tensor)


def test_two_digit_layers_keep_their_numbers():
    config = DistilBertConfig(7, layers=11, width=4, heads=1, hidden=4, max_length=4)
    names = jax.eval_shape(to_huggingface, create_abstract(config)[1])
    assert "distilbert.transformer.layer.10.attention.q_lin.weight" in names
    assert len(names) == 4 + 16 * 11 + 5


def test_every_bert_tensor_has_a_name_of_its_own():
    config = DistilBertConfig(60, layers=3, width=16, heads=4, hidden=24, max_length=20)
    _, params = create_abstract(config)
    names = jax.eval_shape(lambda params: to_huggingface(params, BERT), params)
    assert names.keys() == random_tensors(ENCODER | HEAD).keys() - {BERT.token_types}


@pytest.mark.parametrize("form", [without_head, bare])
def test_without_a_head_the_head_is_fresh_from_the_key(checkpoint, form):
    edit_tensors(checkpoint, form)
    with pytest.raises(CheckpointError, match="has no MLM head; pass a key"):
        load_huggingface(checkpoint)
    loaded = load_huggingface(checkpoint, key=jax.random.key(7))
    assert loaded.notes == (
        "The checkpoint has no MLM head: the head is fresh and knows nothing yet.",
    )
    whole = load_huggingface(SOURCE).params
    assert jax.tree.structure(loaded.params) == jax.tree.structure(whole)
    jax.tree.map(np.testing.assert_array_equal, loaded.params["backbone"], whole["backbone"])
    fresh = create_head(loaded.config, jax.random.key(7))
    jax.tree.map(np.testing.assert_array_equal, loaded.params["head"], fresh)
    assert {type(leaf) for leaf in jax.tree.leaves(loaded.params)} == {np.ndarray}


def test_heads_for_other_tasks_are_dropped_by_name(checkpoint):
    heads = ["pre_classifier.weight", "classifier.bias", "classifier.weight", "qa_outputs.bias"]
    edit_tensors(
        checkpoint, lambda tensors: tensors.update({n: np.zeros(2, np.float16) for n in heads})
    )
    assert load_huggingface(checkpoint).notes == (
        "Dropped the classifier: classifier.bias, classifier.weight, pre_classifier.weight.",
        "Dropped the question answering head: qa_outputs.bias.",
    )


def test_what_bert_has_and_ours_has_not_is_told(tmp_path):
    folder = write(tmp_path / "bert", random_tensors(ENCODER | HEAD | PRETRAINING))
    loaded = load_huggingface(folder)
    assert loaded.config == DistilBertConfig(
        60,
        layers=3,
        width=16,
        heads=4,
        hidden=24,
        max_length=20,
        dropout=0.1,
        attention_dropout=0.2,
    )
    assert loaded.notes == (
        "BERT's dropout of 0.1 on the attention output has no counterpart in this model: training "
        "differs there, inference does not.",
        "Dropped the next sentence head: cls.seq_relationship.bias, cls.seq_relationship.weight.",
        "Dropped the pooler: bert.pooler.dense.bias, bert.pooler.dense.weight.",
        "BERT's type-0 embedding was added to the position table, the other 1 dropped: all text is "
        "of type 0.",
    )


def test_bert_without_a_head(tmp_path):
    folder = write(tmp_path / "bert", random_tensors(ENCODER))
    with pytest.raises(CheckpointError, match="has no MLM head"):
        load_huggingface(folder)


def test_the_type_table_has_the_size_that_the_config_says(tmp_path):
    folder = write(tmp_path / "bert", random_tensors(ENCODER | HEAD), type_vocab_size=3)
    with pytest.raises(CheckpointError, match=r"shape \(2, 16\), expected \(3, 16\)"):
        load_huggingface(folder)


def test_all_misfits_are_named_in_one_error(checkpoint):
    def edit(tensors):
        del tensors["vocab_transform.bias"]
        tensors["adapter.weight"] = np.zeros((2, 2), np.float32)
        tensors["evil\n\x1b[2J"] = np.zeros(2, np.float32)
        tensors["vocab_transform.weight"] = np.zeros((32, 32), np.int32)
        tensors[WORD] = tensors[WORD][:7]

    edit_tensors(checkpoint, edit)
    with pytest.raises(CheckpointError) as error:
        load_huggingface(checkpoint, cast=True)
    for problem in (
        "; 5 do not fit: ",
        "missing vocab_transform.bias",
        "unexpected adapter.weight",
        r"unexpected 'evil\n\x1b[2J'",
        "vocab_transform.weight has dtype I32, expected float32",
        f"{WORD} has shape (7, 32), expected (120, 32)",
    ):
        assert problem in str(error.value)
    assert str(error.value).isprintable()


def test_many_misfits_are_counted(checkpoint):
    config = checkpoint / "config.json"
    config.write_text(config.read_text().replace('"n_layers": 2', '"n_layers": 3'))
    with pytest.raises(CheckpointError, match="; 16 do not fit: .*; and 6 more$") as error:
        load_huggingface(checkpoint)
    assert str(error.value).count("missing") == 10


def test_a_config_of_a_billion_layers_is_refused_at_once(checkpoint):
    config = checkpoint / "config.json"
    config.write_text(config.read_text().replace('"n_layers": 2', '"n_layers": 1000000000'))
    with pytest.raises(CheckpointError, match="41 tensors for the 1000000000 layers"):
        load_huggingface(checkpoint)


def test_swapped_axes_are_not_taken_for_a_kernel(checkpoint):
    name = "distilbert.transformer.layer.0.ffn.lin1.weight"
    edit_tensors(checkpoint, lambda tensors: tensors.update({name: np.zeros((32, 64), np.float32)}))
    with pytest.raises(CheckpointError, match=r"shape \(32, 64\), expected \(64, 32\)"):
        load_huggingface(checkpoint)


def test_part_of_a_head_is_no_head_to_replace(checkpoint):
    edit_tensors(checkpoint, lambda tensors: leave_out(tensors, "vocab_projector.bias"))
    with pytest.raises(CheckpointError, match="1 do not fit: missing vocab_projector.bias"):
        load_huggingface(checkpoint, key=jax.random.key(0))


@pytest.mark.parametrize("change", [lambda t: t + 1, lambda t: t[:5], lambda t: t.astype(np.int8)])
def test_a_stored_output_projection_must_be_the_word_embedding(checkpoint, change):
    name = "vocab_projector.weight"
    edit_tensors(checkpoint, lambda tensors: tensors.update({name: tensors[WORD].copy()}))
    load_huggingface(checkpoint)
    edit_tensors(checkpoint, lambda tensors: tensors.update({name: change(tensors[name])}))
    with pytest.raises(CheckpointError, match=f"a {name} that is not its {WORD}.*AutoModel"):
        load_huggingface(checkpoint)


def test_a_stored_output_bias_must_be_the_bias(tmp_path):
    tensors = random_tensors(ENCODER | HEAD)
    tensors["cls.predictions.decoder.bias"] = tensors["cls.predictions.bias"] + 1
    with pytest.raises(CheckpointError, match="decoder.bias that is not its cls.predictions.bias"):
        load_huggingface(write(tmp_path / "bert", tensors))


def test_layer_norms_may_have_their_old_names_but_not_both(checkpoint):
    def edit(tensors):
        tensors["vocab_layer_norm.gamma"] = tensors["vocab_layer_norm.weight"].copy()

    edit_tensors(checkpoint, edit)
    with pytest.raises(CheckpointError, match="1 do not fit: unexpected vocab_layer_norm.gamma"):
        load_huggingface(checkpoint)
    edit_tensors(checkpoint, lambda tensors: leave_out(tensors, "vocab_layer_norm.weight"))
    assert modern("a.LayerNorm.beta") == "a.LayerNorm.bias"
    load_huggingface(checkpoint)


def test_half_precision_only_when_asked(checkpoint):
    def edit(tensors):
        tensors[WORD] = tensors[WORD].astype(np.float16)
        tensors["vocab_transform.bias"] = tensors["vocab_transform.bias"].astype(np.float64)

    edit_tensors(checkpoint, edit)
    with pytest.raises(CheckpointError, match="1 in float16.*1 in float64.*pass cast=True"):
        load_huggingface(checkpoint)
    loaded = load_huggingface(checkpoint, cast=True)
    assert {leaf.dtype for leaf in jax.tree.leaves(loaded.params)} == {np.dtype("float32")}


def test_a_number_beyond_float32_is_refused(checkpoint):
    name = "vocab_transform.bias"
    edit_tensors(checkpoint, lambda tensors: tensors.update({name: np.full(32, 1e300)}))
    with pytest.raises(CheckpointError, match=f"{name} in .* has values that float32 cannot hold"):
        load_huggingface(checkpoint, cast=True)
