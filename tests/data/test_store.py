"""The store holds what was written, and every way it can be wrong has one line that says so."""

import json
import resource

import numpy as np
import pytest

from mlm.data import open_store, token_counts, verify_store, write_store
from mlm.errors import DataError, OutputError

LABELS = {"tokenizer_hash": "a1" * 32, "fingerprint": "f0" * 32, "source": {"text": "here"}}


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


def test_documents_are_read_one_at_a_time(make_store):
    store = make_store(iter([[3], [], [4, 5], np.array([], np.int32)]))
    assert store.doc_ends.tolist() == [1, 3]
    assert store.doc_ends.dtype == np.int64


def test_the_right_tokenizer_opens(store):
    assert open_store(store.path, tokenizer_hash="a1" * 32).documents == store.documents


def test_token_counts(make_store):
    counts = token_counts(make_store([[3, 3, 5], [3]], vocabulary_size=7))
    assert counts.tolist() == [0, 0, 0, 3, 0, 1, 0]
    assert counts.dtype == np.int64


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


def test_a_full_disk_leaves_nothing(make_store, tmp_path):
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, hard))
    try:
        with pytest.raises(OutputError, match="cannot be written"):
            make_store([range(5000)])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert list(tmp_path.iterdir()) == []


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


def test_verify_finds_one_flipped_bit(store):
    verify_store(store)
    file = store.path / "tokens.bin"
    content = bytearray(file.read_bytes())
    content[17] ^= 1
    file.write_bytes(content)
    with pytest.raises(DataError, match="tokens.bin is damaged"):
        verify_store(open_store(store.path))
