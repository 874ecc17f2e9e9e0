"""The built-in corpus is large enough, the same every time, and says what is missing."""

import sys

import pytest

from mlm.errors import DataError
from mlm.text import python_docs as module
from mlm.text.python_docs import python_docs, python_docs_identity


def test_has_megabytes_of_prose_and_the_same_every_time():
    documents = python_docs()
    assert 1_500_000 < sum(map(len, documents)) < 4_000_000
    assert documents == python_docs()
    assert all(text.strip() for text in documents)
    words = " ".join(" ".join(documents).split())
    assert "Assert statements are a convenient way to insert debugging assertions" in words
    "".join(documents).encode("utf-8")  # no lone surrogates


def test_reads_docstrings_in_source_order(monkeypatch, tmp_path):
    (tmp_path / "b.py").write_text(
        '"""Module b."""\n'
        "class C:\n"
        '    """Class C."""\n'
        "    async def f(self):\n"
        '        """Method f,\n\n        indented."""\n'
        '        x = """no docstring"""\n'
        "def g():\n"
        "    'Function g.'\n"
    )
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "latin.py").write_bytes(b'# coding: latin-1\n"""Caf\xe9."""\n')
    (tmp_path / "broken.py").write_text('"""Never closed\n')
    (tmp_path / "surrogate.py").write_text('"""Half \\ud800."""\n')
    for left_out in ("test", "idle_test", "site-packages"):
        (tmp_path / left_out).mkdir()
        (tmp_path / left_out / "x.py").write_text('"""Left out."""\n')
    monkeypatch.setattr(module.sysconfig, "get_path", lambda name: str(tmp_path))
    monkeypatch.setattr(module, "_topics", lambda: ["A topic."])
    monkeypatch.setattr(module, "FEWEST_CHARACTERS", 0)
    assert python_docs() == [
        "A topic.",
        "Café.",
        "Module b.",
        "Class C.",
        "Method f,\n\nindented.",
        "Function g.",
        "Half ?.",
    ]


def test_a_python_without_sources_says_so(monkeypatch, tmp_path):
    monkeypatch.setattr(module.sysconfig, "get_path", lambda name: str(tmp_path))
    with pytest.raises(DataError) as caught:
        python_docs()
    message = str(caught.value)
    assert "the sources of its standard library are missing" in message
    assert "500000" in message and sys.executable in message
    assert "python.org" in message and "data.corpus" in message and "\n" not in message


def test_a_python_without_topics_says_so(monkeypatch):
    monkeypatch.setitem(sys.modules, "pydoc_data.topics", None)
    with pytest.raises(DataError, match=r"pydoc_data\.topics is missing.*data\.corpus") as caught:
        python_docs()
    assert "\n" not in str(caught.value)


def test_identity_names_this_python(monkeypatch):
    identity = python_docs_identity()
    assert "\n" not in identity and sys.implementation.name in identity
    monkeypatch.setattr(sys, "version", "3.99.0 |packaged|\n[GCC]")
    assert python_docs_identity().endswith("3.99.0 |packaged| [GCC]")
    assert python_docs_identity() != identity
