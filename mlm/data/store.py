"""The token store: a tokenized corpus as one flat stream of ids on disk.

A store is a folder with `tokens.bin` (little-endian uint16, or uint32 above 65,536 ids, without
special tokens), `doc_ends.npy` (int64[documents], exclusive ends) and `meta.json`. It is written
once and memory-mapped afterwards; rows of any length are cut from it when they are read.
"""

import array
import hashlib
import json
import os
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mlm.errors import DataError, OutputError

# D documents, T tokens, V vocabulary

FORMAT_VERSION = 1
_DTYPES = {"uint16": np.dtype("<u2"), "uint32": np.dtype("<u4")}
_META_FIELDS = {
    "dtype": str,
    "tokens": int,
    "documents": int,
    "vocabulary_size": int,
    "max_id": int,
    "tokenizer_hash": str,
    "fingerprint": str,
    "source": dict,
    "tokens_sha256": str,
    "doc_ends_sha256": str,
}


@dataclass(frozen=True, eq=False)
class TokenStore:
    """An open token store: `tokens` uint16[T] or uint32[T], `doc_ends` int64[D], both mapped."""

    path: Path
    tokens: np.memmap
    doc_ends: np.ndarray
    meta: dict

    @property
    def documents(self) -> int:
        return self.meta["documents"]

    @property
    def token_count(self) -> int:
        return self.meta["tokens"]

    @property
    def vocabulary_size(self) -> int:
        return self.meta["vocabulary_size"]

    @property
    def tokenizer_hash(self) -> str:
        return self.meta["tokenizer_hash"]

    @property
    def fingerprint(self) -> str:
        return self.meta["fingerprint"]


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
            partial.mkdir()
            contents = _write_tokens(partial, documents, vocabulary_size)
            meta = {"format_version": FORMAT_VERSION, **contents, **labels}
            (partial / "meta.json").write_text(json.dumps(meta, indent=2) + "\n")
            os.rename(partial, path)
    except OSError as error:
        raise OutputError(
            f"the token store {path} cannot be written ({error}); free space or choose another path"
        ) from error


def _write_tokens(folder: Path, documents: Iterable[Sequence[int]], vocabulary_size: int) -> dict:
    dtype = "uint16" if vocabulary_size <= 1 << 16 else "uint32"
    ends, max_id, total = array.array("q"), 0, 0
    with open(folder / "tokens.bin", "wb", buffering=1 << 20) as file:
        for document in _read(documents):
            if len(document) == 0:
                continue
            ids = _checked_ids(document, vocabulary_size)
            file.write(ids.astype(_DTYPES[dtype]).tobytes())
            max_id = max(max_id, int(ids.max()))
            total += len(ids)
            ends.append(total)
    if not ends:
        raise DataError("the corpus holds no tokens; check the text files that it is made from")
    np.save(folder / "doc_ends.npy", np.frombuffer(ends, np.int64))
    return {
        "dtype": dtype,
        "tokens": total,
        "documents": len(ends),
        "vocabulary_size": vocabulary_size,
        "max_id": max_id,
        "tokens_sha256": _sha256(folder / "tokens.bin"),
        "doc_ends_sha256": _sha256(folder / "doc_ends.npy"),
    }


def _read(documents: Iterable[Sequence[int]]) -> Iterator[Sequence[int]]:
    try:
        yield from documents
    except OSError as error:  # not a fault of the store's own folder
        raise DataError(f"the corpus cannot be read ({error})") from error


def _checked_ids(document: Sequence[int], vocabulary_size: int) -> np.ndarray:
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


def _sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def open_store(path: str | Path, *, tokenizer_hash: str | None = None) -> TokenStore:
    """The token store at `path`, memory-mapped; with `tokenizer_hash`, only if it made the store.

    Sizes and document ends are checked against the meta, contents are not: see `verify_store`.

    Raises:
      DataError: there is no store, it is damaged or of another format, or of another tokenizer.
    """
    path = Path(path)
    meta = _read_meta(path)
    if meta["documents"] < 1:
        raise DataError(f"the token store {path} holds no documents; prepare the corpus again")
    if meta["max_id"] >= meta["vocabulary_size"]:
        raise DataError(
            f"the token store {path} holds token id {meta['max_id']}, outside its vocabulary of "
            f"{meta['vocabulary_size']} ids; prepare the corpus again"
        )
    if tokenizer_hash is not None and tokenizer_hash != meta["tokenizer_hash"]:
        raise DataError(
            f"the token store {path} was made by tokenizer {meta['tokenizer_hash'][:12]}, the one "
            f"given is {tokenizer_hash[:12]}; prepare the corpus again with this tokenizer "
            "or use the store's tokenizer.json"
        )
    tokens = _map_tokens(path / "tokens.bin", meta)
    return TokenStore(path, tokens, _map_doc_ends(path / "doc_ends.npy", meta), meta)


def _read_meta(path: Path) -> dict:
    file = path / "meta.json"
    try:
        meta = json.loads(file.read_text())
    except OSError as error:
        raise DataError(
            f"no token store at {path} ({error.strerror}: meta.json); prepare the corpus first"
        ) from error
    except ValueError as error:
        raise _damaged(file, f"not JSON: {error}") from error
    version = meta.get("format_version") if isinstance(meta, dict) else None
    if version != FORMAT_VERSION:
        raise DataError(
            f"{file} has format version {version!r}, this version of mlm reads {FORMAT_VERSION}; "
            "prepare the corpus again"
        )
    wrong = [name for name, kind in _META_FIELDS.items() if not isinstance(meta.get(name), kind)]
    if wrong or meta["dtype"] not in _DTYPES:
        raise _damaged(file, f"no valid {', '.join(wrong or ['dtype'])}")
    return meta


def _map_tokens(file: Path, meta: dict) -> np.memmap:
    dtype = _DTYPES[meta["dtype"]]
    size = file.stat().st_size if file.is_file() else None
    if size != meta["tokens"] * dtype.itemsize:
        found = "missing" if size is None else f"{size} bytes long"
        raise _damaged(file, f"{found}, meta.json says {meta['tokens'] * dtype.itemsize} bytes")
    return np.memmap(file, dtype, mode="r")


def _map_doc_ends(file: Path, meta: dict) -> np.ndarray:
    try:
        ends = np.load(file, mmap_mode="r")
    except (OSError, ValueError, EOFError) as error:
        raise _damaged(file, str(error).splitlines()[0]) from error
    if ends.shape != (meta["documents"],) or ends.dtype != np.int64:
        raise _damaged(
            file, f"{ends.dtype}{list(ends.shape)}, meta.json says int64[{meta['documents']}]"
        )
    if ends[0] < 1 or np.any(ends[1:] <= ends[:-1]) or ends[-1] != meta["tokens"]:
        raise _damaged(file, f"document ends do not rise from 1 to {meta['tokens']}")
    return ends


def verify_store(store: TokenStore) -> None:
    """Reads the whole store and raises DataError, naming the file, if any byte has changed."""
    for name, field in (("tokens.bin", "tokens_sha256"), ("doc_ends.npy", "doc_ends_sha256")):
        found, expected = _sha256(store.path / name), store.meta[field]
        if found != expected:
            raise _damaged(
                store.path / name, f"sha256 {found[:12]}, meta.json says {expected[:12]}"
            )


def _damaged(file: Path, finding: str) -> DataError:
    return DataError(f"{file} is damaged ({finding}); prepare the corpus again")


def token_counts(store: TokenStore) -> np.ndarray:
    """How often each id occurs in the store: int64[V], the counts behind a unigram baseline."""
    counts, chunk = np.zeros(store.vocabulary_size, np.int64), 1 << 24
    for start in range(0, store.token_count, chunk):
        counts += np.bincount(store.tokens[start : start + chunk], minlength=len(counts))
    return counts
