"""Reading a KerasHub preset is strict: all of it, exactly, or one line that says what is wrong."""

import json
import re
import shutil
from pathlib import Path

import h5py
import jax
import numpy as np
import pytest

from mlm.conversion import load_keras_preset
from mlm.conversion.keras_names import to_keras
from mlm.errors import CheckpointError
from mlm.models import DistilBertConfig, create_abstract, create_head

SOURCE = Path(__file__).parents[1] / "parity" / "kerashub_distilbert_tiny"
FILES = "config.json task.json model.weights.h5 task.weights.h5".split()
NORM = "layers/layer_normalization/vars/0"
WORD = "layers/token_and_position_embedding/token_embedding/vars/0"
KEY = jax.random.key(3)


@pytest.fixture
def preset(tmp_path):
    for name in FILES:
        shutil.copy(SOURCE / name, tmp_path)
    return tmp_path


def edit_settings(folder, file="config.json", **changes):
    """Changes the backbone's settings in a file; None removes one."""
    content = json.loads((folder / file).read_text())
    settings = content["config"]["backbone"]["config"] if "task" in file else content["config"]
    settings |= changes
    for name in [name for name, value in settings.items() if value is None]:
        del settings[name]
    (folder / file).write_text(json.dumps(content))


def edit_both(folder, **changes):
    edit_settings(folder, **changes)
    edit_settings(folder, "task.json", **changes)


def edit_content(folder, file="config.json", **changes):
    content = json.loads((folder / file).read_text()) | changes
    (folder / file).write_text(json.dumps(content))


def edit_weights(folder, change, file="model.weights.h5"):
    with h5py.File(folder / file, "a") as stream:
        change(stream)


def replace(name, value):
    def change(file):
        del file[name]
        file[name] = value

    return change


def refusal(folder, **settings) -> str:
    with pytest.raises(CheckpointError) as caught:
        load_keras_preset(folder, **settings)
    message = str(caught.value)
    assert "\n" not in message and str(folder) in message
    return message


def test_config_notes_and_layout():
    loaded = load_keras_preset(SOURCE)
    assert loaded.config == DistilBertConfig(
        120, layers=2, width=32, heads=4, hidden=64, max_length=64, head_epsilon=1e-5
    )
    assert loaded.notes == (
        "The original drops out the attention's output as well; here it stays whole.",
        "2 arrays of the optimizer's state were left out.",
    )
    _, abstract = create_abstract(loaded.config)
    assert jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), abstract) == jax.tree.map(
        lambda leaf: (leaf.shape, leaf.dtype), loaded.params
    )
    assert all(isinstance(leaf, np.ndarray) for leaf in jax.tree.leaves(loaded.params))
    with h5py.File(SOURCE / "model.weights.h5") as file:
        layer = file["layers/transformer_encoder_1"]
        up = loaded.params["backbone"]["layers"][1]["feed_forward"]["up"]["kernel"]
        np.testing.assert_array_equal(up, layer["_feedforward_intermediate_dense/vars/0"])


def test_names_lead_back_to_the_same_arrays():
    loaded = load_keras_preset(SOURCE)
    theirs = to_keras(loaded.params, heads=4)
    stored = {}
    for file in ("model.weights.h5", "task.weights.h5"):
        with h5py.File(SOURCE / file) as stream:
            stream.visititems(
                lambda name, item: (
                    stored.update({name: item[()]}) if hasattr(item, "shape") else None
                )
            )
    assert theirs.keys() == {name for name in stored if not name.startswith("optimizer/")}
    for name, array in theirs.items():
        np.testing.assert_array_equal(array, stored[name])


def test_dropout_is_theirs_in_both_places(preset):
    edit_both(preset, dropout=0.3)
    config = load_keras_preset(preset).config
    assert (config.dropout, config.attention_dropout) == (0.3, 0.3)
    edit_both(preset, dropout=0)
    assert not any("drops out" in note for note in load_keras_preset(preset).notes)


def test_presets_of_keras_nlp(preset):
    edit_content(preset, registered_name="keras_nlp>DistilBertBackbone")
    edit_content(preset, "task.json", registered_name="keras_nlp>DistilBertMaskedLM")
    assert load_keras_preset(preset).config.layers == 2


@pytest.mark.parametrize("absent", ["task.json", "task.weights.h5"])
def test_a_preset_without_a_head_needs_a_key(preset, absent):
    (preset / absent).unlink()
    assert f"no MLM head (there is no {absent}); pass a key" in refusal(preset)
    loaded = load_keras_preset(preset, key=KEY)
    assert f"The head is fresh and knows nothing yet: there is no {absent}." in loaded.notes
    whole = load_keras_preset(SOURCE).params
    assert jax.tree.all(jax.tree.map(np.array_equal, loaded.params["backbone"], whole["backbone"]))
    expected = create_head(loaded.config, KEY)
    assert jax.tree.all(jax.tree.map(np.array_equal, loaded.params["head"], expected))


def test_another_task_is_no_head(preset):
    edit_content(preset, "task.json", registered_name="keras_hub>DistilBertTextClassifier")
    assert "no MLM head (task.json is of 'keras_hub>DistilBertTextClassifier')" in refusal(preset)
    assert any("is fresh" in note for note in load_keras_preset(preset, key=KEY).notes)


def split_backbone(folder):
    """The backbone in two shards, as keras-hub writes it above 10 GB."""
    places = {}
    with h5py.File(folder / "model.weights.h5") as whole:
        names = []
        whole.visititems(lambda n, item: names.append(n) if hasattr(item, "shape") else None)
        for i, name in enumerate(names):
            shard = f"model_{i % 2:05}.weights.h5"
            with h5py.File(folder / shard, "a") as stream:
                stream[name] = whole[name][()]
            place = places.setdefault(f"/{name.rsplit('/', 1)[0]}", [])
            place += [shard] if shard not in place else []
    (folder / "model.weights.h5").unlink()
    single = {name: place[0] if len(place) == 1 else place for name, place in places.items()}
    (folder / "model.weights.json").write_text(json.dumps({"weight_map": single}))


def test_shards(preset):
    split_backbone(preset)
    sharded, whole = load_keras_preset(preset), load_keras_preset(SOURCE)
    assert sharded.config == whole.config
    assert jax.tree.all(jax.tree.map(np.array_equal, sharded.params, whole.params))
    (preset / "model_00001.weights.h5").unlink()
    assert "model_00001.weights.h5 does not exist" in refusal(preset)


@pytest.mark.parametrize(
    "place", ["../secret.h5", "/etc/passwd", "task.weights.h5", ["model_00000.weights.h5", 7], {}]
)
def test_shards_that_are_elsewhere(preset, place):
    split_backbone(preset)
    (preset / "model.weights.json").write_text(json.dumps({"weight_map": {"/layers": place}}))
    assert "which must be files like model_00000.weights.h5 beside it" in refusal(preset)
    (preset / "model.weights.json").write_text("{}")
    assert "names [] as its shards" in refusal(preset)


def test_all_misfits_are_named_in_one_error(preset):
    def change(file):
        del file[f"{NORM[:-1]}1"]
        file["layers/pooler/vars/0"] = np.zeros(2, np.float32)
        replace(WORD, np.zeros((7, 32), np.float32))(file)

    edit_weights(preset, change)
    replaced = "layers/masked_lm_head/vars/0"
    edit_weights(preset, replace(replaced, np.zeros(120, np.int32)), "task.weights.h5")
    message = refusal(preset, cast=True)
    for problem in (
        f"missing {NORM[:-1]}1",
        "unexpected layers/pooler/vars/0",
        f"{WORD} has shape (7, 32), expected (120, 32)",
        f"{replaced} has dtype int32",
    ):
        assert problem in message
    assert " 4 " in message or "(4)" in message


def test_many_misfits_are_counted(preset):
    edit_weights(preset, lambda file: file["layers/transformer_encoder_1"].clear())
    edit_weights(preset, lambda file: file.__setitem__("layers/transformer_encoder_1/x", 1.0))
    message = refusal(preset)
    assert message.count("missing") == 10 and re.search("; and 7 more$", message)


def test_heads_must_be_those_of_the_arrays(preset):
    edit_both(preset, num_heads=8)
    assert "query_dense/vars/0 has shape (32, 4, 8), expected (32, 8, 4)" in refusal(preset)


def test_the_two_configs_must_agree(preset):
    edit_settings(preset, "task.json", num_heads=2)
    assert "task.json has num_heads=2 and config.json 4; they must agree" in refusal(preset)


def test_layers_are_counted_before_they_are_laid_out(preset):
    edit_both(preset, num_layers=10**9)
    assert "num_layers=1000000000 in its config.json and 2 layers in its" in refusal(preset)


def test_half_precision_only_when_asked(preset):
    half = load_keras_preset(SOURCE).params["backbone"]["embeddings"]["norm"]["scale"]
    edit_weights(preset, replace(NORM, half.astype(np.float16)))
    assert "has weights in float16; pass cast=True to get them as float32" in refusal(preset)
    loaded = load_keras_preset(preset, cast=True)
    assert "Weights in float16 became float32." in loaded.notes
    scale = loaded.params["backbone"]["embeddings"]["norm"]["scale"]
    assert scale.dtype == np.float32
    np.testing.assert_array_equal(scale, half.astype(np.float16))


def test_the_type_of_computing_is_told(preset):
    edit_settings(preset, dtype={"class_name": "DTypePolicy", "config": {"name": "mixed_bfloat16"}})
    notes = load_keras_preset(preset).notes
    assert "It was saved to compute in mixed_bfloat16; the config here says float32." in notes


@pytest.mark.parametrize(
    "dtype",
    [
        {"class_name": "DTypePolicyMap", "config": {}},
        {"class_name": "QuantizedDTypePolicy", "config": {"mode": "int8"}},
        {"class_name": "DTypePolicy", "config": {"name": "int8_from_float32"}},
        7,
    ],
)
def test_quantized_presets_are_refused(preset, dtype):
    edit_settings(preset, dtype=dtype)
    assert "quantized weights cannot be loaded" in refusal(preset)


def test_absent_and_unknown_settings_are_named(preset):
    edit_settings(preset, num_heads=None, dropout=None, activation="relu")
    message = refusal(preset)
    assert "no num_heads; no dropout; activation, which may change the numbers" in message


@pytest.mark.parametrize(
    ("setting", "value", "complaint"),
    [
        ("num_heads", 5, "heads=5 does not divide width=32"),
        ("num_heads", 4.0, "heads=4.0 is not possible"),
        ("num_heads", "4", "num_heads='4', which is no number"),
        ("num_heads", True, "num_heads=True, which is no number"),
        ("dropout", 1.5, "dropout=1.5 is not possible"),
        ("dropout", float("nan"), "dropout=nan is not possible"),
        ("vocabulary_size", -1, "vocabulary_size=-1 is not possible"),
        ("hidden_dim", 4 * 10**30, "has shape (32,), expected (4000000000000000000000000000000,)"),
        ("vocabulary_size", 2**29, "has shape (120, 32), expected (536870912, 32)"),  # 64 GiB
    ],
)
def test_settings_that_cannot_be(preset, setting, value, complaint):
    edit_both(preset, **{setting: value})
    assert complaint in refusal(preset)


def test_64_gib_that_the_config_agrees_with(preset):
    edit_both(preset, vocabulary_size=2**29)
    edit_weights(preset, lambda file: file.__delitem__(WORD))
    edit_weights(preset, lambda file: file.create_dataset(WORD, (2**29, 32), np.float32))
    bias = "layers/masked_lm_head/vars/0"
    edit_weights(preset, lambda file: file.__delitem__(bias), "task.weights.h5")
    edit_weights(
        preset, lambda file: file.create_dataset(bias, (2**29,), np.float32), "task.weights.h5"
    )
    assert re.search(r"declares 6\d{10} bytes for its arrays and holds", refusal(preset))


@pytest.mark.parametrize("file", ["model.weights.h5", "task.weights.h5"])
def test_links_in_either_file(preset, tmp_path, file):
    with h5py.File(preset / file) as stream:
        name = f"layers/{next(iter(stream['layers']))}"
    outside = tmp_path / "outside.h5"
    shutil.copy(SOURCE / file, outside)
    edit_weights(preset, replace(name, h5py.ExternalLink(str(outside), name)), file)
    assert f"{preset / file}: {name} is a link to another place" in refusal(preset)


@pytest.mark.parametrize("file", FILES)
def test_damaged_files(preset, file):
    content = (preset / file).read_bytes()
    (preset / file).write_bytes(content[: len(content) // 2])
    assert str(preset / file) in refusal(preset)


@pytest.mark.parametrize("file", ["config.json", "model.weights.h5"])
def test_absent_files(preset, file):
    (preset / file).unlink()
    assert file in refusal(preset)


@pytest.mark.parametrize("file", ["config.json", "task.json"])
def test_json_of_another_kind(preset, file):
    (preset / file).write_text("[1]")
    assert f"{preset / file} holds no JSON object" in refusal(preset)
    (preset / file).write_text(json.dumps({"registered_name": "keras_hub>BertBackbone"}))
    assert "'keras_hub>BertBackbone'" in refusal(preset)


def test_config_without_settings(preset):
    edit_content(preset, config=[1])
    assert f"{preset / 'config.json'} has no config" in refusal(preset)
    shutil.copy(SOURCE / "config.json", preset)
    edit_content(preset, "task.json", config={"backbone": 1})
    assert "task.json is of None, but 'keras_hub>DistilBertBackbone' is what" in refusal(preset)
