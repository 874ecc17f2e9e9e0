"""A small file is replaced as a whole, or stays as it was."""

import os

import pytest

from mlm.whole_file import write_whole


def test_a_file_is_made_and_replaced(tmp_path):
    for text in ("first\n", "é second"):
        write_whole(tmp_path / "a.json", text)
        assert (tmp_path / "a.json").read_bytes() == text.encode()
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]


@pytest.mark.parametrize("call", ["fsync", "write"])
def test_a_failure_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch, full_disk, call):
    write_whole(tmp_path / "a.json", "old")

    def fail(descriptor):
        raise OSError(5, "Input/output error")

    if call == "fsync":
        monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError), full_disk(100):
        write_whole(tmp_path / "a.json", "new" * 1000)
    assert (tmp_path / "a.json").read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]
