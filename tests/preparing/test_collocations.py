"""Bitmaps of collocations: made once, whole or not at all, the held-out text by those of train."""

import json

import numpy as np
import pytest

from mlm.data import open_units
from mlm.errors import DataError, OutputError
from mlm.preparing import (
    TextSettings,
    collocation_folder,
    collocations,
    prepare,
    top_collocations,
)


@pytest.fixture(scope="module")
def text(corpus_file, tmp_path_factory):
    settings = TextSettings(
        corpus=str(corpus_file),
        document="paragraph",
        heldout_fraction=0.1,
        tokenizer="",
        vocabulary_size=96,
        lowercase=True,
    )
    return prepare(settings, cache_dir=tmp_path_factory.mktemp("cache"), say=str)


@pytest.fixture
def make(text, tmp_path):
    def make(said=None, **changes):
        options = {"more_than": 10, "cache_dir": tmp_path / "cache"} | changes
        say = str if said is None else said.append
        return collocation_folder(text, **options, say=say)

    return make


def test_units_of_both_sides(text, make):
    folder = make()
    for side, store in text.stores.items():
        units = open_units(folder / side, store)
        starts = units.at(np.arange(store.token_count))
        assert units.meta["units"] == starts.sum() < 0.9 * store.token_count
        assert units.meta["name"] == "pmi" and units.meta["settings"]["pmi_count"] == 10
        ends = np.append(np.flatnonzero(starts)[1:], store.token_count)
        pieces = zip(np.flatnonzero(starts), ends, strict=True)
        found = {text.tokenizer.decode(store.tokens[a:b].tolist()) for a, b in pieces}
        # Phrases of the grammar, in the held-out text too; "the" stands before many words.
        assert {"my neighbour", "near the river", "one of the children", "teacher"} <= found


def test_the_list_is_for_people(text, make):
    folder = make()
    entries = top_collocations(folder, 5)
    assert len(entries) == 5 and entries[0].keys() == {"words", "length", "count", "score"}
    lines = (folder / "collocations.jsonl").read_text().splitlines()
    every = top_collocations(folder, 10_000)
    assert [json.loads(line) for line in lines] == every
    assert len(every) == open_units(folder / "train", text.train).meta["settings"]["collocations"]
    assert all(len(entry["words"].split()) == entry["length"] for entry in every)
    assert all(entry["count"] > 10 and entry["score"] > 0 for entry in every)
    with pytest.raises(DataError, match="no list of collocations"):
        top_collocations(folder / "train")


def test_they_are_made_once(make):
    said = []
    first = make(said)
    assert len(said) == 2 and "looking for collocations in" in said[0]
    times = {file: file.stat().st_mtime_ns for file in first.rglob("*")}
    assert make(said) == first and len(said) == 2
    assert {file: file.stat().st_mtime_ns for file in first.rglob("*")} == times
    assert sorted(path.name for path in first.parent.iterdir()) == [first.name]


def test_the_same_text_gives_the_same_bits_in_another_place(make, tmp_path):
    files = [make(cache_dir=tmp_path / name) for name in ("one", "two")]
    assert files[0].name == files[1].name
    for name in ("train/units.bin", "heldout/units.bin", "collocations.jsonl"):
        assert (files[0] / name).read_bytes() == (files[1] / name).read_bytes()


def test_another_count_is_another_folder(make):
    assert make() != make(more_than=20)


def test_what_a_killed_process_left_is_not_taken_for_whole(make, monkeypatch, tmp_path):
    save, saved = collocations.save_units, []

    def killed(*arguments, **options):
        if saved:
            raise SystemExit("killed")  # as a signal would, between the two sides
        saved.append(save(*arguments, **options))

    monkeypatch.setattr(collocations, "save_units", killed)
    with pytest.raises(SystemExit):
        make()
    [left] = (tmp_path / "cache").iterdir()
    assert left.name.endswith(".partial") and (left / "train").exists()
    monkeypatch.undo()
    folder = make()
    assert (folder / "heldout" / "units.bin").exists()
    assert [path.name for path in (tmp_path / "cache").iterdir()] == [folder.name]


def test_a_damaged_side_that_was_removed_is_made_again(text, make):
    folder = make()
    (folder / "train" / "units.bin").write_bytes(b"")
    with pytest.raises(DataError, match="remove the folder .*train and make the units again"):
        open_units(folder / "train", text.train)
    for file in (folder / "train").iterdir():
        file.unlink()
    (folder / "train").rmdir()
    assert make() == folder
    assert open_units(folder / "train", text.train).meta["units"]


def test_a_text_without_collocations_leaves_nothing(make, tmp_path):
    with pytest.raises(DataError, match="no collocation"):
        make(more_than=100_000)
    assert list((tmp_path / "cache").iterdir()) == []


def test_a_cache_that_cannot_be_written(make, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="choose another data.cache_dir"):
        make(cache_dir=tmp_path / "file" / "cache")
