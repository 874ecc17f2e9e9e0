"""Which files a corpus names, and their documents, read line by line.

`.txt` and whatever else is plain text, `.jsonl` with a text field, either also as `.gz` or `.zst`.
Every complaint names the file and the line.
"""

import glob
import gzip
import json
import re
import sys
import zlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from mlm.errors import DataError

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

TEXT, JSONL = ".txt", ".jsonl"
COMPRESSED = {".gz": gzip.open, ".zst": zstd.open}
# Named in folders and globs by accident more often than on purpose.
NOT_TEXT = (".json", ".parquet", ".zip", ".bz2", ".xz", ".tar", ".pdf", ".docx", ".npy", ".bin")
DAMAGED = (EOFError, gzip.BadGzipFile, zlib.error, zstd.ZstdError)
LONE_SURROGATE = re.compile("[\ud800-\udfff]")
REPLACEMENT = "\N{REPLACEMENT CHARACTER}"


@dataclass(frozen=True)
class Reading:
    """How files are read.

    Attributes:
      document: of a text file, 'paragraph' (blank lines between them), 'line' or 'file'.
      field: of a `.jsonl` file, where each object holds its document.
      on_bad_bytes: 'error', or 'replace' by U+FFFD what is not text.
    """

    document: str = "paragraph"
    field: str = "text"
    on_bad_bytes: str = "error"


def find_files(source: str) -> list[Path]:
    """The files that a corpus names, in its order: paths, globs and folders between commas.

    A folder stands for the `.txt` and `.jsonl` files at any depth in it, sorted by path.

    Raises:
      DataError: for a name that leads to no file of text.
    """
    files = [path for name in source.split(",") if name.strip() for path in _expand(name.strip())]
    if not files:
        raise DataError(f"corpus {source!r} names no file; give a .txt file, a folder or a glob")
    return files


def _expand(name: str) -> list[Path]:
    path = Path(name).expanduser()
    if path.is_dir():
        found = sorted(p for p in path.rglob("*") if _is_listed(p))
        if not found:
            raise DataError(f"corpus {path} is a folder without any .txt or .jsonl file")
        return found
    if path.exists() or not glob.has_magic(name):
        if path.suffix in NOT_TEXT:
            raise DataError(
                f"corpus file {path} is not text by its name; give .txt or .jsonl files, plain or "
                "as .gz or .zst"
            )
        return [path]
    found = sorted(Path(p) for p in glob.glob(str(path), recursive=True) if Path(p).is_file())
    if not found:
        raise DataError(f"no file matches {name}; correct the pattern")
    return [path for match in found for path in _expand(str(match))]


def _is_listed(path: Path) -> bool:
    return path.is_file() and kind_of(path) in (TEXT, JSONL) and not path.name.startswith(".")


def kind_of(path: Path) -> str:
    """The suffix without that of a compression: '.jsonl' of 'reviews.jsonl.gz'."""
    return Path(path.stem).suffix if path.suffix in COMPRESSED else path.suffix


def read_documents(path: Path, reading: Reading, counts: Counter) -> Iterator[str]:
    """The documents of one file, without white space around them and never empty.

    Args:
      path: of a file from `find_files`.
      reading: what a document is.
      counts: `counts["replaced"]` grows by the characters that stand for bytes that are no text.

    Raises:
      DataError: the file is missing, damaged or no text.
    """
    lines = _lines(path, reading, counts)
    if kind_of(path) == JSONL:
        documents = (
            _field(text, reading, counts, f"{path} line {n}") for n, text in lines if text.strip()
        )
    else:
        documents = _split((text for _, text in lines), reading.document)
    for document in documents:
        if document := document.strip():
            yield document


def _split(lines: Iterator[str], rule: str) -> Iterator[str]:
    if rule == "line":
        yield from lines
        return
    block: list[str] = []
    for line in lines:
        if rule == "paragraph" and not line.strip():
            yield "\n".join(block)
            block = []
        else:
            block.append(line)
    yield "\n".join(block)


def _field(text: str, reading: Reading, counts: Counter, where: str) -> str:
    try:
        record = json.loads(text)
    except (ValueError, RecursionError) as error:
        reason = getattr(error, "msg", "nested too deeply")
        at = f" at column {error.colno}" if hasattr(error, "colno") else ""
        raise DataError(f"{where} is not JSON: {reason}{at}") from error
    if not isinstance(record, dict):
        raise DataError(f"{where} is not a JSON object but {type(record).__name__}")
    if not isinstance(document := record.get(reading.field), str):
        names = ", ".join(sorted(record)[:10])
        raise DataError(
            f"{where} has no text in the field {reading.field!r} (it has {names or 'no fields'}); "
            "name another with data.field"
        )
    return _without_surrogates(document, reading, counts, where)


def _without_surrogates(text: str, reading: Reading, counts: Counter, where: str) -> str:
    """JSON can escape half of a character, which UTF-8 cannot hold."""
    mended = LONE_SURROGATE.sub(REPLACEMENT, text)
    if mended != text and reading.on_bad_bytes == "error":
        raise DataError(f"{where} holds a lone surrogate; mend it or say data.on_bad_bytes=replace")
    counts["replaced"] += mended.count(REPLACEMENT) - text.count(REPLACEMENT)
    return mended


def _lines(path: Path, reading: Reading, counts: Counter) -> Iterator[tuple[int, str]]:
    """Numbered lines without their ends; a byte order mark is dropped."""
    number = 0
    with open_file(path) as raw:
        stream = COMPRESSED[path.suffix](raw, "rb") if path.suffix in COMPRESSED else raw
        try:
            for number, line in enumerate(stream, start=1):
                if number == 1:
                    line = line.removeprefix(b"\xef\xbb\xbf")
                line = line.removesuffix(b"\n").removesuffix(b"\r")
                yield number, _decode(line, reading, counts, path, number)
        except DAMAGED as error:
            raise DataError(
                f"{path} is damaged after line {number}: {error or type(error).__name__}; make the "
                "file again"
            ) from error


def _decode(line: bytes, reading: Reading, counts: Counter, path: Path, number: int) -> str:
    if reading.on_bad_bytes == "replace":
        text = line.decode("utf-8", "replace").replace("\0", REPLACEMENT)
        counts["replaced"] += text.count(REPLACEMENT) - line.count(REPLACEMENT.encode())
        return text
    try:
        text = line.decode("utf-8")
    except UnicodeDecodeError as error:
        raise not_utf8(path, error, number, ", or say data.on_bad_bytes=replace") from error
    if "\0" in text:
        raise DataError(
            f"{path} has a NUL byte in line {number}; is it text? iconv -f utf-16 -t utf-8 "
            "converts UTF-16, data.on_bad_bytes=replace keeps the rest"
        )
    return text


def not_utf8(path: Path, error: UnicodeDecodeError, line: int, or_else: str = "") -> DataError:
    """The complaint about a byte, which names the file and the line."""
    return DataError(
        f"{path} is not UTF-8: byte 0x{error.object[error.start]:02x} in line {line}; convert the "
        f"file first, for example with iconv -f latin1 -t utf-8{or_else}"
    )


def open_file(path: Path) -> BinaryIO:
    """The bytes of a file; raises DataError where it cannot be opened."""
    try:
        return path.open("rb")
    except FileNotFoundError as error:
        raise DataError(
            f"corpus file {path} does not exist; correct the path or use builtin:python_docs"
        ) from error
    except OSError as error:
        raise DataError(f"corpus file {path} cannot be read: {error.strerror}") from error
