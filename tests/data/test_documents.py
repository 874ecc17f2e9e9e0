"""Text of any size: read in passes, sampled by hash, told how far it is."""

import random
from collections import Counter

import numpy as np
import pytest

from mlm.data import documents, prepare
from mlm.data.documents import HELDOUT, TRAIN, TextSettings, read_sides, scan, with_progress
from mlm.errors import DataError
from mlm.text import train_tokenizer

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
    assert [text for _, text in sides] == LINES
    found = scan(settings)
    assert found.kept == sides and found.documents == Counter(side for side, _ in sides)
    assert 40 < found.documents[HELDOUT] < 120
    assert found.sample == [text for side, text in sides if side == TRAIN]
    assert found.characters.total() == sum(map(len, LINES)) == found.source["characters"]


def test_text_too_large_to_keep_gives_the_same_stores(settings, tmp_path, monkeypatch):
    kept = prepare.prepare(settings, cache_dir=tmp_path / "kept", say=str)
    monkeypatch.setattr(documents, "KEPT", 1000)
    assert scan(settings).kept is None
    read_again = prepare.prepare(settings, cache_dir=tmp_path / "again", say=str)
    assert kept.tokenizer.hash == read_again.tokenizer.hash
    for one, other in ((kept.train, read_again.train), (kept.heldout, read_again.heldout)):
        np.testing.assert_array_equal(one.tokens, other.tokens)
        assert one.meta == other.meta


def test_text_that_changes_between_the_passes(settings, tmp_path, monkeypatch):
    monkeypatch.setattr(documents, "KEPT", 1000)

    def train_and_append(*args, **kwargs):
        with open(settings.corpus, "a") as file:
            file.write("\none more")
        return train_tokenizer(*args, **kwargs)

    monkeypatch.setattr(prepare, "train_tokenizer", train_and_append)
    with pytest.raises(DataError, match="a.txt changed while it was read"):
        prepare.prepare(settings, cache_dir=tmp_path / "cache", say=str)
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


def test_long_documents_are_cut_at_white_space_and_give_the_same_ids(monkeypatch):
    tokenizer = train_tokenizer(LINES, vocabulary_size=80, lowercase=True)
    texts = [" ".join(LINES), "short", "", "\n".join(LINES[:50]), "x" * 500]
    whole = tokenizer.encode(texts)
    monkeypatch.setattr(prepare, "PIECE", 97)
    monkeypatch.setattr(prepare, "CHUNK", 200)
    cut = list(prepare.encode(tokenizer, texts))
    assert cut[:4] == whole[:4]
    assert set(cut[4]) == set(whole[4]) == {tokenizer.special.unk}  # a word no vocabulary has


def test_progress_is_told_now_and_then():
    said = []
    assert list(with_progress(iter(["ab"] * 5), 10, said.append, every=0.0)) == ["ab"] * 5
    assert len(said) == 5 and "0 of 0 million characters" in said[0] and "s left" in said[0]
    said.clear()
    list(with_progress(iter(["ab"] * 5), 10, said.append))
    assert not said
