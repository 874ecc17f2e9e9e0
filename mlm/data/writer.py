"""Writing a token store, so that a writer that was killed goes on where it stopped.

Tokens and the ends of all documents are appended to two files; after each shard both are flushed
and `journal.json` notes how many documents they hold. `meta.json` comes last: a folder without it
is no store.
"""

import json
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import BinaryIO

import numpy as np

from mlm.data.store import DTYPES, FORMAT_VERSION, mark_checked, sha256, smallest_dtype
from mlm.errors import DataError, OutputError
from mlm.json_text import parse_json
from mlm.whole_file import write_whole

SHARD = 1 << 24  # tokens after which a killed writer need not go back: some seconds of work


def write_store(
    path: str | Path,
    documents: Iterable[Sequence[int]],
    *,
    vocabulary_size: int,
    tokenizer_hash: str,
    fingerprint: str,
    source: dict,
) -> None:
    """Writes the documents as a token store at `path`, one at a time; empty ones are dropped.

    The store appears whole or not at all: it is written into a hidden folder beside `path` and
    renamed at the end. `fingerprint` names the text (a hash of it), `source` says where it is from.

    Raises:
      DataError: an id outside the vocabulary, no tokens at all, text that cannot be read, or
        something is at `path` already.
      OutputError: the folder cannot be written.
    """
    path = Path(path)
    if path.exists():
        raise DataError(f"{path} exists already; remove it or choose another folder for the store")
    labels = {"tokenizer_hash": tokenizer_hash, "fingerprint": fingerprint, "source": source}
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.name}-") as folder:
            partial = Path(folder) / path.name
            fill_store(
                partial,
                lambda done: islice(documents, done, None),
                vocabulary_size=vocabulary_size,
                labels=labels,
            )
            os.rename(partial, path)
    except OSError as error:
        raise OutputError(
            f"the token store {path} cannot be written ({error}); free space or choose another path"
        ) from error


def fill_store(
    folder: Path,
    documents_from: Callable[[int], Iterable[Sequence[int]]],
    *,
    vocabulary_size: int,
    labels: dict,
    sources: Sequence[tuple[str, int]] = (),
) -> None:
    """Writes a token store into `folder`, or goes on where another call was killed.

    Args:
      folder: made if it is not there; if it holds a whole store already, nothing is done.
      documents_from: the documents from a number on, the same ones at every call.
      vocabulary_size: ids lie below it.
      labels: of `meta.json`.
      sources: (name, number of documents) for text of several sources, in order.

    Raises:
      DataError: see `write_store`.
      OSError: the folder cannot be written.
    """
    folder.mkdir(exist_ok=True)
    if not (folder / "meta.json").exists():
        max_id = _append(folder, documents_from, vocabulary_size)
        _finish(folder, max_id, vocabulary_size, labels, sources)
    for name in ("ends.bin", "journal.json"):
        (folder / name).unlink(missing_ok=True)


def _append(folder: Path, documents_from: Callable, vocabulary_size: int) -> int:
    """All documents that are not yet in the two files; the largest id of all."""
    dtype = DTYPES[smallest_dtype(vocabulary_size)]
    read, total, max_id = _journal(folder, dtype.itemsize)
    with (
        _opened(folder / "tokens.bin", total * dtype.itemsize) as tokens,
        _opened(folder / "ends.bin", read * 8) as ends,
    ):
        noted = total
        for document in _read(documents_from(read)):
            ids = _checked_ids(document, vocabulary_size)
            tokens.write(ids.astype(dtype).tobytes())
            total += len(ids)
            ends.write(total.to_bytes(8, "little"))
            max_id = max(max_id, int(ids.max(initial=0)))
            read += 1
            if total - noted >= SHARD:
                _note(folder, (tokens, ends), {"read": read, "tokens": total, "max_id": max_id})
                noted = total
    return max_id


def _opened(file: Path, size: int) -> BinaryIO:
    """The file cut to `size` bytes, with its end as the place to write."""
    stream = open(file, "ab", buffering=1 << 20)  # noqa: SIM115 (closed by the caller)
    stream.truncate(size)
    return stream


def _journal(folder: Path, token_size: int) -> tuple[int, int, int]:
    """Documents, tokens and the largest id that are safely in the files.

    Zeros at first, and where the journal is torn or says more than the files hold.
    """
    try:
        entry = parse_json((folder / "journal.json").read_text())
        read, tokens, max_id = entry["read"], entry["tokens"], entry["max_id"]
        sizes = [(folder / name).stat().st_size for name in ("tokens.bin", "ends.bin")]
        whole = sizes[0] >= tokens * token_size and sizes[1] >= read * 8
        whole = whole and all(type(n) is int and n >= 0 for n in (read, tokens, max_id))
    except (OSError, ValueError, KeyError, TypeError):
        return 0, 0, 0
    return (read, tokens, max_id) if whole else (0, 0, 0)


def _note(folder: Path, files: Iterable[BinaryIO], entry: dict) -> None:
    for file in files:
        file.flush()
        os.fsync(file.fileno())
    write_whole(folder / "journal.json", json.dumps(entry))


def _finish(
    folder: Path,
    max_id: int,
    vocabulary_size: int,
    labels: dict,
    sources: Sequence[tuple[str, int]],
) -> None:
    """Ends of the documents that hold tokens, checksums, and the meta that makes it a store."""
    all_ends = np.fromfile(folder / "ends.bin", "<i8")
    holds_tokens = np.diff(all_ends, prepend=0) > 0
    ends = all_ends[holds_tokens]
    if not len(ends):
        raise DataError("the corpus holds no tokens; check the text files that it is made from")
    np.save(folder / "doc_ends.npy", ends.astype(np.int64))
    meta = {
        "format_version": FORMAT_VERSION,
        "dtype": smallest_dtype(vocabulary_size),
        "tokens": int(ends[-1]),
        "documents": len(ends),
        "vocabulary_size": vocabulary_size,
        "max_id": max_id,
        "sources": _source_table(sources, all_ends, holds_tokens),
        "tokens_sha256": sha256(folder / "tokens.bin"),
        "doc_ends_sha256": sha256(folder / "doc_ends.npy"),
        **labels,
    }
    write_whole(folder / "meta.json", json.dumps(meta, indent=2) + "\n")
    mark_checked(folder)


def _source_table(
    sources: Sequence[tuple[str, int]], all_ends: np.ndarray, holds_tokens: np.ndarray
) -> list[dict]:
    """Documents and tokens of each source, of which some documents may have held no tokens."""
    lengths, table, begin = np.diff(all_ends, prepend=0), [], 0
    for name, count in sources:
        part, begin = slice(begin, begin + count), begin + count
        tokens, documents = int(lengths[part].sum()), int(holds_tokens[part].sum())
        table.append({"name": name, "documents": documents, "tokens": tokens})
    return table


def _read(documents: Iterable[Sequence[int]]) -> Iterator[Sequence[int]]:
    try:
        yield from documents
    except OSError as error:  # not a fault of the store's own folder
        raise DataError(f"the corpus cannot be read ({error})") from error


def _checked_ids(document: Sequence[int], vocabulary_size: int) -> np.ndarray:
    if not len(document):
        return np.array([], np.int64)
    ids = np.asarray(document)
    if ids.dtype.kind not in "iu" or ids.ndim != 1:
        raise DataError(f"a document must be a flat sequence of integer ids, not {ids.dtype} ids")
    wrong = ids[(ids < 0) | (ids >= vocabulary_size)]
    if len(wrong):
        raise DataError(
            f"token id {wrong[0]} is outside the vocabulary of {vocabulary_size} ids; "
            "give the vocabulary size of the tokenizer that made the ids"
        )
    return ids
