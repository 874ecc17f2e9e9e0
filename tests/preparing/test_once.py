"""Text that can be read only once is kept in files of this process, and nothing of it remains."""

import dataclasses
import io
import os
import subprocess
import sys
import threading
from collections import Counter

import pytest

from mlm.errors import ConfigError, DataError, OutputError
from mlm.preparing.documents import TextSettings, read_sides, scan
from mlm.preparing.once import spooled

SETTINGS = dict(
    document="line", heldout_fraction=0.2, tokenizer="", vocabulary_size=80, lowercase=True
)
LINES = [f"the cat {n} sees the dog {n % 7}" for n in range(40)]


@pytest.fixture
def settings(tmp_path):
    (tmp_path / "a.txt").write_text("\n".join(LINES))
    return TextSettings(corpus=str(tmp_path / "a.txt"), **SETTINGS)


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
    assert found.facts["corpus"] == "documents" and "files" not in found.facts
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
    (tmp_path / "two_texts.py").write_text("def documents():\n    yield 'one'\n    yield 'two'\n")
    monkeypatch.syspath_prepend(tmp_path)
    with spooled(
        dataclasses.replace(settings, source="two_texts:documents"), None, tmp_path
    ) as given:
        assert read(given) == ["one", "two"]
        assert scan(given).facts["corpus"] == "two_texts:documents"


def test_held_out_files_are_not_hidden_by_documents_of_their_name(settings, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "documents").write_text("held out")
    both = dataclasses.replace(settings, heldout_corpus="documents")
    with spooled(both, ["train me"], tmp_path / "cache") as given:
        sides = [(d.side, d.text) for d in read_sides(given, Counter(), {})]
    assert sides == [("heldout", "held out"), ("train", "train me")]


def test_a_named_pipe_is_read_once(settings, tmp_path):
    os.mkfifo(tmp_path / "pipe.jsonl")
    lines = "".join(f'{{"text": "line {n}"}}\n' for n in range(5))
    writer = threading.Thread(target=(tmp_path / "pipe.jsonl").write_text, args=(lines,))
    writer.start()
    piped = dataclasses.replace(settings, corpus=str(tmp_path / "pipe.jsonl"))
    with spooled(piped, None, tmp_path / "cache") as given:
        assert read(given) == read(given) == [f"line {n}" for n in range(5)]
    writer.join()


def test_errors_name_the_source_and_not_its_file(settings, tmp_path, monkeypatch):
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"one\ntw\xffo")))
    with spooled(dataclasses.replace(settings, corpus="-"), None, tmp_path / "cache") as given:
        with pytest.raises(DataError, match="^- is not UTF-8: byte 0xff in line 2"):
            scan(given)
    with spooled(settings, ["one", "t\0wo"], tmp_path / "cache") as given:
        with pytest.raises(DataError, match="^documents line 2 holds a NUL character"):
            scan(given)
    with spooled(settings, [], tmp_path / "cache") as given:
        with pytest.raises(DataError, match="corpus 'documents' has no document"):
            scan(given)


def test_what_a_killed_process_left_is_swept_and_what_a_living_one_uses_is_not(settings, tmp_path):
    code = (
        "import os, sys\nfrom pathlib import Path\nfrom mlm.preparing.once import own_folder\n"
        "with own_folder(Path(sys.argv[1])) as place:\n    os._exit(0)\n"
    )
    cache = tmp_path / "cache"
    subprocess.run([sys.executable, "-c", code, str(cache)], check=True)
    assert len(list(cache.iterdir())) == 1
    with spooled(settings, ["one"], cache) as first:
        [own] = cache.iterdir()
        with spooled(settings, ["two"], cache):
            assert len(list(cache.iterdir())) == 2 and own.exists()
        assert read(first) == ["one"]
    assert list(cache.iterdir()) == []


def test_a_cache_that_is_a_file(settings, tmp_path):
    with pytest.raises(OutputError, match="a.txt cannot be written .*data.cache_dir"):
        with spooled(settings, ["one"], tmp_path / "a.txt"):
            pass


def test_one_text_in_place_of_many(settings, tmp_path):
    with pytest.raises(DataError, match="documents is one str; give a list"):
        with spooled(settings, "one text", tmp_path):
            pass


def test_a_function_that_is_not_there(settings, tmp_path):
    with pytest.raises(ConfigError, match="data.source is 'no_such:f'"):
        with spooled(dataclasses.replace(settings, source="no_such:f"), None, tmp_path):
            pass
