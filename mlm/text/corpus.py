"""Where text comes from: the names in `data.corpus`, each a source of documents.

A document is the unit that is tokenized, shuffled, packed and held out for evaluation. Nothing
here knows about tokens.
"""

import hashlib
import os
import platform
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from mlm.errors import ConfigError, DataError
from mlm.text.files import Reading, find_files, open_file, read_documents
from mlm.text.python_docs import python_docs, python_docs_identity
from mlm.text.tables import DATASETS, dataset_identity, read_dataset

PYTHON_DOCS = "builtin:python_docs"
RULES = {"document": ("paragraph", "line", "file"), "on_bad_bytes": ("error", "replace")}


@dataclass(frozen=True)
class Corpus:
    """Documents in a fixed order, with what a run records about where they came from."""

    source: str
    documents: tuple[str, ...]
    fingerprint: str  # sha256 of the documents: equal exactly when they are
    origin: dict  # facts for people: files or Python version, number of documents, characters


def corpus_names(corpus: str) -> list[str]:
    """The sources that a corpus names, between commas.

    Raises:
      DataError: it names none.
    """
    names = [name.strip() for name in corpus.split(",") if name.strip()]
    if not names:
        raise DataError(f"corpus {corpus!r} names no file; give a .txt file, a folder or a glob")
    return names


def read_corpus(corpus: str, reading: Reading | None = None) -> Corpus:
    """All documents of `corpus` at once, for text that fits into memory: see `stream_source`."""
    counts, origin = Counter(), {}
    documents = tuple(
        text
        for name in corpus_names(corpus)
        for text in stream_source(name, reading or Reading(), counts, origin)
    )
    if not documents:
        raise no_document(corpus)
    origin |= {"documents": len(documents), "characters": sum(map(len, documents))}
    origin |= {"replaced_characters": counts["replaced"]}
    return Corpus(corpus, documents, _fingerprint(documents), origin)


def stream_source(name: str, reading: Reading, counts: Counter, origin: dict) -> Iterator[str]:
    """The documents of one source: a file, folder or glob of text, a dataset, or the builtin.

    `reading` says what a document is and what happens to bytes that are no text; the builtin has
    its own documents. Lines end with \\n or \\r\\n; a byte order mark is dropped, and so is white
    space around a document.

    Args:
      name: `builtin:python_docs`, `datasets:NAME` (see `mlm.text.tables`) or files.
      reading: see `Reading`.
      counts: `counts["replaced"]` grows by the characters that stand for bytes that are no text.
      origin: grows by facts for people: files and their sizes, or the Python version.

    Raises:
      DataError: for a file that is missing, damaged or not text, and for an unknown builtin.
      ConfigError: for an unknown rule.
    """
    _check_rules(reading)
    if _is_builtin(name):
        origin |= {
            "python": platform.python_version(),
            "implementation": sys.implementation.name,
        }
        yield from python_docs()
    elif name.startswith(DATASETS):
        yield from read_dataset(name, reading, counts, origin)
    else:
        yield from _read_files(find_files(name), reading, counts, origin)


def no_document(corpus: str) -> DataError:
    """The complaint about a corpus that holds no text."""
    return DataError(
        f"corpus {corpus!r} has no document, only white space; write text into it or set "
        f"data.corpus to another file or to {PYTHON_DOCS}"
    )


def source_identity(name: str, reading: Reading | None = None) -> str:
    """A short string that changes whenever `stream_source` may return something else.

    Reads the bytes of files but makes no documents of them, so that a token store can be found
    again quickly. Raises what `stream_source` raises for files that cannot be read.
    """
    reading = reading or Reading()
    _check_rules(reading)
    if _is_builtin(name):
        return python_docs_identity()
    if name.startswith(DATASETS):
        return f"{reading.field} {dataset_identity(name)}"
    digest = hashlib.sha256()
    for path in find_files(name):
        with open_file(path) as content:
            digest.update(hashlib.file_digest(content, "sha256").digest())
        digest.update("".join(path.suffixes[-2:]).encode())  # the same bytes, read as JSON or text
    rules = f"{reading.document} {reading.field} {reading.on_bad_bytes}"
    return f"{rules} sha256:{digest.hexdigest()}"


def is_held_out(text: str, fraction: float) -> bool:
    """Returns whether a document belongs to the evaluation set that holds `fraction` of them.

    Depends on the text alone: documents that are added later move none between the sets, exact
    duplicates stay on one side, and a larger fraction keeps what a smaller one held out.
    """
    if not 0 <= fraction <= 1:
        raise ConfigError(
            f"the held-out fraction is {fraction}; it must lie between 0 and 1, for example 0.02"
        )
    digest = hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest, "big") < fraction * 2**64


def _check_rules(reading: Reading) -> None:
    for name, choices in RULES.items():
        if getattr(reading, name) not in choices:
            raise ConfigError(
                f"{name} is {getattr(reading, name)!r}; choose one of {', '.join(choices)}"
            )


def _is_builtin(name: str) -> bool:
    if name.startswith("builtin:") and name != PYTHON_DOCS:
        raise DataError(
            f"there is no corpus {name!r}; the known one is {PYTHON_DOCS}, or name text files"
        )
    return name == PYTHON_DOCS


def _read_files(
    paths: Sequence[Path], reading: Reading, counts: Counter, origin: dict
) -> Iterator[str]:
    files = origin.setdefault("files", [])
    for path in paths:
        before = _state(path)
        yield from read_documents(path, reading, counts)
        if _state(path) != before:
            raise DataError(f"{path} changed while it was read; start again when it is complete")
        files.append({"path": str(path), "bytes": before[0]})


def _state(path: Path) -> tuple[int, int]:
    with open_file(path) as file:
        status = os.fstat(file.fileno())
    return status.st_size, status.st_mtime_ns


def _fingerprint(documents: Sequence[str]) -> str:
    digest = hashlib.sha256()
    for text in documents:
        add_to_fingerprint(digest, text)
    return digest.hexdigest()


def add_to_fingerprint(digest, text: str) -> None:
    """Feeds a hash with one document and its length, which tells ["ab", "c"] from ["a", "bc"]."""
    content = text.encode()
    digest.update(b"%d:" % len(content))
    digest.update(content)
