"""Where text comes from: plain files or the built-in corpus, cut into documents.

A document is the unit that is tokenized, shuffled, packed and held out for evaluation. Nothing
here knows about tokens.
"""

import hashlib
import platform
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mlm.errors import ConfigError, DataError
from mlm.text.python_docs import python_docs, python_docs_identity

PYTHON_DOCS = "builtin:python_docs"
DOCUMENT_RULES = ("paragraph", "line")


@dataclass(frozen=True)
class Corpus:
    """Documents in a fixed order, with what a run records about where they came from."""

    source: str
    documents: tuple[str, ...]
    fingerprint: str  # sha256 of the documents: equal exactly when they are
    origin: dict  # facts for people: files or Python version, number of documents, characters


def read_corpus(source: str, *, document: str = "paragraph") -> Corpus:
    """Returns the documents of `source`: `builtin:python_docs`, or paths of UTF-8 text files.

    Several paths are separated by commas and read in that order. A document of a file is a block
    between blank lines (`document="paragraph"`) or one line (`document="line"`); the builtin has
    its own documents and ignores `document`. Lines end with \\n or \\r\\n; a byte order mark is
    dropped, and so is white space around a document.

    Raises DataError for a file that is missing, a folder or not UTF-8, for an unknown builtin, and
    when there is not a single document; ConfigError for an unknown `document`.
    """
    _check_rule(document)
    if _is_builtin(source):
        documents, origin = python_docs(), _python_origin()
    else:
        documents, origin = _read_files(_paths(source), document)
    if not documents:
        raise DataError(
            f"corpus {source!r} has no document, only white space; write text into it or set "
            f"data.corpus to another file or to {PYTHON_DOCS}"
        )
    origin |= {"documents": len(documents), "characters": sum(map(len, documents))}
    return Corpus(source, tuple(documents), _fingerprint(documents), origin)


def corpus_identity(source: str, *, document: str = "paragraph") -> str:
    """Returns a short string that changes whenever `read_corpus` may return something else.

    Reads the bytes of files but makes no documents of them, so that a token store can be found
    again quickly. Raises what `read_corpus` raises for files that cannot be read.
    """
    _check_rule(document)
    if _is_builtin(source):
        return python_docs_identity()
    digest = hashlib.sha256()
    for path in _paths(source):
        digest.update(hashlib.sha256(_read_bytes(path)).digest())
    return f"{document} sha256:{digest.hexdigest()}"


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


def decode_utf8(content: bytes, path: Path) -> str:
    """Returns the text of a file, without byte order mark and with \\n as its line ending.

    Raises DataError that names the file and the line which is not UTF-8.
    """
    try:
        return content.decode("utf-8-sig").replace("\r\n", "\n")
    except UnicodeDecodeError as error:
        # `error.object` has no byte order mark in front, unlike `content`.
        line = error.object.count(b"\n", 0, error.start) + 1
        byte = error.object[error.start]
        raise DataError(
            f"{path} is not UTF-8: byte 0x{byte:02x} in line {line}; convert the file first, for "
            "example with iconv -f latin1 -t utf-8"
        ) from error


def _check_rule(document: str) -> None:
    if document not in DOCUMENT_RULES:
        raise ConfigError(f"document is {document!r}; choose one of {', '.join(DOCUMENT_RULES)}")


def _is_builtin(source: str) -> bool:
    if source.startswith("builtin:") and source != PYTHON_DOCS:
        raise DataError(
            f"there is no corpus {source!r}; the known one is {PYTHON_DOCS}, or name a .txt file"
        )
    return source == PYTHON_DOCS


def _paths(source: str) -> list[Path]:
    paths = [Path(name.strip()) for name in source.split(",") if name.strip()]
    if not paths:
        raise DataError(f"corpus {source!r} names no file; give a .txt file or {PYTHON_DOCS}")
    return paths


def _read_files(paths: Sequence[Path], document: str) -> tuple[list[str], dict]:
    documents, files = [], []
    for path in paths:
        content = _read_bytes(path)
        documents += _split(decode_utf8(content, path), document)
        files.append({"path": str(path), "bytes": len(content)})
    return documents, {"files": files}


def _read_bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except IsADirectoryError as error:
        raise DataError(f"corpus {path} is a folder; name the .txt files in it") from error
    except FileNotFoundError as error:
        raise DataError(
            f"corpus file {path} does not exist; correct the path or use {PYTHON_DOCS}"
        ) from error
    except OSError as error:
        raise DataError(f"corpus file {path} cannot be read: {error.strerror}") from error


def _split(text: str, document: str) -> list[str]:
    blocks = text.split("\n") if document == "line" else re.split(r"\n\s*\n", text)
    return [block.strip() for block in blocks if block.strip()]


def _fingerprint(documents: Sequence[str]) -> str:
    digest = hashlib.sha256()
    for text in documents:
        content = text.encode("utf-8")
        digest.update(b"%d:" % len(content))  # the length tells ["ab", "c"] from ["a", "bc"]
        digest.update(content)
    return digest.hexdigest()


def _python_origin() -> dict:
    return {"python": platform.python_version(), "implementation": sys.implementation.name}
