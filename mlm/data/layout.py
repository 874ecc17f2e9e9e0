"""Where the tokens of a row come from: two layouts that answer the same question.

`Pieces` puts [CLS] piece [SEP] side by side, `Stream` cuts one endless [CLS] document [SEP] ...
every L tokens. Both describe a batch of rows as `Spans`: contiguous runs of the store's tokens.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from mlm.data.packing import best_fit

# B batch, L length, D documents, N pieces, R rows, S spans


class Spans(NamedTuple):
    """The real tokens of B rows as S runs, none of them across two documents, in row order.

    A place is a flat index into [B, L]; a source is an index into the store's token stream.
    """

    place: np.ndarray  # int64[S], of the run's first token
    source: np.ndarray  # int64[S], of the run's first token
    length: np.ndarray  # int64[S]; 0 where a row ends with [CLS] or begins with [SEP]
    cls: np.ndarray  # int64[:], the places of [CLS]
    sep: np.ndarray  # int64[:], the places of [SEP]
    filled: np.ndarray  # int64[B], slots of each row before its padding


def runs(starts: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """The ranges start, start + 1, ... of the given lengths, concatenated: int64[sum(lengths)]."""
    ends = np.cumsum(lengths)
    return np.repeat(starts - (ends - lengths), lengths) + np.arange(lengths.sum())


@dataclass(frozen=True, eq=False)
class Pieces:
    """Rows of pieces: row r holds the pieces bounds[r] to bounds[r + 1], padded at its end."""

    row_length: int
    starts: np.ndarray  # int64[N], in the store's token stream
    lengths: np.ndarray  # int32[N], real tokens, at most row_length - 2
    bounds: np.ndarray  # int64[R + 1]

    def __len__(self) -> int:
        return len(self.bounds) - 1

    def spans(self, indices: np.ndarray) -> Spans:
        counts = self.bounds[indices + 1] - self.bounds[indices]
        pieces = runs(self.bounds[indices], counts)
        length = self.lengths[pieces].astype(np.int64)
        slots = length + 2
        before = np.cumsum(slots) - slots
        first = np.cumsum(counts) - counts
        cls = before + np.repeat(np.arange(len(indices)) * self.row_length - before[first], counts)
        filled = np.add.reduceat(slots, first)
        return Spans(cls + 1, self.starts[pieces], length, cls, cls + slots - 1, filled)


def cut_pieces(doc_ends: np.ndarray, row_length: int, overlap: int = 0) -> Pieces:
    """Documents cut into pieces that leave space for [CLS] and [SEP], one piece per row.

    A piece begins with the last `overlap` tokens of the piece before it in its document.
    """
    longest = row_length - 2
    step = longest - overlap
    doc_starts = np.concatenate([[0], doc_ends[:-1]])
    counts = np.maximum(1, -(-(doc_ends - doc_starts - overlap) // step))
    within = runs(np.zeros_like(counts), counts)
    starts = np.repeat(doc_starts, counts) + within * step
    lengths = np.minimum(np.repeat(doc_ends, counts) - starts, longest).astype(np.int32)
    return Pieces(row_length, starts, lengths, np.arange(len(starts) + 1))


def pack_pieces(pieces: Pieces, parts: Sequence[int] = ()) -> tuple[Pieces, np.ndarray]:
    """The same pieces, packed best-fit with their [CLS] and [SEP] into as few rows.

    Args:
      pieces: one per row.
      parts: where the pieces of another source begin; pieces of two sources share no row.

    Returns:
      The packed rows, and int64[S + 1]: the bounds of each source's rows.
    """
    rows, opened = [], [0]
    for lengths in np.split(pieces.lengths, parts):
        rows.append(best_fit(lengths + 2, pieces.row_length) + opened[-1])
        opened.append(int(rows[-1].max(initial=opened[-1] - 1)) + 1)
    row = np.concatenate(rows)
    order = np.argsort(row, kind="stable")
    bounds = np.concatenate([[0], np.cumsum(np.bincount(row))])
    packed = Pieces(pieces.row_length, pieces.starts[order], pieces.lengths[order], bounds)
    return packed, np.array(opened)


@dataclass(frozen=True, eq=False)
class Stream:
    """Rows of one virtual stream [CLS] document [SEP] [CLS] ..., cut every `row_length` slots.

    Document d takes the virtual slots bounds[d] to bounds[d + 1]; 2 d special tokens and its
    own [CLS] stand before its tokens, which gives their place in the store.
    """

    row_length: int
    bounds: np.ndarray  # int64[D + 1]

    def __len__(self) -> int:
        return int(-(-self.bounds[-1] // self.row_length))

    def spans(self, indices: np.ndarray) -> Spans:
        begin = indices * self.row_length
        end = np.minimum(begin + self.row_length, self.bounds[-1])
        first = np.searchsorted(self.bounds, begin, side="right") - 1
        counts = np.searchsorted(self.bounds, end, side="left") - first
        document = runs(first, counts)
        row = np.repeat(np.arange(len(indices)), counts)
        cls, sep = self.bounds[document], self.bounds[document + 1] - 1
        start, stop = np.maximum(cls + 1, begin[row]), np.minimum(sep, end[row])
        shift = row * self.row_length - begin[row]
        return Spans(
            place=start + shift,
            source=start - 2 * document - 1,
            length=stop - start,
            cls=(cls + shift)[cls >= begin[row]],
            sep=(sep + shift)[sep < end[row]],
            filled=end - begin,
        )


def stream_documents(doc_ends: np.ndarray, row_length: int) -> Stream:
    """All documents as one stream; only the D + 1 bounds are held."""
    bounds = np.concatenate([[0], doc_ends]) + 2 * np.arange(len(doc_ends) + 1)
    return Stream(row_length, bounds)
