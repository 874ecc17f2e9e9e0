"""A tokenizer trained ahead is the one that `prepare` trains, and appears whole or not at all."""

import dataclasses
from pathlib import Path

import pytest

from mlm.errors import ConfigError, DataError, OutputError
from mlm.preparing import TextSettings, prepare, train_vocabulary
from mlm.text import Tokenizer, load_tokenizer


@pytest.fixture
def settings(tmp_path):
    (tmp_path / "a.txt").write_text("\n".join(f"the cat {n} sees {n * n} dogs" for n in range(80)))
    return TextSettings(
        corpus=str(tmp_path / "a.txt"),
        document="line",
        heldout_fraction=0.3,
        tokenizer="",
        vocabulary_size=70,
        lowercase=True,
    )


@pytest.mark.parametrize("changes", [{}, {"tokenizer_sample": 500}, {"lowercase": False}])
def test_the_same_tokenizer_as_prepare(settings, tmp_path, changes):
    settings = dataclasses.replace(settings, **changes)
    trained = train_vocabulary(settings, tmp_path / "out/my.json", say=str, cache_dir=tmp_path)
    prepared = prepare(settings, cache_dir=tmp_path / "cache", say=str).tokenizer
    assert trained.hash == prepared.hash == load_tokenizer(tmp_path / "out/my.json").hash
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["my.json"]


def test_what_is_said(settings, tmp_path):
    said = []
    train_vocabulary(settings, tmp_path / "all.json", say=said.append, cache_dir=tmp_path)
    train_vocabulary(
        dataclasses.replace(settings, tokenizer_sample=500),
        tmp_path / "part.json",
        say=said.append,
        cache_dir=tmp_path,
    )
    assert said[0] == said[2] == f"reading {settings.corpus}"
    start, end = "training a WordPiece vocabulary of 70 on ", " bytes that are not held out"
    (used, size), (part, same) = (
        map(int, line.removeprefix(start).removesuffix(end).replace(",", "").split(" of "))
        for line in (said[1], said[3])
    )
    assert used == size == same and 125 < part <= 500 < size < (tmp_path / "a.txt").stat().st_size


def test_nothing_is_overwritten(settings, tmp_path):
    (tmp_path / "my.json").write_text("mine")
    with pytest.raises(OutputError, match="my.json exists; choose another name or remove it"):
        train_vocabulary(settings, tmp_path / "my.json", say=pytest.fail, cache_dir=tmp_path)
    assert (tmp_path / "my.json").read_text() == "mine"


def test_a_place_that_cannot_be_written_is_told_before_the_text_is_read(settings, tmp_path):
    with pytest.raises(OutputError, match="a.txt/my.json cannot be written .File exists.; "):
        train_vocabulary(settings, tmp_path / "a.txt/my.json", say=pytest.fail, cache_dir=tmp_path)


def test_a_failure_leaves_nothing(settings, tmp_path, monkeypatch):
    out = tmp_path / "out/my.json"
    with pytest.raises(DataError, match="vocabulary_size is 9, but"):
        train_vocabulary(
            dataclasses.replace(settings, vocabulary_size=9), out, say=str, cache_dir=tmp_path
        )

    def full(self, path):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Tokenizer, "save", full)
    with pytest.raises(OutputError, match="my.json cannot be written .No space left on device."):
        train_vocabulary(settings, out, say=str, cache_dir=tmp_path)
    assert list(out.parent.iterdir()) == []


def test_settings_that_train_nothing(settings, tmp_path):
    for out in ("my.txt", "my", ""):
        with pytest.raises(ConfigError, match="; a tokenizer is a .json file: name it so"):
            train_vocabulary(settings, Path(out), say=str, cache_dir=tmp_path)
    given = dataclasses.replace(settings, tokenizer="vocab.txt")
    with pytest.raises(ConfigError, match="data.tokenizer is vocab.txt, so none would be trained"):
        train_vocabulary(given, tmp_path / "my.json", say=str, cache_dir=tmp_path)
