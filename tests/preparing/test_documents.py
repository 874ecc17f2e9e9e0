"""Text of any size: read in passes, sampled by hash, told how far it is."""

import dataclasses
import io
import random
from collections import Counter

import numpy as np
import pytest

from mlm.errors import DataError
from mlm.preparing import documents, folder
from mlm.preparing.documents import HELDOUT, TRAIN, TextSettings, read_sides, scan, spooled
from mlm.preparing.vocabulary import train_on

SETTINGS = dict(
    document="line", heldout_fraction=0.2, tokenizer="", vocabulary_size=80, lowercase=True
)
LINES = [f"the cat {n} sees the dog {n % 7}" for n in range(400)]


@pytest.fixture
def settings(tmp_path):
    (tmp_path / "a.txt").write_text("\n".join(LINES))
    return TextSettings(corpus=str(tmp_path / "a.txt"), **SETTINGS)


def test_each_document_stands_on_one_side(settings):
    sides = list(read_sides(settings, Counter(), {}))
    assert [document.text for document in sides] == LINES
    found = scan(settings)
    assert found.kept == sides and found.documents == Counter(d.side for d in sides)
    assert 40 < found.documents[HELDOUT] < 120
    assert found.sample == [document.text for document in sides if document.side == TRAIN]
    assert sum(found.bytes.values()) == sum(map(len, LINES)) == found.source["characters"]


def test_text_too_large_to_keep_gives_the_same_stores(settings, tmp_path, monkeypatch):
    kept = folder.prepare(settings, cache_dir=tmp_path / "kept", say=str)
    monkeypatch.setattr(documents, "KEPT", 1000)
    assert scan(settings).kept is None
    read_again = folder.prepare(settings, cache_dir=tmp_path / "again", say=str)
    assert kept.tokenizer.hash == read_again.tokenizer.hash
    for one, other in ((kept.train, read_again.train), (kept.heldout, read_again.heldout)):
        np.testing.assert_array_equal(one.tokens, other.tokens)
        assert one.meta == other.meta


def test_text_that_changes_between_the_passes(settings, tmp_path, monkeypatch):
    monkeypatch.setattr(documents, "KEPT", 1000)

    def train_and_append(*args, **kwargs):
        with open(settings.corpus, "a") as file:
            file.write("\none more")
        return train_on(*args, **kwargs)

    monkeypatch.setattr(folder, "train_on", train_and_append)
    with pytest.raises(DataError, match="a.txt changed while it was read"):
        folder.prepare(settings, cache_dir=tmp_path / "cache", say=str)
    assert not list((tmp_path / "cache").iterdir())


def test_a_sample_is_bounded_and_the_same_in_any_order():
    texts = list(LINES)
    samples = []
    for _ in range(3):
        random.Random(len(samples)).shuffle(texts)
        sample = documents._Sample(2000)
        for text in texts:
            sample.add(text)
        assert 500 < sum(map(len, sample.texts)) == sample.size <= 2000
        samples.append(sorted(sample.texts))
    assert samples[0] == samples[1] == samples[2]


def test_a_sample_of_one_long_document_keeps_it():
    sample = documents._Sample(10)
    sample.add("much longer than ten")
    assert sample.texts == ["much longer than ten"]


def test_bytes_are_those_of_the_file(tmp_path):
    (tmp_path / "a.txt").write_text("é ж 中 plain", encoding="utf-8")
    found = scan(TextSettings(corpus=str(tmp_path / "a.txt"), **SETTINGS))
    assert sum(found.bytes.values()) == (tmp_path / "a.txt").stat().st_size == 15
    assert found.source["characters"] == 11


def test_each_source_is_counted(settings, tmp_path):
    (tmp_path / "b.txt").write_text("\n".join(f"another {n}" for n in range(50)))
    both = dataclasses.replace(settings, corpus=f"{settings.corpus}, {tmp_path / 'b.txt'}")
    found = scan(both)
    held_out = Counter(d.source for d in found.kept if d.side == HELDOUT)
    assert [count + held_out[i] for i, count in enumerate(found.sources)] == [400, 50]
    assert sum(found.sources) == found.documents[TRAIN]
    assert [file["path"] for file in found.source["files"]] == both.corpus.split(", ")


# What can be read only once.


def read(settings):
    return [document.text for document in read_sides(settings, Counter(), {})]


def test_what_can_be_read_again_is_not_kept(settings, tmp_path):
    with spooled(settings, None, tmp_path / "cache") as same:
        assert same is settings
    assert not (tmp_path / "cache").exists()


def test_documents_from_a_notebook_take_the_place_of_the_corpus(settings, tmp_path):
    texts = ("a cat", "two\nlines", "", "  \n", "é")
    with spooled(settings, iter(texts), tmp_path / "cache") as given:
        assert given.sources == ["documents"]
        assert read(given) == read(given) == ["a cat", "two\nlines", "é"]
        found = scan(given)
    assert found.source["corpus"] == "documents" and "files" not in found.source
    assert not list((tmp_path / "cache").iterdir())


def test_a_field_of_another_name_does_not_hide_them(settings, tmp_path):
    other = dataclasses.replace(settings, field="body, title")
    with spooled(other, ["a", "b"], tmp_path) as given:
        assert read(given) == ["a", "b"]


def test_standard_input_stands_between_files(settings, tmp_path, monkeypatch):
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"from a pipe\nand more")))
    corpus = f"{settings.corpus},-"
    with spooled(dataclasses.replace(settings, corpus=corpus), None, tmp_path) as given:
        assert read(given) == read(given) == [*LINES, "from a pipe", "and more"]
        assert given.corpus == corpus


def test_a_function_in_place_of_the_corpus(settings, tmp_path, monkeypatch):
    (tmp_path / "mine.py").write_text("def documents():\n    yield 'one'\n    yield 'two'\n")
    monkeypatch.syspath_prepend(tmp_path)
    with spooled(dataclasses.replace(settings, source="mine:documents"), None, tmp_path) as given:
        assert read(given) == ["one", "two"]
        assert scan(given).source["corpus"] == "mine:documents"
