"""A store is written whole or not at all, and a writer that was killed goes on where it was."""

import json

import numpy as np
import pytest

from mlm.data import open_store, write_store
from mlm.data import writer as module
from mlm.data.writer import fill_store
from mlm.errors import DataError, OutputError

LABELS = {"tokenizer_hash": "a1" * 32, "fingerprint": "f0" * 32, "source": {"text": "here"}}


def test_documents_are_read_one_at_a_time(make_store):
    store = make_store(iter([[3], [], [4, 5], np.array([], np.int32)]))
    assert store.doc_ends.tolist() == [1, 3]
    assert store.doc_ends.dtype == np.int64


@pytest.mark.parametrize("bad", [[5000], [-1], [70_000], [1.5], [[1, 2]], ["a"]])
def test_wrong_ids_are_refused_and_leave_nothing(make_store, tmp_path, bad):
    with pytest.raises(DataError, match="5000 ids|integer ids"):
        make_store([[1, 2], bad])
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("documents", [[], [[], []]])
def test_an_empty_corpus_is_refused(make_store, tmp_path, documents):
    with pytest.raises(DataError, match="no tokens"):
        make_store(documents)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "error, seen",
    [(KeyboardInterrupt(), KeyboardInterrupt), (FileNotFoundError("corpus.txt"), DataError)],
)
def test_an_interrupted_write_leaves_nothing(make_store, tmp_path, error, seen):
    def documents():
        yield [1, 2, 3]
        assert len(list(tmp_path.iterdir())) == 1  # the partial folder
        raise error

    with pytest.raises(seen):
        make_store(documents())
    assert list(tmp_path.iterdir()) == []


def test_an_existing_store_is_not_overwritten(make_store, store):
    with pytest.raises(DataError, match="exists already"):
        make_store([[1]])
    assert open_store(store.path).documents == store.documents


def test_a_path_below_a_file_is_not_writable(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="cannot be written"):
        write_store(tmp_path / "file" / "store", [[1]], vocabulary_size=5, **LABELS)


def test_a_full_disk_leaves_nothing(make_store, tmp_path, full_disk):
    with full_disk(4096), pytest.raises(OutputError, match="cannot be written"):
        make_store([range(5000)])
    assert list(tmp_path.iterdir()) == []


# Going on.


class Killed(BaseException):
    """Ends a writer where no handler of its own can."""


def fill(folder, documents, *, asked=None, die_before=None, sources=()):
    """`fill_store`, which may die before a document; `asked` grows by the numbers asked for."""

    def documents_from(start):
        for number in range(start, len(documents)):
            if number == die_before:
                raise Killed
            if asked is not None:
                asked.append(number)
            yield documents[number]

    fill_store(folder, documents_from, vocabulary_size=5000, labels=LABELS, sources=sources)


def content(folder):
    files = ("tokens.bin", "doc_ends.npy", "meta.json")
    return {name: (folder / name).read_bytes() for name in files}


def test_a_killed_writer_goes_on_at_its_last_shard(tmp_path, corpus, monkeypatch):
    corpus = [*corpus[:20], [], [], *corpus[20:]]
    fill(tmp_path / "whole", corpus)
    monkeypatch.setattr(module, "SHARD", 100)
    for die_before in range(0, len(corpus), 7):
        folder, again = tmp_path / str(die_before), []
        with pytest.raises(Killed):
            fill(folder, corpus, die_before=die_before)
        with pytest.raises(DataError, match="no token store"):
            open_store(folder)
        # What was written after the last shard, in part perhaps, is written anew.
        with open(folder / "tokens.bin", "ab") as file:
            file.write(b"torn")
        fill(folder, corpus, asked=again)
        assert content(folder) == content(tmp_path / "whole")
        lost = sum(map(len, corpus[again[0] : die_before]))
        assert lost < 100 + 40 and again == list(range(again[0], len(corpus)))
        assert open_store(folder).documents == len(corpus) - 2


def test_a_writer_that_was_killed_twice(tmp_path, corpus, monkeypatch):
    fill(tmp_path / "whole", corpus)
    monkeypatch.setattr(module, "SHARD", 60)
    for die_before in (21, 44, 52):
        with pytest.raises(Killed):
            fill(tmp_path / "store", corpus, die_before=die_before)
    fill(tmp_path / "store", corpus)
    assert content(tmp_path / "store") == content(tmp_path / "whole")


@pytest.mark.parametrize(
    "entry",
    [
        *("", "{", "[]", '{"read": 20}', "[" * 100_000, None),
        '{"read": null, "tokens": 1, "max_id": 1}',
        '{"read": -1, "tokens": -1, "max_id": 1}',
    ],
)
def test_a_journal_that_is_torn_or_says_more_than_there_is(tmp_path, corpus, monkeypatch, entry):
    fill(tmp_path / "whole", corpus)
    monkeypatch.setattr(module, "SHARD", 100)
    with pytest.raises(Killed):
        fill(tmp_path / "store", corpus, die_before=40)
    if entry is None:
        (tmp_path / "store/tokens.bin").write_bytes(b"short")
    else:
        (tmp_path / "store/journal.json").write_text(entry)
    fill(tmp_path / "store", corpus)
    assert content(tmp_path / "store") == content(tmp_path / "whole")


def test_a_whole_store_is_left_alone_and_only_its_files_remain(tmp_path, corpus, monkeypatch):
    monkeypatch.setattr(module, "SHARD", 100)
    fill(tmp_path / "store", corpus)
    before = content(tmp_path / "store")
    (tmp_path / "store/ends.bin").touch()  # a kill between the meta and the last clean-up
    fill(tmp_path / "store", corpus, die_before=0)
    assert content(tmp_path / "store") == before
    names = {"tokens.bin", "doc_ends.npy", "meta.json", "checked.json"}
    assert {path.name for path in (tmp_path / "store").iterdir()} == names


def test_sources_are_counted_without_their_empty_documents(tmp_path):
    documents = [[5, 6], [], [7], [8, 9, 10], []]
    fill(tmp_path / "store", documents, sources=[("a", 3), ("b", 0), ("c", 2)])
    assert json.loads((tmp_path / "store/meta.json").read_text())["sources"] == [
        {"name": "a", "documents": 2, "tokens": 3},
        {"name": "b", "documents": 0, "tokens": 0},
        {"name": "c", "documents": 1, "tokens": 3},
    ]


def test_a_store_of_one_text_is_one_source(store):
    whole = {"name": "text", "documents": store.documents, "tokens": store.token_count}
    assert store.sources == [whole]
