"""Text of any size: read in passes, sampled by hash, told how far it is."""

import dataclasses
import random
from collections import Counter

import numpy as np
import pytest

from mlm.errors import DataError
from mlm.preparing import documents, folder
from mlm.preparing.documents import HELDOUT, TRAIN, Sample, TextSettings, read_sides, scan
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
    assert sum(found.bytes.values()) == sum(map(len, LINES)) == found.facts["characters"]


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
        sample = Sample(2000)
        for text in texts:
            sample.add(text)
        assert 500 < sum(map(len, sample.texts)) == sample.size <= 2000
        samples.append(sorted(sample.texts))
    assert samples[0] == samples[1] == samples[2]


def test_a_sample_of_one_long_document_keeps_it():
    sample = Sample(10)
    sample.add("much longer than ten")
    assert sample.texts == ["much longer than ten"]


def test_bytes_are_those_of_the_file(tmp_path):
    (tmp_path / "a.txt").write_text("é ж 中 plain", encoding="utf-8")
    found = scan(TextSettings(corpus=str(tmp_path / "a.txt"), **SETTINGS))
    assert sum(found.bytes.values()) == (tmp_path / "a.txt").stat().st_size == 15
    assert found.facts["characters"] == 11


def test_each_source_is_counted(settings, tmp_path):
    (tmp_path / "b.txt").write_text("\n".join(f"another {n}" for n in range(50)))
    both = dataclasses.replace(settings, corpus=f"{settings.corpus}, {tmp_path / 'b.txt'}")
    found = scan(both)
    held_out = Counter(d.source for d in found.kept if d.side == HELDOUT)
    assert [count + held_out[i] for i, count in enumerate(found.train_documents)] == [400, 50]
    assert sum(found.train_documents) == found.documents[TRAIN]
    assert [file["path"] for file in found.facts["files"]] == both.corpus.split(", ")


def test_what_is_held_out_is_not_trained_on(settings, tmp_path):
    (tmp_path / "dev.txt").write_text("\n".join([*LINES[:30], LINES[0], "a line of its own"]))
    given = dataclasses.replace(settings, heldout_corpus=str(tmp_path / "dev.txt"))
    found = scan(given)
    assert found.documents == {HELDOUT: 32, TRAIN: 370}
    assert found.facts["held_out_too"] == 30
    trained_on = {d.text for d in found.kept if d.side == TRAIN}
    assert trained_on == set(LINES[30:])


def test_an_empty_source_among_others(settings, tmp_path):
    (tmp_path / "blank.txt").write_text(" \n\n")
    both = dataclasses.replace(settings, corpus=f"{tmp_path / 'blank.txt'},{settings.corpus}")
    assert sum(scan(both).train_documents) == scan(settings).documents[TRAIN]
    assert scan(both).train_documents[0] == 0
    with pytest.raises(DataError, match="blank.txt' has no document, only white space"):
        scan(dataclasses.replace(settings, corpus=str(tmp_path / "blank.txt")))


def test_documents_that_are_all_longer_than_the_sample():
    for draw in range(30):
        texts = [f"{draw} {n} is longer than that" for n in range(20)]
        samples = []
        for order in (texts, texts[::-1]):
            sample = Sample(10)
            for text in order:
                sample.add(text)
            samples.append(sample.texts)
        assert samples[0] == samples[1] and len(samples[0]) == 1
