"""Which files a source names, and their documents, read line by line.

`.txt` and whatever else is plain text, `.jsonl` with a text field, either also as `.gz` or `.zst`;
`.parquet` is left to `tables`. Every complaint names the file and the line.
"""

import glob
import gzip
import os
import sys
import zlib
from collections import Counter
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import BinaryIO

from mlm.errors import DataError
from mlm.json_text import parse_json
from mlm.text.reading import REPLACEMENT, Reading, record_text
from mlm.text.tables import read_parquet

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

TEXT, JSONL, PARQUET = ".txt", ".jsonl", ".parquet"
COMPRESSED = {".gz": gzip.open, ".zst": zstd.open}
# Named in folders and globs by accident more often than on purpose.
NOT_TEXT = (".json", ".zip", ".bz2", ".xz", ".tar", ".pdf", ".docx", ".npy", ".bin")
# How files begin that are something else than their name says.
BEGINNINGS = {
    b"\x1f\x8b": "gzip; name it .txt.gz or .jsonl.gz",
    b"\x28\xb5\x2f\xfd": "zstd; name it .txt.zst or .jsonl.zst",
    b"PAR1": "parquet; name it .parquet",
    b"\xff\xfe": "UTF-16; convert it with iconv -f utf-16 -t utf-8",
    b"\xfe\xff": "UTF-16; convert it with iconv -f utf-16 -t utf-8",
}
LONGEST_LINE = 1 << 30  # bytes; text8 is one line of 100 MB
LONGEST_DOCUMENT = 1 << 30  # characters, with what its lines take in memory besides
LINE_OVERHEAD = 60  # bytes
WANTED = ', each line must be an object such as {"text": "..."}'
DAMAGED = (EOFError, gzip.BadGzipFile, zlib.error, zstd.ZstdError)


def find_files(name: str) -> list[Path]:
    """The files that a path, a folder or a glob stands for, sorted by path.

    A folder stands for the `.txt`, `.jsonl` and `.parquet` files at any depth in it, also as `.gz`
    or `.zst`, without what is hidden.

    Raises:
      DataError: for a name that leads to no file of text, or where some may not be looked at.
    """
    try:
        return _find(name)
    except OSError as error:
        raise DataError(f"corpus {name:.80} cannot be read: {error.strerror}") from error


def _find(name: str) -> list[Path]:
    path = Path(name).expanduser()
    if path.is_dir():
        return _in_folder(path)
    if path.exists() or not glob.has_magic(name):
        if path.suffix.lower() in NOT_TEXT:
            raise DataError(
                f"corpus file {path} is not text by its name; give .txt or .jsonl files, plain or "
                "as .gz or .zst, or .parquet"
            )
        return [path]
    found = sorted(Path(p) for p in glob.glob(str(path), recursive=True) if Path(p).is_file())
    if not found:
        raise DataError(f"no file matches {name}; correct the pattern")
    return [path for match in found for path in _find(str(match))]


def _in_folder(folder: Path) -> list[Path]:
    def stop(error: OSError):  # rather than passing over what may not be entered
        raise error

    found = []
    for parent, folders, files in os.walk(folder, onerror=stop):
        folders[:] = [name for name in folders if not name.startswith(".")]
        found += [Path(parent, name) for name in files if not name.startswith(".")]
    listed = sorted(path for path in found if kind_of(path) in (TEXT, JSONL, PARQUET))
    if not listed:
        hint = f"; did you mean datasets:{folder}?" if (folder / "state.json").exists() else ""
        raise DataError(
            f"corpus {folder} is a folder without any .txt, .jsonl or .parquet file; put text "
            f"there, or name files or a glob{hint}"
        )
    return listed


def kind_of(path: Path) -> str:
    """What a file is by its name, without that of a compression: '.jsonl' of 'reviews.jsonl.gz'."""
    suffix = path.suffix.lower()
    suffix = Path(path.stem).suffix.lower() if suffix in COMPRESSED else suffix
    return JSONL if suffix in (".ndjson", ".jl") else suffix


def read_documents(path: Path, reading: Reading, counts: Counter) -> Iterator[str]:
    """The documents of one file, without white space around them and never empty.

    Args:
      path: of a file from `find_files`.
      reading: what a document is.
      counts: `counts["replaced"]` grows by the characters that stand for bytes that are no text.

    Raises:
      DataError: the file is missing, damaged or no text.
    """
    if kind_of(path) == PARQUET:
        documents = read_parquet(path, reading, counts)
    elif kind_of(path) == JSONL:
        documents = (
            _parse(text, reading, counts, f"{path} line {number}")
            for number, text in _lines(path, reading, counts)
            if text.strip()
        )
    else:
        lines = (text for _, text in _lines(path, reading, counts))
        documents = _split(lines, reading.document, path)
    for document in documents:
        if document := document.strip():
            yield document


def _split(lines: Iterator[str], rule: str, path: Path) -> Iterator[str]:
    if rule == "line":
        yield from lines
        return
    block: list[str] = []
    size = 0
    for line in lines:
        if rule == "paragraph" and not line.strip():
            yield "\n".join(block)
            block, size = [], 0
        else:
            block.append(line)
            size += len(line) + LINE_OVERHEAD
            if size > LONGEST_DOCUMENT:
                raise _too_long(path, "a document", LONGEST_DOCUMENT)
    yield "\n".join(block)


def _parse(text: str, reading: Reading, counts: Counter, where: str) -> str:
    try:
        record = parse_json(text)
    except ValueError as error:
        reason = getattr(error, "msg", str(error))
        at = f" (column {error.colno})" if hasattr(error, "colno") else ""
        raise DataError(f"{where} is not JSON: {reason}{at}; mend it{WANTED}") from error
    if not isinstance(record, dict):
        kind = type(record).__name__
        raise DataError(f"{where} is not a JSON object but {kind}; mend it{WANTED}")
    return record_text(record, reading, counts, where)


def _lines(path: Path, reading: Reading, counts: Counter) -> Iterator[tuple[int, str]]:
    """Numbered lines without their ends; a byte order mark is dropped."""
    number = 0
    with open_file(path) as raw:
        suffix = path.suffix.lower()
        stream = COMPRESSED[suffix](raw, "rb") if suffix in COMPRESSED else raw
        try:
            # Never more than that, as a small compressed file can hold a line without an end.
            lines = iter(partial(stream.readline, LONGEST_LINE), b"")
            for number, line in enumerate(lines, start=1):
                if len(line) == LONGEST_LINE:
                    raise _too_long(path, "a line", LONGEST_LINE)
                if number == 1:
                    _check_beginning(line, path, reading)
                    line = line.removeprefix(b"\xef\xbb\xbf")
                line = line.removesuffix(b"\n").removesuffix(b"\r")
                yield number, _decode(line, reading, counts, path, number)
        except DAMAGED as error:
            raise DataError(
                f"{path} is damaged after line {number}: {error or type(error).__name__}; make the "
                "file again"
            ) from error
        except OSError as error:
            raise DataError(
                f"{path} cannot be read after line {number}: {error.strerror}"
            ) from error


def _too_long(path: Path, what: str, limit: int) -> DataError:
    return DataError(
        f"{path} has {what} of {limit / 2**20:,.0f} MiB or more; cut it into documents, "
        "blocks of lines between blank ones, or say data.document=line"
    )


def _check_beginning(line: bytes, path: Path, reading: Reading) -> None:
    for beginning, what in BEGINNINGS.items():
        if line.startswith(beginning) and reading.on_bad_bytes == "error":
            raise DataError(f"{path} is no text but, by its first bytes, {what}")


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
