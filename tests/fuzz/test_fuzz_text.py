"""Corpora of every kind, the token store, bitmaps of units, and the JSON of a run."""

import contextlib
import gzip
import json
import shutil
from collections import Counter

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
from backports import zstd
from damage import damaged, damaged_file, damaged_json, reads_or_refuses
from hypothesis import given
from hypothesis import strategies as st

from mlm.data import make_rows, open_store, open_units, read_rows, save_units, verify_store
from mlm.data.writer import fill_store, write_store
from mlm.errors import DataError
from mlm.masking.tables import read_weights
from mlm.text import Reading, SpecialTokens
from mlm.text.files import read_documents
from mlm.training.metrics import read_metrics
from mlm.training.workdir import read_json

TEXT = "The cats sat.\r\n\r\nélan \u4e2d\u6587\nand more\n".encode()
JSONL = b'{"text": "The cats \\u00e9", "n": 1}\n{"text": "two", "body": [1]}\n'
READING = st.builds(
    Reading,
    st.sampled_from(["paragraph", "line", "file"]),
    st.sampled_from(["text", "body,text", ""]),
    st.sampled_from(["error", "replace"]),
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("text")


def read(file, reading):
    for document in read_documents(file, reading, Counter()):
        document.encode()  # nothing that is no text gets through
        assert "\0" not in document


@pytest.fixture(scope="module")
def parquet(folder):
    table = pyarrow.table({"text": ["The cats", "é", "c"], "n": [1, 2, 3]})
    pyarrow.parquet.write_table(table, folder / "whole.parquet")
    return (folder / "whole.parquet").read_bytes()


@pytest.mark.parametrize("name", ["a.txt", "a.jsonl", "a.txt.gz", "a.jsonl.zst", "a.parquet"])
@given(data=st.data())
def test_corpus(folder, parquet, name, data):
    whole = {
        "a.txt": TEXT,
        "a.jsonl": JSONL,
        "a.txt.gz": gzip.compress(TEXT * 20),
        "a.jsonl.zst": zstd.compress(JSONL * 20),
        "a.parquet": parquet,
    }[name]
    (folder / name).write_bytes(data.draw(damaged(whole)))
    reading = data.draw(READING)
    reads_or_refuses(lambda: read(folder / name, reading))


@given(st.data())
def test_lines_of_json(folder, data):
    lines = [data.draw(damaged_json(json.loads(line))) for line in JSONL.splitlines()]
    (folder / "b.jsonl").write_bytes(b"\n".join(lines))
    reading = data.draw(READING)
    reads_or_refuses(lambda: read(folder / "b.jsonl", reading))


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    folder = tmp_path_factory.mktemp("store") / "train"
    write_store(
        folder,
        [[7, 8, 9, 300], [6], list(range(5, 60))] * 20,
        vocabulary_size=301,
        tokenizer_hash="a" * 64,
        fingerprint="b" * 64,
        source={"corpus": "x", "files": [{"path": "a", "bytes": 3}]},
    )
    save_units(open_store(folder), np.arange(1200) % 3 == 0, folder.parent / "units")
    return folder


def whole_copy(store, folder):
    for name in ("train", "units"):
        shutil.rmtree(folder / name, ignore_errors=True)
        shutil.copytree(store.parent / name, folder / name)


def use_store(folder):
    store = open_store(folder / "train")
    verify_store(store)
    rows = make_rows(store, mode="packed", length=16, special=SpecialTokens(0, 1, 2, 3, 4))
    read_rows(rows, np.arange(len(rows)))
    store.counts.sum()


STORE = ("meta.json", "checked.json", "tokens.bin", "doc_ends.npy")


@pytest.mark.parametrize("name", STORE)
@given(data=st.data())
def test_token_store(store, folder, name, data):
    whole_copy(store, folder)
    content = (store / name).read_bytes()
    (folder / "train" / name).write_bytes(data.draw(damaged_file(name, content)))
    reads_or_refuses(lambda: use_store(folder))


@pytest.mark.parametrize("name", ["units.json", "units.bin"])
@given(data=st.data())
def test_units(store, folder, name, data):
    whole_copy(store, folder)
    content = (store.parent / "units" / name).read_bytes()
    (folder / "units" / name).write_bytes(data.draw(damaged_file(name, content)))
    reads_or_refuses(lambda: open_units(folder / "units", open_store(store)).at(np.arange(1200)))


@given(st.data())
def test_a_journal_of_a_killed_writer(folder, data):
    """What is torn is written again: the store comes out as ever."""
    place = folder / "partial"
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir()
    (place / "journal.json").write_bytes(
        data.draw(damaged_json({"read": 1, "tokens": 2, "max_id": 9}))
    )
    (place / "tokens.bin").write_bytes(data.draw(damaged(b"\7\0\x09\0")))
    (place / "ends.bin").write_bytes(data.draw(damaged((2).to_bytes(8, "little"))))
    labels = {"tokenizer_hash": "a", "fingerprint": "b", "source": {}}

    def write():
        documents = [[7, 9], [5, 6]]
        fill_store(place, lambda n: documents[n:], vocabulary_size=10, labels=labels)
        use_store_at(place)

    reads_or_refuses(write)


def use_store_at(place):
    with contextlib.suppress(DataError):
        verify_store(open_store(place))


@given(st.data())
def test_metrics(folder, data):
    lines = b'{"step": 1, "train/loss": 2.0}\n{"step": 2, "train/loss": NaN}\n'
    file = folder / "metrics.jsonl"
    file.write_bytes(data.draw(st.one_of(damaged(lines), damaged_json({"step": 1, "x": [2]}))))

    def read():
        for line in read_metrics(file):
            assert isinstance(line["step"], int)

    reads_or_refuses(read)


@given(st.data())
def test_json_of_a_run(folder, data):
    (folder / "status.json").write_bytes(data.draw(damaged_json({"step": 1, "state": "x"})))
    reads_or_refuses(lambda: read_json(folder / "status.json"))


@given(st.data())
def test_a_table_of_weights(folder, data):
    file = folder / "weights.npy"
    np.save(file, np.linspace(0, 1, 20))
    file.write_bytes(data.draw(damaged(file.read_bytes())))
    selectable = np.ones(20, bool)
    reads_or_refuses(lambda: read_weights(str(file), 20, selectable), errors=ValueError)
