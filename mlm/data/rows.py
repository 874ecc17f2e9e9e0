"""Rows: how documents become examples of length L, cut from the token store when they are read.

A row's index in (store, mode, L) is its example id, so everything here is deterministic.
`packed` puts pieces side by side with a segment number each, `document` gives each piece a row
of its own, `blocks` cuts one continuous stream (full sentences in RoBERTa, arXiv 1907.11692).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from mlm.data.layout import Pieces, Spans, Stream, cut_pieces, runs, stream_documents
from mlm.data.plans import first_tokens, packed_layout
from mlm.data.store import TokenStore
from mlm.data.units import Units, check_same_store
from mlm.errors import ConfigError

# B batch, L length

MODES = ("packed", "document", "blocks")


class SpecialIds(Protocol):
    """The ids that rows add to the text."""

    pad: int
    cls: int
    sep: int


@dataclass(frozen=True, eq=False)
class Rows:
    """All rows of a store for one mode and length; `len(rows)` is their number.

    The rows of source s are source_bounds[s] to source_bounds[s + 1], int64[S + 1]. With `units`
    they tell where units begin.
    """

    store: TokenStore
    mode: str
    length: int
    special: SpecialIds
    layout: Pieces | Stream
    source_bounds: np.ndarray
    units: Units | None = None

    def __len__(self) -> int:
        return len(self.layout)


def make_rows(
    store: TokenStore,
    *,
    mode: str,
    length: int,
    special: SpecialIds,
    overlap: int = 0,
    by_source: bool = False,
    units: Units | None = None,
    cache_dir: str | Path | None = None,
) -> Rows:
    """The rows of `length` slots that `mode` makes of the store's documents.

    Every token of the store stands in exactly one row, but for those that overlap. Documents of
    more than `length - 2` tokens are cut into pieces by `packed` and `document`.

    Args:
      overlap: tokens at the end of a piece that begin the next one too; not for `blocks`.
      by_source: `packed` puts no documents of two sources into a row, and `source_bounds` tells
        the rows of each; of `blocks`, a row belongs to the source that it begins in.
      units: from `open_units`, of this store; rows then have `unit_starts`.
      cache_dir: where the plan of `packed` is kept between runs; None plans anew each time.

    Raises:
      DataError: the units are of another store.
      ConfigError: an unknown mode, a length below 3 (no space beside [CLS] and [SEP]), or more
        overlap than a piece has tokens.
    """
    if mode not in MODES:
        raise ConfigError(f"row mode {mode!r} is unknown; choose one of {', '.join(MODES)}")
    if length < 3:
        raise ConfigError(
            f"row length {length} has no space for a token between [CLS] and [SEP]; give 3 or more"
        )
    if overlap and (mode == "blocks" or not 0 < overlap < length - 2):
        raise ConfigError(
            f"an overlap of {overlap} tokens does not go with {mode!r} rows of {length}; choose 0 "
            f"to {length - 3}, and 'packed' or 'document' rows"
        )
    if units is not None:
        check_same_store(units.path, units.meta, store)
    borders = _borders(store) if by_source else np.array([], np.int64)
    if mode == "packed":
        layout, bounds = packed_layout(store, length, overlap, borders, cache_dir)
    elif mode == "document":
        layout = cut_pieces(store.doc_ends, length, overlap)
        bounds = np.searchsorted(layout.starts, first_tokens(store, borders))
    else:
        layout = stream_documents(store.doc_ends, length)
        bounds = -(-layout.bounds[borders] // length)
    if mode != "packed":
        bounds = np.concatenate([[0], bounds, [len(layout)]])
    return Rows(store, mode, length, special, layout, bounds, units)


def _borders(store: TokenStore) -> np.ndarray:
    """The first document of each source but the first: int64[S - 1]."""
    return np.cumsum([source["documents"] for source in store.sources], dtype=np.int64)[:-1]


def read_rows(rows: Rows, indices: Sequence[int] | np.ndarray) -> dict[str, np.ndarray]:
    """The rows with these indices as dense arrays.

    token_ids int32[B, L] and padding_mask bool[B, L] (True at tokens); `packed` adds segment_ids
    int32[B, L] (1, 2, ... per piece, 0 at padding) and position_ids int32[B, L] (from 0 in each
    piece, 0 at padding). Rows with units add unit_starts bool[B, L]: at tokens what the bitmap
    says, so a row may begin inside a unit; True at special tokens and padding, which end units.

    Raises:
      IndexError: an index outside 0 ... len(rows) - 1.
    """
    indices = _checked_indices(rows, indices)
    spans = rows.layout.spans(indices)
    shape = (len(indices), rows.length)
    token_ids = np.full(shape, rows.special.pad, np.int32)
    flat = token_ids.reshape(-1)
    flat[spans.cls], flat[spans.sep] = rows.special.cls, rows.special.sep
    places, tokens = runs(spans.place, spans.length), runs(spans.source, spans.length)
    flat[places] = rows.store.tokens[tokens]
    padding_mask = np.arange(rows.length) < spans.filled[:, None]
    batch = {"token_ids": token_ids, "padding_mask": padding_mask}
    if rows.mode == "packed":
        batch |= _segments(spans, shape)
    if rows.units is not None:
        batch["unit_starts"] = np.ones(shape, bool)
        batch["unit_starts"].reshape(-1)[places] = rows.units.at(tokens)
    return batch


def _segments(spans: Spans, shape: tuple[int, int]) -> dict[str, np.ndarray]:
    row, slots = spans.cls // shape[1], spans.length + 2
    number = 1 + np.arange(len(row)) - np.searchsorted(row, row)  # 1, 2, ... within each row
    places = runs(spans.cls, slots)
    segment_ids, position_ids = np.zeros(shape, np.int32), np.zeros(shape, np.int32)
    segment_ids.reshape(-1)[places] = np.repeat(number, slots)
    position_ids.reshape(-1)[places] = runs(np.zeros_like(slots), slots)
    return {"segment_ids": segment_ids, "position_ids": position_ids}


def locate(rows: Rows, indices: Sequence[int] | np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Which text stands where: (document int64[B, L], offset in that document int64[B, L]).

    Both are -1 at special tokens and padding.

    Raises:
      IndexError: an index outside 0 ... len(rows) - 1.
    """
    indices = _checked_indices(rows, indices)
    spans = rows.layout.spans(indices)
    doc_ends = rows.store.doc_ends
    owner = np.searchsorted(doc_ends, spans.source, side="right")
    start = np.where(owner > 0, doc_ends[owner - 1], 0)
    document, offset = np.full((2, len(indices), rows.length), -1, np.int64)
    places = runs(spans.place, spans.length)
    document.reshape(-1)[places] = np.repeat(owner, spans.length)
    offset.reshape(-1)[places] = runs(spans.source - start, spans.length)
    return document, offset


def useful_share(rows: Rows) -> float:
    """The share of all slots that holds tokens of documents, not padding, [CLS] or [SEP].

    Tokens that overlapping pieces repeat count as often as they stand there.
    """
    layout, tokens = rows.layout, rows.store.token_count
    if isinstance(layout, Pieces):
        tokens = int(layout.lengths.sum(dtype=np.int64))
    return tokens / (len(rows) * rows.length)


def _checked_indices(rows: Rows, indices: Sequence[int] | np.ndarray) -> np.ndarray:
    indices = np.asarray(indices, np.int64)
    wrong = indices[(indices < 0) | (indices >= len(rows))]
    if len(wrong):
        raise IndexError(f"row {wrong[0]} does not exist; there are {len(rows)} rows")
    return indices
