"""A written KerasHub preset is what keras-hub writes, and comes back bit for bit, or not at all."""

import json
from pathlib import Path

import h5py
import jax
import numpy as np
import pytest

from mlm.conversion import load_keras_preset, save_keras_preset
from mlm.errors import CheckpointError, OutputError
from mlm.models import DistilBertConfig, create

SOURCE = Path(__file__).parents[1] / "parity" / "kerashub_distilbert_tiny"
PIECES = "[PAD] [UNK] [CLS] [SEP] [MASK] the cat".split()
CONFIG = DistilBertConfig(
    8, layers=1, width=4, heads=2, hidden=4, max_length=4, dropout=0.2, attention_dropout=0.2,
    head_epsilon=1e-5,
)  # fmt: skip


@pytest.fixture(scope="module")
def params():
    return create(CONFIG, jax.random.key(0))[1]


def save(folder, config, params, **settings):
    defaults = {
        "tokenizer_vocabulary": PIECES,
        "lowercase": True,
        "strip_accents": False,
        "sequence_length": 4,
    }
    return save_keras_preset(folder, config, params, **defaults | settings)


def arrays(file):
    found = {}
    with h5py.File(file) as stream:
        stream.visititems(
            lambda name, item: found.update({name: item[()]}) if hasattr(item, "shape") else None
        )
    return found


def files(folder):
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def copy(tmp_path_factory):
    """The recorded preset, loaded and saved again."""
    folder = tmp_path_factory.mktemp("saved") / "preset"
    loaded = load_keras_preset(SOURCE)
    notes = save(
        folder,
        loaded.config,
        loaded.params,
        tokenizer_vocabulary=(SOURCE / "assets/tokenizer/vocabulary.txt").read_text().splitlines(),
        sequence_length=19,
        mask_selection_length=6,
    )
    assert notes == ()
    return folder


def test_the_same_files_with_the_same_text(copy):
    weights = {"model.weights.h5", "task.weights.h5"}
    texts = ["config.json", "task.json", "preprocessor.json", "tokenizer.json"]
    texts += ["assets/tokenizer/vocabulary.txt"]
    assert files(copy) == weights | {*texts, "metadata.json"}
    for name in texts:
        assert (copy / name).read_text() == (SOURCE / name).read_text(), name
    ours, theirs = (json.loads((f / "metadata.json").read_text()) for f in (copy, SOURCE))
    assert ours.keys() == theirs.keys()
    assert len(ours.pop("date_saved")) == len(theirs.pop("date_saved"))
    assert ours == theirs


@pytest.mark.parametrize("name", ["model.weights.h5", "task.weights.h5"])
def test_the_same_arrays_by_the_same_names(copy, name):
    ours, theirs = arrays(copy / name), arrays(SOURCE / name)
    assert ours.keys() == theirs.keys()
    for key, array in theirs.items():
        np.testing.assert_array_equal(ours[key], array)
        assert ours[key].dtype == array.dtype and ours[key].shape == array.shape


def test_load_save_load_is_bit_equal(copy):
    first, second = load_keras_preset(SOURCE), load_keras_preset(copy)
    assert (second.config, second.notes) == (first.config, first.notes)
    assert jax.tree.all(jax.tree.map(np.array_equal, first.params, second.params))


def test_settings_are_written(tmp_path, params):
    save(
        tmp_path / "out",
        CONFIG,
        params,
        lowercase=False,
        strip_accents=True,
        sequence_length=3,
        mask_selection_rate=0.3,
        mask_selection_length=2,
    )
    written = {
        name: json.loads((tmp_path / "out" / f"{name}.json").read_text())["config"]
        for name in ("config", "task", "preprocessor", "tokenizer")
    }
    assert written["config"]["dropout"] == 0.2 and written["config"]["num_layers"] == 1
    assert not written["tokenizer"]["lowercase"] and written["tokenizer"]["strip_accents"]
    chosen = {"sequence_length": 3, "mask_selection_rate": 0.3, "mask_selection_length": 2}
    assert written["preprocessor"].items() >= chosen.items()
    assert written["task"]["preprocessor"]["config"] == written["preprocessor"]
    assert written["preprocessor"]["tokenizer"]["config"] == written["tokenizer"]


def test_an_empty_folder_is_filled_and_a_full_one_is_not(tmp_path, params):
    folder = tmp_path / "deep" / "out"
    folder.mkdir(parents=True)
    save(folder, CONFIG, params)
    before = {name: (folder / name).read_bytes() for name in files(folder)}
    with pytest.raises(OutputError, match="out exists already; choose a new folder"):
        save(folder, CONFIG, params)
    assert {name: (folder / name).read_bytes() for name in files(folder)} == before
    with pytest.raises(OutputError, match="config.json exists already"):
        save(folder / "config.json", CONFIG, params)


def test_other_epsilons_only_when_allowed(tmp_path, params):
    config = DistilBertConfig(**{**vars(CONFIG), "head_epsilon": 1e-12})
    with pytest.raises(CheckpointError, match="cannot hold head_epsilon=1e-12: .*2e-4 for public"):
        save(tmp_path / "out", config, params)
    assert not any(tmp_path.iterdir())
    (note,) = save(tmp_path / "out", config, params, allow_epsilon_change=True)
    assert "head_epsilon=1e-05, not head_epsilon=1e-12: logits differ a little" in note
    assert load_keras_preset(tmp_path / "out").config == CONFIG
    wide = DistilBertConfig(**{**vars(CONFIG), "epsilon": 1e-6})
    with pytest.raises(CheckpointError, match="cannot hold epsilon=1e-06"):
        save(tmp_path / "other", wide, params)


def test_a_second_dropout_rate_is_told(tmp_path, params):
    config = DistilBertConfig(**{**vars(CONFIG), "attention_dropout": 0.0})
    (note,) = save(tmp_path / "out", config, params)
    assert note == "KerasHub has one dropout rate: attention_dropout=0.0 becomes 0.2 there."


@pytest.mark.parametrize(
    ("pieces", "complaint"),
    [
        (PIECES[2:], r"it lacks \[PAD\]; it lacks \[UNK\]"),
        ([*PIECES, "a", "b"], "it has 9 pieces, the model 8"),
        ([*PIECES, "the"], "1 of its pieces are there twice"),
        ([*PIECES, "the\u00a0"], "1 of its pieces are there twice"),  # once it is read there
        ([*PIECES, "a\nb"], "'a\\\\nb' is not a line"),
        ([*PIECES, "a\rb"], "'a\\\\rb' is not a line"),
        ([*PIECES, "\0"], "is not a line"),  # tensorflow-text takes it for an empty one, and fails
        ([*PIECES, "\u00a0"], "is not a line"),
    ],
)
def test_vocabularies_that_would_be_read_differently(tmp_path, params, pieces, complaint):
    with pytest.raises(CheckpointError, match=complaint):
        save(tmp_path / "out", CONFIG, params, tokenizer_vocabulary=pieces)
    assert not any(tmp_path.iterdir())


def test_white_space_at_the_end_of_a_piece_is_told(tmp_path, params):
    (note,) = save(tmp_path / "out", CONFIG, params, tokenizer_vocabulary=[*PIECES, "a\u00a0"])
    assert note == "KerasHub drops the white space at the end of 1 pieces."


@pytest.mark.parametrize("size", [100, 5000])
def test_a_full_disk_leaves_nothing(tmp_path, params, full_disk, size):
    with full_disk(size), pytest.raises(OutputError, match="out cannot be written .File too large"):
        save(tmp_path / "out", CONFIG, params)
    assert not any(tmp_path.iterdir())


def test_an_interruption_leaves_nothing(tmp_path, params, monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("mlm.conversion.keras_export._metadata", interrupted)
    with pytest.raises(KeyboardInterrupt):
        save(tmp_path / "out", CONFIG, params)
    assert not any(tmp_path.iterdir())


def test_a_place_that_cannot_be(tmp_path, params):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="cannot be written"):
        save(tmp_path / "file" / "out", CONFIG, params)
