"""The plan of packed rows: made once per store, length and overlap, and kept in a cache folder."""

import hashlib
import os
import tempfile
import warnings
from pathlib import Path

import numpy as np

from mlm.data.layout import Pieces, cut_pieces, pack_pieces
from mlm.data.packing import ORDER_VERSION
from mlm.data.store import TokenStore


def packed_layout(
    store: TokenStore, length: int, overlap: int, borders: np.ndarray, cache_dir: str | Path | None
) -> tuple[Pieces, np.ndarray]:
    """The packed rows and the bounds of each source's: from the cache, or made and kept there.

    Args:
      borders: the first document of each source but the first, int64[S - 1].
      cache_dir: None plans anew.
    """
    if cache_dir is None:
        return _pack(store, length, overlap, borders)
    identity = [store.fingerprint, store.tokenizer_hash, store.meta["doc_ends_sha256"]]
    identity += [str(overlap), str(borders.tolist())]
    name = hashlib.sha256("\n".join(identity).encode()).hexdigest()[:16]
    file = Path(cache_dir) / f"packed-{length}-v{ORDER_VERSION}-{name}.npz"
    plan = _load_plan(file, store, length, overlap)
    if plan is None:
        plan = _pack(store, length, overlap, borders)
        _save_plan(file, *plan)
    return plan


def _pack(
    store: TokenStore, length: int, overlap: int, borders: np.ndarray
) -> tuple[Pieces, np.ndarray]:
    pieces = cut_pieces(store.doc_ends, length, overlap)
    return pack_pieces(pieces, np.searchsorted(pieces.starts, first_tokens(store, borders)))


def _load_plan(
    file: Path, store: TokenStore, length: int, overlap: int
) -> tuple[Pieces, np.ndarray] | None:
    try:
        with np.load(file) as plan:
            layout = Pieces(length, plan["starts"], plan["lengths"], plan["bounds"])
            sources = plan["sources"]
        repeated = overlap * (len(layout.starts) - store.documents)
        whole = layout.lengths.sum(dtype=np.int64) == store.token_count + repeated
        return (layout, sources) if whole and layout.bounds[-1] == len(layout.starts) else None
    except Exception:  # absent, cut short, not a zip file, another content: it is only a cache
        return None


def _save_plan(file: Path, layout: Pieces, sources: np.ndarray) -> None:
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=file.parent, prefix=".plan-") as folder:
            partial = Path(folder) / file.name
            plan = {name: getattr(layout, name) for name in ("starts", "lengths", "bounds")}
            np.savez(partial, **plan, sources=sources)
            os.replace(partial, file)
    except OSError as error:
        warnings.warn(f"the packing plan is not cached, the run goes on: {error}", stacklevel=2)


def first_tokens(store: TokenStore, documents: np.ndarray) -> np.ndarray:
    """Where these documents begin in the store's token stream."""
    return np.where(documents > 0, store.doc_ends[documents - 1], 0)
