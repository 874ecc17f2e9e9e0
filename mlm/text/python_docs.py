"""English prose that needs no download: the documentation inside every Python installation.

The language reference that `help("assert")` shows and the docstrings of the standard library
make about two megabytes of technical English, enough to watch a small model learn. The text
belongs to the Python that runs: another version has a slightly different one.
"""

import ast
import os
import sys
import sysconfig
import warnings
from collections.abc import Iterator
from pathlib import Path

from mlm.errors import DataError

# Installed packages and tests (whose files exist on some installations only) are left out.
LEFT_OUT_FOLDERS = {"site-packages", "dist-packages", "test", "tests", "idle_test"}

# A whole Python has about two million characters. Embedded and minimal builds ship without help
# topics or without sources, and the few docstrings that remain would train nothing.
FEWEST_CHARACTERS = 500_000


def python_docs() -> list[str]:
    """Returns one document per help topic, then one per docstring of the standard library.

    The order is fixed: topics as Python lists them, then files by path and, within a file,
    the docstrings of the module, its classes and functions from top to bottom. Files are
    parsed, never imported; those that do not parse are skipped. Takes about two seconds.

    Raises DataError when this Python comes without its documentation.
    """
    topics = _topics()
    if not topics:
        raise _missing("the module pydoc_data.topics is missing")
    docstrings = list(_docstrings(Path(sysconfig.get_path("stdlib"))))
    found = sum(map(len, topics + docstrings))
    if found < FEWEST_CHARACTERS:
        raise _missing(
            f"the sources of its standard library are missing (found {found} characters of at "
            f"least {FEWEST_CHARACTERS})"
        )
    return topics + docstrings


def python_docs_identity() -> str:
    """Returns a name for the text of `python_docs` that costs no reading: a cache key."""
    version = " ".join(sys.version.split())  # some builds break the line in it
    return f"builtin:python_docs of {sys.implementation.name} {version}"


def _missing(what: str) -> DataError:
    return DataError(
        f"builtin:python_docs cannot be read from {sys.executable}: {what}; use a Python from "
        "python.org or a distribution with the full standard library, or set data.corpus to a "
        ".txt file"
    )


def _topics() -> list[str]:
    try:
        from pydoc_data.topics import topics
    except ImportError:
        return []
    return [text.strip() for text in topics.values() if text.strip()]


def _docstrings(folder: Path) -> Iterator[str]:
    for path in _python_files(folder):
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # invalid escapes in other people's sources
                tree = ast.parse(path.read_bytes())
        except (SyntaxError, ValueError, OSError):
            continue
        yield from _docstrings_below(tree)


def _python_files(folder: Path) -> list[Path]:
    found = []
    for parent, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if name not in LEFT_OUT_FOLDERS]
        found += [Path(parent, name) for name in files if name.endswith(".py")]
    return sorted(found)


def _docstrings_below(node: ast.Module | ast.ClassDef | ast.FunctionDef) -> Iterator[str]:
    # Only bodies are entered: walking every expression takes ten times as long for 1% more text.
    if text := ast.get_docstring(node):
        # A lone surrogate ("\ud800" in a docstring) is not text that UTF-8 can hold.
        yield text.encode("utf-8", "replace").decode("utf-8")
    for child in node.body:
        if isinstance(child, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            yield from _docstrings_below(child)
