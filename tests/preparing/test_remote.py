"""Prepared text at a URL is copied once, checked on arrival, and read like any other."""

import fsspec
import numpy as np
import pytest

from mlm.data import verify_store
from mlm.errors import DataError
from mlm.preparing import TextSettings, local_folder, open_prepared, prepare


@pytest.fixture
def bucket(corpus_file, tmp_path):
    """(URL, what lies there): prepared text in a bucket that is this process's memory."""
    settings = TextSettings(
        corpus=str(corpus_file),
        document="paragraph",
        heldout_fraction=0.2,
        tokenizer="",
        vocabulary_size=96,
        lowercase=True,
    )
    text = prepare(settings, tmp_path / "text", cache_dir=tmp_path / "cache", say=str)
    files = fsspec.filesystem("memory")
    files.put(str(text.folder) + "/", "/bucket/mine/", recursive=True)
    yield "memory://bucket/mine", text
    files.rm("/bucket", recursive=True)


def test_a_folder_is_itself(tmp_path):
    assert local_folder(str(tmp_path), cache_dir=tmp_path / "cache") == tmp_path
    assert not (tmp_path / "cache").exists()


@pytest.mark.parametrize("end", ["", "/"])
def test_a_url_is_copied_once(bucket, tmp_path, end):
    url, text = bucket
    said, cache = [], tmp_path / "copies"
    folder = local_folder(url + end, cache_dir=cache, say=said.append)
    assert folder.parent == cache and said == [f"copying {url}{end} to {folder}"]
    copy = open_prepared(folder)
    for name, store in copy.stores.items():
        assert np.array_equal(store.tokens, text.stores[name].tokens)
        verify_store(store)
    assert local_folder(url, cache_dir=cache, say=said.append) == folder and len(said) == 1
    assert [path.name for path in cache.iterdir()] == [folder.name]


def test_what_arrives_damaged_is_refused_and_leaves_nothing(bucket, tmp_path):
    url, _ = bucket
    files = fsspec.filesystem("memory")
    content = bytearray(files.cat_file("/bucket/mine/train/tokens.bin"))
    content[100] ^= 1
    files.pipe_file("/bucket/mine/train/tokens.bin", bytes(content))
    with pytest.raises(DataError, match="train/tokens.bin is damaged"):
        local_folder(url, cache_dir=tmp_path / "copies", say=str)
    assert list((tmp_path / "copies").iterdir()) == []


def test_places_without_prepared_text(tmp_path):
    with pytest.raises(DataError, match="memory://bucket/gone holds no prepared text .tokeniz"):
        local_folder("memory://bucket/gone", cache_dir=tmp_path)
    with pytest.raises(DataError, match="data.store nowhere://a cannot be read: .*nowhere"):
        local_folder("nowhere://a", cache_dir=tmp_path)


def test_a_package_that_is_missing_is_named(tmp_path, monkeypatch):
    def missing(url):
        raise ImportError("Please install gcsfs to access Google Storage")

    monkeypatch.setattr(fsspec.core, "url_to_fs", missing)
    with pytest.raises(DataError, match="gs://a/b needs another package: Please install gcsfs"):
        local_folder("gs://a/b", cache_dir=tmp_path)
