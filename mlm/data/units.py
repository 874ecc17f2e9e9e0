"""Where units begin: one bit for each token of a store, in a folder of its own.

A unit is what is masked together: a collocation, a name, a phrase. The folder holds `units.bin`
(bit t of the store's token t, eight to a byte, the lowest first) and `units.json`, which says what
store it belongs to. It is written once and memory-mapped afterwards.
"""

import json
import os
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mlm.data.store import TokenStore, sha256
from mlm.errors import DataError, OutputError
from mlm.json_text import parse_json
from mlm.whole_file import write_whole

# T tokens, N any number

FORMAT_VERSION = 1
PIECE = 1 << 22  # tokens written at a time; a multiple of 8
_META_FIELDS = {
    "tokens": int,
    "units": int,
    "name": str,
    "settings": dict,
    "tokens_sha256": str,
    "units_sha256": str,
}


@dataclass(frozen=True, eq=False)
class Units:
    """An open bitmap of unit starts: `bits` uint8[ceil(T / 8)], mapped."""

    path: Path
    bits: np.memmap
    meta: dict

    def at(self, places: np.ndarray) -> np.ndarray:
        """bool[N]: whether a unit begins at these tokens of the store, int64[N]."""
        return (self.bits[places >> 3] >> (places & 7).astype(np.uint8)) & 1 == 1


def save_units(
    store: TokenStore,
    starts: np.ndarray | Iterable[np.ndarray],
    folder: str | Path,
    *,
    name: str = "own",
    settings: dict | None = None,
) -> None:
    """Writes where units begin in a store, so that `open_units` and masking.unit=external read it.

    For a run, `folder` is `train` or `heldout` of the folder that masking.units names. It appears
    whole or not at all.

    Args:
      store: whose tokens the units are made of.
      starts: bool[T], True at the first token of each unit; or arrays of bool that make it up, one
        after another, for stores that are too large to hold it. A unit is cut anyway where a row or
        a document begins.
      folder: must not exist.
      name: what the units are called.
      settings: what they were made with, for people to read; JSON.

    Raises:
      DataError: `starts` is of another type or size, or `folder` exists.
      OutputError: it cannot be written.
    """
    folder = Path(folder)
    if folder.exists():
        raise DataError(f"{folder} exists already; remove it or choose another folder for units")
    pieces = [starts] if isinstance(starts, np.ndarray) else starts
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}-") as place:
            partial = Path(place) / folder.name
            partial.mkdir()
            units = _write_bits(partial / "units.bin", _checked(pieces, store))
            meta = _meta(store, partial / "units.bin", units, name, settings or {})
            write_whole(partial / "units.json", json.dumps(meta, indent=2) + "\n")
            os.rename(partial, folder)
    except OSError as error:
        raise OutputError(
            f"the units {folder} cannot be written ({error.strerror}); free some space or choose "
            "another folder"
        ) from error


def open_units(folder: str | Path, store: TokenStore) -> Units:
    """The bitmap in `folder`, if it is of this store and whole.

    Raises:
      DataError: there is none, it is damaged, or it belongs to another store.
    """
    folder = Path(folder)
    meta = _read_meta(folder / "units.json")
    check_same_store(folder, meta, store)
    file = folder / "units.bin"
    try:
        found, size = sha256(file), file.stat().st_size
    except OSError as error:
        raise _damaged(file, error.strerror) from error
    if size != -(-store.token_count // 8) or found != meta["units_sha256"]:
        raise _damaged(file, f"sha256 {found[:12]}, units.json says {meta['units_sha256'][:12]}")
    return Units(folder, np.memmap(file, np.uint8, mode="r"), meta)


def check_same_store(folder: Path, meta: dict, store: TokenStore) -> None:
    """Raises DataError unless a bitmap with this `units.json` belongs to the store."""
    own, others = meta["tokens_sha256"], store.meta["tokens_sha256"]
    if own != others or meta["tokens"] != store.token_count:
        raise DataError(
            f"the units {folder} are of a store with tokens {own[:12]} ({meta['tokens']:,}), not "
            f"of {store.path} with {others[:12]} ({store.token_count:,}); make them for this store "
            "with mlm.data.save_units, or name the data.store that they were made for"
        )


def _checked(pieces: Iterable[np.ndarray], store: TokenStore) -> Iterator[np.ndarray]:
    total = 0
    for piece in pieces:
        if not isinstance(piece, np.ndarray) or piece.dtype != bool or piece.ndim != 1:
            found = getattr(piece, "dtype", type(piece).__name__)
            raise DataError(f"unit starts are {found}{list(np.shape(piece))}; give bool[T]")
        total += len(piece)
        if total <= store.token_count:
            yield piece
    if total != store.token_count:
        raise DataError(
            f"there are {total:,} unit starts for the {store.token_count:,} tokens of "
            f"{store.path}; give one for each token"
        )


def _write_bits(file: Path, pieces: Iterable[np.ndarray]) -> int:
    """Packs the pieces one behind the other; the number of units."""
    units, rest = 0, np.zeros(0, bool)
    with file.open("wb") as stream:
        for piece in pieces:
            units += int(np.count_nonzero(piece))
            for begin in range(0, len(piece), PIECE):
                rest = np.concatenate([rest, piece[begin : begin + PIECE]])
                whole = len(rest) // 8 * 8
                stream.write(np.packbits(rest[:whole], bitorder="little").tobytes())
                rest = rest[whole:]
        stream.write(np.packbits(rest, bitorder="little").tobytes())
        stream.flush()
        os.fsync(stream.fileno())
    return units


def _meta(store: TokenStore, file: Path, units: int, name: str, settings: dict) -> dict:
    return {
        "format_version": FORMAT_VERSION,
        "name": name,
        "tokens": store.token_count,
        "units": units,
        "tokens_sha256": store.meta["tokens_sha256"],
        "units_sha256": sha256(file),
        "settings": settings,
    }


def _read_meta(file: Path) -> dict:
    try:
        meta = parse_json(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise DataError(
            f"no units at {file.parent} ({error.strerror}: units.json); write them with "
            "mlm.data.save_units, into train and heldout of the folder that masking.units names"
        ) from error
    except ValueError as error:
        raise _damaged(file, f"not JSON: {error}") from error
    version = meta.get("format_version") if isinstance(meta, dict) else None
    if version != FORMAT_VERSION:
        raise DataError(
            f"{file} has format version {version!r}, this version of mlm reads {FORMAT_VERSION}; "
            "make the units again"
        )
    if wrong := [
        name for name, kind in _META_FIELDS.items() if not isinstance(meta.get(name), kind)
    ]:
        raise _damaged(file, f"no valid {', '.join(wrong)}")
    return meta


def _damaged(file: Path, finding: str) -> DataError:
    return DataError(
        f"{file} is damaged ({finding}); remove the folder {file.parent} and make the units again"
    )
