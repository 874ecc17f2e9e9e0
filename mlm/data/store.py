"""The token store: a tokenized corpus as one flat stream of ids on disk.

A store is a folder with `tokens.bin` (little-endian uint16, or uint32 above 65,536 ids, without
special tokens), `doc_ends.npy` (int64[documents], exclusive ends) and `meta.json`. It is written
once (`writer`) and memory-mapped afterwards, by as many processes as like; rows of any length are
cut from it when they are read.
"""

import contextlib
import hashlib
import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from mlm.array_file import map_array
from mlm.errors import DataError
from mlm.json_text import parse_json

# D documents, T tokens, V vocabulary

FORMAT_VERSION = 2
CHUNK = 1 << 24  # tokens looked at at a time
DTYPES = {"uint16": np.dtype("<u2"), "uint32": np.dtype("<u4")}
_META_FIELDS = {
    "dtype": str,
    "tokens": int,
    "documents": int,
    "vocabulary_size": int,
    "max_id": int,
    "tokenizer_hash": str,
    "fingerprint": str,
    "source": dict,
    "sources": list,
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

    @property
    def sources(self) -> list[dict]:
        """Name, documents and tokens of each source of the text, in the order of the documents."""
        whole = {"name": "text", "documents": self.documents, "tokens": self.token_count}
        return self.meta["sources"] or [whole]

    @cached_property
    def counts(self) -> np.ndarray:
        """See `token_counts`: a pass over the whole store, made once."""
        counts = np.zeros(self.vocabulary_size, np.int64)
        for start in range(0, self.token_count, CHUNK):
            counts += np.bincount(self.tokens[start : start + CHUNK], minlength=len(counts))
        counts.flags.writeable = False
        return counts


def smallest_dtype(vocabulary_size: int) -> str:
    """The name of the dtype in which ids of a vocabulary are stored."""
    return "uint16" if vocabulary_size <= 1 << 16 else "uint32"


def sha256(path: Path) -> str:
    """The hash of a file's bytes."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def open_store(path: str | Path, *, tokenizer_hash: str | None = None) -> TokenStore:
    """The token store at `path`, memory-mapped; with `tokenizer_hash`, only if it made the store.

    Sizes and document ends are checked against the meta. All of it is read and checked once, see
    `verify_store`, and again only when its files have another size or time.

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
    if meta["dtype"] != smallest_dtype(meta["vocabulary_size"]):
        raise DataError(
            f"the token store {path} holds {meta['dtype']}, its vocabulary of "
            f"{meta['vocabulary_size']} ids needs {smallest_dtype(meta['vocabulary_size'])}; "
            "prepare the corpus again"
        )
    if wrong := _wrong_sources(meta):
        raise _damaged(path / "meta.json", wrong)
    if tokenizer_hash is not None and tokenizer_hash != meta["tokenizer_hash"]:
        raise DataError(
            f"the token store {path} was made by tokenizer {meta['tokenizer_hash'][:12]}, the one "
            f"given is {tokenizer_hash[:12]}; prepare the corpus again with this tokenizer "
            "or use the store's tokenizer.json"
        )
    tokens = _map_tokens(path / "tokens.bin", meta)
    store = TokenStore(path, tokens, _map_doc_ends(path / "doc_ends.npy", meta), meta)
    if not _is_checked(path):
        verify_store(store)
        mark_checked(path)
    return store


def _read_meta(path: Path) -> dict:
    file = path / "meta.json"
    try:
        meta = parse_json(file.read_text())
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
    if wrong or meta["dtype"] not in DTYPES:
        raise _damaged(file, f"no valid {', '.join(wrong or ['dtype'])}")
    return meta


def _wrong_sources(meta: dict) -> str:
    """What is wrong with the table of sources, or nothing."""
    kinds = {"name": str, "documents": int, "tokens": int}
    for source in meta["sources"]:
        if not isinstance(source, dict) or any(
            not isinstance(source.get(name), kind) for name, kind in kinds.items()
        ):
            return f"no valid sources: {str(source):.60}"
    for name in ("documents", "tokens"):
        total = sum(source[name] for source in meta["sources"])
        if meta["sources"] and total != meta[name]:
            return f"its sources have {total} {name} of {meta[name]}"
    return ""


def _map_tokens(file: Path, meta: dict) -> np.memmap:
    dtype = DTYPES[meta["dtype"]]
    try:
        size = file.stat().st_size if file.is_file() else None
        file.open("rb").close()
    except FileNotFoundError:
        pass
    except OSError as error:
        raise DataError(f"{file} cannot be read: {error.strerror}") from error
    if size != meta["tokens"] * dtype.itemsize:
        found = "missing" if size is None else f"{size} bytes long"
        raise _damaged(file, f"{found}, meta.json says {meta['tokens'] * dtype.itemsize} bytes")
    return np.memmap(file, dtype, mode="r")


def _map_doc_ends(file: Path, meta: dict) -> np.ndarray:
    try:
        ends = map_array(file)
    except (OSError, ValueError) as error:
        raise _damaged(file, " ".join(str(error).split())) from error
    if ends.shape != (meta["documents"],) or ends.dtype != np.int64:
        raise _damaged(
            file, f"{ends.dtype}{list(ends.shape)}, meta.json says int64[{meta['documents']}]"
        )
    if ends[0] < 1 or np.any(ends[1:] <= ends[:-1]) or ends[-1] != meta["tokens"]:
        raise _damaged(file, f"document ends do not rise from 1 to {meta['tokens']}")
    return ends


def verify_store(store: TokenStore) -> None:
    """Reads the whole store and compares it with its checksums and its vocabulary.

    Raises:
      DataError: a byte has changed, or an id lies outside the vocabulary; the file is named.
    """
    _check_ids(store)
    for name, field in (("tokens.bin", "tokens_sha256"), ("doc_ends.npy", "doc_ends_sha256")):
        found, expected = sha256(store.path / name), store.meta[field]
        if found != expected:
            raise _damaged(
                store.path / name, f"sha256 {found[:12]}, meta.json says {expected[:12]}"
            )


def _check_ids(store: TokenStore) -> None:
    for start in range(0, store.token_count, CHUNK):
        wrong = np.flatnonzero(store.tokens[start : start + CHUNK] >= store.vocabulary_size)
        if len(wrong):
            at = start + int(wrong[0])
            raise _damaged(
                store.path / "tokens.bin",
                f"token {at} is id {store.tokens[at]}, the vocabulary has {store.vocabulary_size}",
            )


def mark_checked(path: Path) -> None:
    """Notes that the files of a store are whole as they lie there now."""
    with contextlib.suppress(OSError):  # where nothing can be written, they are checked each time
        (path / "checked.json").write_text(json.dumps(_states(path)))


def _is_checked(path: Path) -> bool:
    try:
        return parse_json((path / "checked.json").read_text()) == _states(path)
    except (OSError, ValueError):
        return False


def _states(path: Path) -> dict[str, list[int]]:
    """Size and times of each file; a copy that keeps its time has a new time of its inode."""
    states = {name: (path / name).stat() for name in ("tokens.bin", "doc_ends.npy", "meta.json")}
    return {
        name: [state.st_size, state.st_mtime_ns, state.st_ctime_ns]
        for name, state in states.items()
    }


def _damaged(file: Path, finding: str) -> DataError:
    return DataError(
        f"{file} is damaged ({finding}); remove the folder {file.parent.parent} and prepare the "
        "corpus again"
    )


def token_counts(store: TokenStore) -> np.ndarray:
    """How often each id occurs in the store: int64[V], the counts behind a unigram baseline."""
    return store.counts
