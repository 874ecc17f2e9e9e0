"""The store holds what was written, and every way it can be wrong has one line that says so."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from mlm.data import open_store, token_counts, verify_store
from mlm.data import store as module
from mlm.errors import DataError


def change_meta(store, **changes):
    file = store.path / "meta.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))


def error_line(path, **options):
    with pytest.raises(DataError) as raised:
        open_store(path, **options)
    assert "\n" not in str(raised.value)
    return str(raised.value)


def test_documents_come_back(store, corpus):
    starts = [0, *store.doc_ends[:-1]]
    assert [
        store.tokens[s:e].tolist() for s, e in zip(starts, store.doc_ends, strict=True)
    ] == corpus
    assert store.documents == len(corpus)
    assert store.token_count == sum(map(len, corpus)) == len(store.tokens)
    assert store.vocabulary_size == 5000
    assert (store.tokenizer_hash, store.fingerprint) == ("a1" * 32, "f0" * 32)
    assert store.meta["source"] == {"text": "synthetic"}
    assert isinstance(store.tokens, np.memmap)


@pytest.mark.parametrize("size, dtype", [(65_536, np.uint16), (65_537, np.uint32)])
def test_dtype_follows_the_vocabulary(make_store, size, dtype):
    store = make_store([[0, size - 1]], vocabulary_size=size)
    assert store.tokens.dtype == dtype
    assert store.tokens.tolist() == [0, size - 1]


def test_the_right_tokenizer_opens(store):
    assert open_store(store.path, tokenizer_hash="a1" * 32).documents == store.documents


def test_token_counts(make_store):
    store = make_store([[3, 3, 5], [3]], vocabulary_size=7)
    counts = token_counts(store)
    assert counts.tolist() == [0, 0, 0, 3, 0, 1, 0]
    assert counts.dtype == np.int64
    assert token_counts(store) is counts and not counts.flags.writeable  # one pass, shared


def test_no_store(tmp_path):
    assert "no token store" in error_line(tmp_path / "nowhere")
    assert "no token store" in error_line(tmp_path)


@pytest.mark.parametrize("text", ["", "{", '{"format_version": 1, "tokens":', "\udcff"])
def test_meta_that_is_not_json(store, text):
    (store.path / "meta.json").write_bytes(text.encode(errors="surrogateescape"))
    assert "meta.json is damaged (not JSON" in error_line(store.path)


def test_meta_of_another_format(store):
    change_meta(store, format_version=7)
    assert "format version 7" in error_line(store.path)
    (store.path / "meta.json").write_text("[]")
    assert "format version None" in error_line(store.path)


@pytest.mark.parametrize("field", ["dtype", "tokens", "max_id", "tokenizer_hash", "source"])
def test_meta_without_a_field(store, field):
    change_meta(store, **{field: None})
    assert f"no valid {field}" in error_line(store.path)


def test_meta_with_an_unknown_dtype(store):
    change_meta(store, dtype="float32")
    assert "no valid dtype" in error_line(store.path)


def test_no_documents(store):
    change_meta(store, documents=0)
    assert "no documents" in error_line(store.path)


def test_an_id_outside_the_vocabulary(store):
    change_meta(store, vocabulary_size=100)
    line = error_line(store.path)
    assert str(store.meta["max_id"]) in line and "100 ids" in line


def test_another_tokenizer_shows_both_hashes(store):
    line = error_line(store.path, tokenizer_hash="b2" * 32)
    assert "a1a1a1a1a1a1," in line and "b2b2b2b2b2b2;" in line and "tokenizer.json" in line


@pytest.mark.parametrize("name", ["tokens.bin", "doc_ends.npy"])
@pytest.mark.parametrize("keep", [None, 0, 1, 100, -1])
def test_a_truncated_or_missing_file_is_named(store, name, keep):
    file = store.path / name
    content = file.read_bytes()
    file.unlink()
    if keep is not None:
        file.write_bytes(content[:keep])
    assert f"{name} is damaged" in error_line(store.path)


@pytest.mark.parametrize("ends", [[2, 2, 3], [3, 1, 3], [0, 1, 3], [1, 2, 4]])
def test_document_ends_must_rise_to_the_token_count(make_store, ends):
    store = make_store([[5], [6], [7]])
    np.save(store.path / "doc_ends.npy", np.array(ends, np.int64))
    assert "do not rise" in error_line(store.path)


def test_document_ends_of_another_type(make_store):
    store = make_store([[5], [6], [7]])
    np.save(store.path / "doc_ends.npy", np.array([1, 2, 3], np.int32))
    assert "int32[3], meta.json says int64[3]" in error_line(store.path)


@pytest.mark.parametrize("size, dtype", [(70_000, "uint16"), (5000, "uint32")])
def test_a_dtype_that_the_vocabulary_does_not_have(store, size, dtype):
    change_meta(store, vocabulary_size=size, dtype=dtype)
    assert f"holds {dtype}, its vocabulary of {size} ids needs uint" in error_line(store.path)


@pytest.mark.parametrize(
    ("sources", "words"),
    [
        ([{"documents": 60}], "no valid sources"),
        (["a"], "no valid sources"),
        ([{"name": "a", "documents": 59, "tokens": 1}], "its sources have 59 documents of 60"),
    ],
)
def test_sources_that_do_not_make_the_store(store, sources, words):
    change_meta(store, sources=sources)
    assert "meta.json is damaged" in error_line(store.path) and words in error_line(store.path)


def test_a_store_that_may_not_be_read(store, monkeypatch):
    real = Path.open

    def closed(path, *args, **kwargs):
        if path.name == "tokens.bin":
            raise PermissionError(13, "Permission denied", str(path))
        return real(path, *args, **kwargs)

    monkeypatch.setattr(Path, "open", closed)
    assert "tokens.bin cannot be read: Permission denied" in error_line(store.path)


# What lies on disk, read once and again when it has changed.


def flip(file, byte):
    content = bytearray(file.read_bytes())
    content[byte] ^= 1
    file.write_bytes(content)


def test_verify_finds_one_flipped_bit(store):
    verify_store(store)
    flip(store.path / "tokens.bin", 16)  # another id of the vocabulary
    with pytest.raises(DataError, match="tokens.bin is damaged .sha256"):
        verify_store(store)


@pytest.mark.parametrize("name, byte", [("tokens.bin", 16), ("doc_ends.npy", 136)])
def test_a_flipped_bit_is_found_when_the_store_is_opened(store, name, byte):
    flip(store.path / name, byte)
    assert f"{name} is damaged (sha256" in error_line(store.path)


def test_an_id_outside_the_vocabulary_is_named_with_its_place(make_store):
    store = make_store([[1, 2, 3], [4]], vocabulary_size=5)
    file = store.path / "tokens.bin"
    file.write_bytes(np.array([1, 2, 5, 4], "<u2").tobytes())
    assert "tokens.bin is damaged (token 2 is id 5, the vocabulary has 5)" in error_line(store.path)


def test_a_store_is_read_whole_only_once(store, monkeypatch):
    read = []
    monkeypatch.setattr(module, "verify_store", lambda store: read.append(store.path))
    open_store(store.path)
    assert read == []  # the writer had its checksums in hand
    os.utime(store.path / "tokens.bin")  # as a copy has another time
    open_store(store.path)
    open_store(store.path)
    assert read == [store.path]


def test_a_copy_that_keeps_its_times_is_read_too(store, tmp_path):
    copy = shutil.copytree(store.path, tmp_path / "copy")
    file, times = copy / "tokens.bin", (store.path / "tokens.bin").stat()
    flip(file, 16)
    os.utime(file, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert "tokens.bin is damaged (sha256" in error_line(copy)


def test_where_nothing_can_be_written_a_store_is_read_each_time(store, monkeypatch):
    (store.path / "checked.json").unlink()
    (store.path / "checked.json").mkdir()
    read = []
    monkeypatch.setattr(module, "verify_store", lambda store: read.append(store.path))
    assert open_store(store.path).documents == open_store(store.path).documents
    assert len(read) == 2


def test_several_processes_read_one_store(store):
    code = (
        "import sys; from mlm.data import open_store; store = open_store(sys.argv[1]);"
        "print(int(store.tokens.sum()), store.documents)"
    )
    command = [sys.executable, "-c", code, str(store.path)]
    readers = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    told = {reader.communicate(timeout=60)[0] for reader in readers}
    assert told == {f"{store.tokens.sum()} {store.documents}\n"}
