"""Model folders: safetensors and their index, HDF5, and the JSON beside them."""

import json
import shutil
from pathlib import Path

import jax
import numpy as np
import pytest
from damage import damaged, damaged_json, reads_or_refuses
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import load_file, save_file

from mlm import conversion
from mlm.conversion.tensor_files import INDEX, SINGLE
from mlm.pretrained import load_pretrained

PARITY = Path(__file__).parent.parent / "parity"
HUGGINGFACE, KERAS = PARITY / "hf_distilbert_tiny", PARITY / "kerashub_distilbert_tiny"
KEY = jax.random.key(0)
fewer = settings(max_examples=max(30, settings().max_examples // 4))  # each lays out a model


def load(folder):
    load_pretrained(folder, key=KEY, cast=True, local_files_only=True, say=str)


def copied(tmp_path_factory, source, names):
    folder = tmp_path_factory.mktemp("model")
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(source / name, folder / name)
    return folder


@pytest.fixture
def huggingface(tmp_path_factory):
    names = ("config.json", "tokenizer.json", SINGLE)
    return copied(tmp_path_factory, HUGGINGFACE, names)


@pytest.fixture
def sharded(huggingface):
    """The same in two shards and an index."""
    tensors = load_file(huggingface / SINGLE)
    names, shards = sorted(tensors), ("a.safetensors", "b.safetensors")
    for part, shard in ((names[::2], shards[0]), (names[1::2], shards[1])):
        save_file({n: np.ascontiguousarray(tensors[n]) for n in part}, huggingface / shard)
    (huggingface / SINGLE).unlink()
    return huggingface, {
        "metadata": {},
        "weight_map": {n: shards[i % 2] for i, n in enumerate(names)},
    }


@pytest.fixture
def keras(tmp_path_factory):
    names = ("config.json", "task.json", "tokenizer.json", "assets/tokenizer/vocabulary.txt")
    names += ("model.weights.h5", "task.weights.h5")
    return copied(tmp_path_factory, KERAS, names)


@pytest.fixture
def own(tmp_path_factory):
    loaded = conversion.load_huggingface(HUGGINGFACE)
    folder = tmp_path_factory.mktemp("own")
    conversion.save_own(folder, loaded.config, loaded.params)
    return folder


@fewer
@given(st.data())
def test_safetensors(huggingface, data):
    content = (HUGGINGFACE / SINGLE).read_bytes()
    (huggingface / SINGLE).write_bytes(data.draw(damaged(content)))
    reads_or_refuses(lambda: load(huggingface))


@fewer
@given(st.data())
def test_the_header_of_safetensors(huggingface, data):
    content = (HUGGINGFACE / SINGLE).read_bytes()
    size = int.from_bytes(content[:8], "little")
    header = data.draw(damaged_json(json.loads(content[8 : 8 + size])))
    whole = len(header).to_bytes(8, "little") + header + content[8 + size :]
    (huggingface / SINGLE).write_bytes(whole)
    reads_or_refuses(lambda: load(huggingface))


@fewer
@given(st.data())
def test_the_index_of_shards(sharded, data):
    folder, index = sharded
    (folder / INDEX).write_bytes(data.draw(damaged_json(index)))
    reads_or_refuses(lambda: load(folder))


@pytest.mark.parametrize("kind", ["huggingface", "keras", "own"])
@fewer
@given(data=st.data())
def test_config_json(request, kind, data):
    folder = request.getfixturevalue(kind)
    whole = request.node.stash.setdefault(WHOLE, (folder / "config.json").read_bytes())
    (folder / "config.json").write_bytes(data.draw(damaged_json(json.loads(whole))))
    reads_or_refuses(lambda: load(folder))


@pytest.mark.parametrize("name", ["model.weights.h5", "task.weights.h5"])
@fewer
@given(data=st.data())
def test_hdf5(keras, name, data):
    (keras / name).write_bytes(data.draw(damaged((KERAS / name).read_bytes())))
    reads_or_refuses(lambda: load(keras))


@fewer
@given(st.data())
def test_the_task_of_keras(keras, data):
    whole = json.loads((KERAS / "task.json").read_text())
    (keras / "task.json").write_bytes(data.draw(damaged_json(whole)))
    reads_or_refuses(lambda: load(keras))


@fewer
@given(st.data())
def test_the_index_of_keras(keras, data):
    (keras / "model.weights.h5").unlink(missing_ok=True)
    shutil.copy(KERAS / "model.weights.h5", keras / "model_00000.weights.h5")
    index = {"metadata": {"total_size": 1}, "weight_map": {"/a": ["model_00000.weights.h5"]}}
    (keras / "model.weights.json").write_bytes(data.draw(damaged_json(index)))
    reads_or_refuses(lambda: load(keras))


WHOLE = pytest.StashKey[bytes]()
