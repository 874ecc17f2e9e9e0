"""Files of every kind that is read, and a line on every one that cannot be."""

import gzip
import json
import os
from collections import Counter

import pytest

from mlm.errors import DataError
from mlm.text.files import Reading, find_files, read_documents, zstd

REPLACE = Reading(on_bad_bytes="replace")


@pytest.fixture
def write(tmp_path):
    def write(name, content):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return write


def read(path, reading=None):
    return list(read_documents(path, reading or Reading(), Counter()))


def error_of(path, reading=None):
    with pytest.raises(DataError) as caught:
        read(path, reading)
    message = str(caught.value)
    assert "\n" not in message and str(path) in message
    return message


def jsonl(*records):
    return "\n".join(json.dumps(record) for record in records)


# Which files.


def test_a_folder_stands_for_the_text_in_it(write, tmp_path):
    names = ["a.txt", "b/c.jsonl", "b/d.txt.gz", "e.jsonl.zst", "f.parquet"]
    for name in [*names, ".hidden.txt", "notes.md", "data.json", "b/.cache"]:
        write(name, "x")
    assert find_files(str(tmp_path)) == [tmp_path / name for name in names]


def test_globs_match_in_order_at_any_depth(write, tmp_path):
    paths = [write(name, "x") for name in ("1.txt", "2.txt", "3.text", "in/4.txt")]
    assert find_files(f"{tmp_path}/*.txt") == paths[:2]
    assert find_files(f"{tmp_path}/**/*.txt") == [*paths[:2], paths[3]]


def test_a_name_with_brackets_is_a_file_where_there_is_one(write):
    path = write("reviews [1].txt", "x")
    assert find_files(str(path)) == [path]


def test_the_home_folder(write, tmp_path, monkeypatch):
    path = write("a.txt", "x")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert find_files("~/a.txt") == find_files("~/*.txt") == [path]


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("*.txt", "no file matches .*; correct the pattern"),
        ("empty", "empty is a folder without any .txt, .jsonl or .parquet file"),
        ("book.pdf", "book.pdf is not text by its name; give .txt or .jsonl"),
        ("array.json", "array.json is not text by its name"),
    ],
)
def test_names_that_lead_to_no_text(name, words, tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=words):
        find_files(str(tmp_path / name))


# What is in them.


def test_paragraphs_lines_and_whole_files(write):
    path = write("a.txt", "\n \none\ntwo\n\n \t\nthree \n\n")
    assert read(path) == ["one\ntwo", "three"]
    assert read(path, Reading(document="line")) == ["one", "two", "three"]
    assert read(path, Reading(document="file")) == ["one\ntwo\n\n \t\nthree"]


@pytest.mark.parametrize(("suffix", "compress"), [(".gz", gzip.compress), (".zst", zstd.compress)])
def test_compressed_files(write, suffix, compress):
    text = "\ufeffé one\r\n\r\ntwo"
    assert read(write(f"a.txt{suffix}", compress(text.encode()))) == ["é one", "two"]
    records = jsonl({"text": "one"}, {"text": "two"})
    assert read(write(f"a.jsonl{suffix}", compress(records.encode()))) == ["one", "two"]


@pytest.mark.parametrize(("suffix", "compress"), [(".gz", gzip.compress), (".zst", zstd.compress)])
def test_damaged_compressed_files(write, suffix, compress):
    whole = compress(b"".join(b"line %d\n" % n for n in range(20_000)))
    assert "is damaged after line" in error_of(write(f"cut.txt{suffix}", whole[:-9]))
    assert "is damaged after line 0" in error_of(write(f"other.txt{suffix}", b"plain text"))
    flipped = bytearray(whole)
    flipped[len(whole) // 2] ^= 1
    assert "is damaged after line" in error_of(write(f"flipped.txt{suffix}", bytes(flipped)))


def test_json_lines(write):
    path = write("a.jsonl", jsonl({"text": " one\n\ntwo ", "id": 1}, {"text": ""}) + "\n\n")
    assert read(path) == ["one\n\ntwo"]  # a document each, whatever the rule for text says
    titles = Reading(field="title", document="line")
    assert read(write("b.jsonl", jsonl({"title": "é"})), titles) == ["é"]


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ('{"text": ', "line 2 is not JSON: Expecting value (column 10)"),
        ("[1, 2]", "line 2 is not a JSON object but list"),
        ('{"title": "b", "id": 1}', "no text in the field 'text' (it has id, title)"),
        ('{"text": 3}', "line 2 has no text in the field 'text' but int"),
        ("{}", "(it has no fields); name another with data.field"),
        ("[" * 100_000, "line 2 is not JSON"),
    ],
)
def test_json_lines_that_cannot_be_read(write, line, words):
    assert words in error_of(write("a.jsonl", jsonl({"text": "a"}) + "\n" + line))


def test_half_a_character_in_json(write):
    path = write("a.jsonl", r'{"text": "a \ud83d b \ud83d\ude00"}')
    assert "line 1 holds a lone surrogate" in error_of(path)
    counts = Counter()
    assert list(read_documents(path, REPLACE, counts)) == ["a \ufffd b 😀"]
    assert counts["replaced"] == 1


@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
def test_bytes_that_are_not_utf8(write, mark):
    path = write("latin.txt", mark + b"one\ntwo\ncaf\xe9 \xef\xbf\xbd\n")
    message = error_of(path)
    assert "latin.txt is not UTF-8: byte 0xe9 in line 3" in message and "iconv" in message
    counts = Counter()
    assert list(read_documents(path, REPLACE, counts)) == ["one\ntwo\ncaf\ufffd \ufffd"]
    assert counts["replaced"] == 1  # the other one was there before


def test_zero_bytes(write):
    path = write("utf16.txt", "one\n".encode("utf-16-le"))
    message = error_of(path)
    assert "has a NUL byte in line 1; is it text? iconv -f utf-16" in message
    assert read(path, REPLACE)[0].startswith("o\ufffdn\ufffd")


@pytest.mark.parametrize(
    ("beginning", "words"),
    [
        (gzip.compress(b"text"), "gzip; name it .txt.gz"),
        (zstd.compress(b"text"), "zstd; name it .txt.zst"),
        (b"PAR1....PAR1", "parquet; name it .parquet"),
        ("text".encode("utf-16"), "UTF-16; convert it with iconv -f utf-16 -t utf-8"),
    ],
    ids=["gzip", "zstd", "parquet", "utf-16"],
)
def test_a_file_that_is_something_else_by_its_first_bytes(write, beginning, words):
    message = error_of(write("a.txt", beginning))
    assert f"is no text but, by its first bytes, {words}" in message


def test_other_names_of_json_lines(write):
    for name in ("a.JSONL", "a.ndjson", "a.jl", "a.JSONL.GZ"):
        content = jsonl({"text": name}).encode()
        path = write(name, gzip.compress(content) if name.endswith("GZ") else content)
        assert read(path) == [name]


def test_what_is_hidden_in_a_folder_is_not_its_text(write, tmp_path):
    path = write("in/a.TXT", "x")
    write("in/.git/b.txt", "x")
    write("in/.checkpoints/a-checkpoint.txt", "x")
    assert find_files(str(tmp_path / "in")) == [path]


def test_a_folder_that_may_not_be_entered_is_not_passed_over(write, tmp_path, monkeypatch):
    write("in/a.txt", "x")
    write("in/closed/b.txt", "x")
    real = os.scandir

    def scandir(path):
        if str(path).endswith("closed"):
            raise PermissionError(13, "Permission denied", str(path))
        return real(path)

    monkeypatch.setattr(os, "scandir", scandir)
    with pytest.raises(DataError, match="in cannot be read: Permission denied"):
        find_files(str(tmp_path / "in"))


def test_a_saved_dataset_without_its_prefix(write, tmp_path):
    write("saved/state.json", "{}")
    with pytest.raises(DataError, match=f"did you mean datasets:{tmp_path}/saved"):
        find_files(str(tmp_path / "saved"))


def test_a_name_that_is_too_long():
    with pytest.raises(DataError, match="^corpus x+ cannot be read: File name too long"):
        find_files("x" * 300)


def test_a_line_or_a_document_without_end_does_not_fill_the_memory(write, monkeypatch):
    monkeypatch.setattr("mlm.text.files.LONGEST_LINE", 100)
    path = write("a.txt.gz", gzip.compress(b"a\n" + b"a" * 10_000_000))
    assert "has a line of 0 MiB or more" in error_of(path)
    assert read(write("b.txt", "a" * 99)) == ["a" * 99]
    monkeypatch.setattr("mlm.text.files.LONGEST_DOCUMENT", 1000)
    path = write("b.txt.gz", gzip.compress(b"a\n" * 200_000))
    assert "has a document of 0 MiB or more" in error_of(path)
    assert len(read(path, Reading("line"))) == 200_000
    assert len(read(write("c.txt", "a\n\n" * 100))) == 100
