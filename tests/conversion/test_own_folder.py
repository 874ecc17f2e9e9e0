"""A folder of our own kind gives back every bit, and says so when it cannot."""

import dataclasses
import json

import jax
import numpy as np
import pytest

from mlm.conversion.own_folder import load_own, read_own_config, save_own
from mlm.errors import CheckpointError, OutputError
from mlm.models import DistilBertConfig, create

CONFIG = DistilBertConfig(
    vocabulary_size=40, layers=1, width=8, heads=2, hidden=16, max_length=12, head_epsilon=1e-5
)


@pytest.fixture(scope="module")
def params():
    return jax.tree.map(np.asarray, create(CONFIG, jax.random.key(0))[1])


@pytest.fixture
def folder(params, tmp_path):
    save_own(tmp_path, CONFIG, params)
    return tmp_path


def change(folder, **facts):
    file = folder / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | facts))


def error_of(folder):
    with pytest.raises(CheckpointError) as caught:
        load_own(folder)
    assert "\n" not in str(caught.value) and str(folder) in str(caught.value)
    return str(caught.value)


def test_every_bit_and_every_setting_comes_back(folder, params):
    loaded = load_own(folder)
    assert loaded.config == read_own_config(folder) == CONFIG and loaded.notes == ()
    assert jax.tree.structure(loaded.params) == jax.tree.structure(params)
    for new, old in zip(*map(jax.tree.leaves, (loaded.params, params)), strict=True):
        assert new.dtype == np.float32 and np.array_equal(new, old)


def test_one_flipped_bit(folder):
    file = folder / "model.safetensors"
    content = bytearray(file.read_bytes())
    content[-5] ^= 1
    file.write_bytes(content)
    assert "model.safetensors is damaged (sha256" in error_of(folder)


def test_damaged_files(folder):
    file = folder / "model.safetensors"
    content = file.read_bytes()
    file.write_bytes(content[:-8])
    assert "cannot be read as safetensors" in error_of(folder)
    file.unlink()
    assert "has no model.safetensors" in error_of(folder)
    (folder / "config.json").write_text("{")
    assert "is not JSON" in error_of(folder)


def test_settings_that_do_not_fit(folder):
    settings = dataclasses.asdict(CONFIG)
    change(folder, model=settings | {"width": 16})
    assert "must hold the tensors that its config describes" in error_of(folder)
    for wrong in ({"width": 7}, {"size": 3}, {"dtype": "int8"}):
        change(folder, model=settings | wrong)
        assert "does not describe a model that we have" in error_of(folder)
    change(folder, mlm_version=2)
    assert "has mlm_version 2, this version of mlm reads 1" in error_of(folder)


def test_a_place_that_cannot_be_written(params, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="file/model.safetensors cannot be written"):
        save_own(tmp_path / "file", CONFIG, params)


def test_how_a_model_was_computed_is_not_kept(tmp_path, params):
    config = dataclasses.replace(CONFIG, attention="xla", remat="layers")
    save_own(tmp_path, config, params)
    assert read_own_config(tmp_path) == CONFIG
