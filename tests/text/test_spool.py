"""Text that comes once is kept in a file, and code that is not ours may fail in any way."""

import io
import json

import pytest

from mlm.errors import ConfigError, DataError
from mlm.text.spool import call_source, is_standard_input, spool_documents, spool_pipe


def pipe(monkeypatch, content):
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(content)))


@pytest.mark.parametrize(
    ("name", "file"), [("-", "pipe.txt"), ("-.jsonl", "pipe.jsonl"), ("-.txt.gz", "pipe.txt.gz")]
)
def test_standard_input_byte_by_byte(name, file, tmp_path, monkeypatch):
    pipe(monkeypatch, b"caf\xe9\r\n\0")
    assert is_standard_input(name)
    path = spool_pipe(name, tmp_path)
    assert path == tmp_path / file and path.read_bytes() == b"caf\xe9\r\n\0"


@pytest.mark.parametrize("name", ["a.txt", "-a.txt", "./-", "-./x", "-.", "builtin:python_docs"])
def test_other_names_are_files(name):
    assert not is_standard_input(name)


def test_a_terminal_has_nothing_to_read(tmp_path, monkeypatch):
    pipe(monkeypatch, b"")
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    with pytest.raises(DataError, match="nothing is piped into it; write for example cat"):
        spool_pipe("-", tmp_path)


def test_an_empty_pipe(tmp_path, monkeypatch):
    pipe(monkeypatch, b"")
    with pytest.raises(DataError, match="corpus '-' is a pipe, and nothing came out of it"):
        spool_pipe("-", tmp_path)


def test_documents_are_read_one_at_a_time(tmp_path):
    asked = []

    def documents():
        for text in ("one", "two\nlines", "é\ud800"):
            asked.append(text)
            yield text

    path = spool_documents(documents(), "mine", "body", tmp_path)
    assert [json.loads(line)["body"] for line in path.read_text().splitlines()] == asked


@pytest.mark.parametrize("wrong", [b"bytes", {"text": "a"}, None, 3])
def test_a_document_that_is_no_text(wrong, tmp_path):
    with pytest.raises(DataError, match="^document 1 of mine is .*; give each document as a str"):
        spool_documents(["one", wrong], "mine", "text", tmp_path)


def test_a_source_that_fails_on_the_way(tmp_path):
    def documents():
        yield "one"
        raise KeyError("title")

    with pytest.raises(DataError, match="mine failed at document 1: KeyError: 'title'"):
        spool_documents(documents(), "mine", "text", tmp_path)


@pytest.fixture
def module(tmp_path, monkeypatch):
    """A module of this name in the current folder."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "sources_of_mine.py").write_text(
        "texts = ['one', 'two']\n"
        "def listed(): return texts\n"
        "def yielded(): yield from texts\n"
        "def failing(): raise OSError('no database')\n"
        "def needy(table): return []\n"
    )
    return "sources_of_mine"


@pytest.mark.parametrize("function", ["listed", "yielded"])
def test_a_function_is_called(module, function):
    assert list(call_source(f"{module}:{function}")) == ["one", "two"]


@pytest.mark.parametrize("name", ["documents", "mine:", ":documents"])
def test_a_name_without_module_or_function(name):
    with pytest.raises(ConfigError, match="write module:function, such as mine:documents"):
        call_source(name)


def test_a_function_that_is_not_there_or_fails(module):
    with pytest.raises(
        ConfigError,
        match="data.source is 'nowhere:f': ModuleNotFoundError: No module named 'nowhere'",
    ):
        call_source("nowhere:f")
    with pytest.raises(ConfigError, match="has no attribute 'gone'"):
        call_source(f"{module}:gone")
    with pytest.raises(DataError, match="failing failed: OSError: no database; it takes no"):
        call_source(f"{module}:failing")
    with pytest.raises(DataError, match="needy failed: TypeError"):
        call_source(f"{module}:needy")
    with pytest.raises(ConfigError, match="TypeError: texts is list; name a function"):
        call_source(f"{module}:texts")


@pytest.mark.parametrize(
    "number, content",
    [
        (0, "def documents(:"),
        (1, "raise RuntimeError('two\\nlines')"),
        (2, "import sys; sys.exit(3)"),
    ],
)
def test_a_module_that_cannot_be_imported(number, content, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / f"broken_{number}.py").write_text(content)
    with pytest.raises(ConfigError, match=f"data.source is 'broken_{number}:f': ") as caught:
        call_source(f"broken_{number}:f")
    assert "\n" not in str(caught.value)


def test_a_function_that_returns_one_text(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "one_text.py").write_text("def documents(): return 'one text'\n")
    with pytest.raises(DataError, match="one_text:documents failed: TypeError: it returns one str"):
        call_source("one_text:documents")


def test_a_relative_module():
    with pytest.raises(ConfigError, match="data.source is '.mine:f': TypeError"):
        call_source(".mine:f")
