"""Segments of text packed into one row: [CLS] a [SEP] b [SEP], truncated to fit.

The two ways of truncation are those of KerasHub's MultiSegmentPacker (and of tensorflow_text's
trimmers, which it calls inside tf.data); facts from keras-hub 0.32.
"""

from collections.abc import Sequence

import numpy as np

from mlm.errors import DataError
from mlm.text.tokenizer import SpecialTokens

Ids = Sequence[int]


def pack_segments(
    segments: Sequence[Sequence[Ids]],
    *,
    special: SpecialTokens,
    length: int,
    truncate: str = "round_robin",
) -> dict[str, np.ndarray]:
    """Returns `token_ids int32[B, L]` and `padding_mask bool[B, L]` (True is real).

    Args:
      segments: one or more batches of ids without [CLS] and [SEP], such as `Tokenizer.encode`
        gives; row i is made of `segments[0][i]`, `segments[1][i]` and so on.
      special: ids of [CLS], [SEP] and [PAD]; like in the original, a [PAD] that is in a segment
        counts as padding.
      length: L.
      truncate: `round_robin` gives each segment a token in turn until the row is full, so long
        segments lose first; `waterfall` fills the row from the left, so the last ones lose first.

    Raises:
      DataError: `truncate` is neither, the row is too short for the special tokens, there is no
        segment, or segments differ in how many rows they have.
    """
    take = {"round_robin": round_robin, "waterfall": waterfall}.get(truncate)
    if take is None:
        raise DataError(f"truncate={truncate!r} must be 'round_robin' or 'waterfall'")
    rows = _rows(segments)
    room = length - 1 - len(segments)
    if room < 0:
        raise DataError(
            f"rows of length={length} do not hold [CLS] and {len(segments)} [SEP]; "
            f"use {1 + len(segments)} or more"
        )
    token_ids = np.full((len(rows), length), special.pad, np.int32)
    for target, row in zip(token_ids, rows, strict=True):
        packed = [special.cls]
        for ids, size in zip(row, take([len(ids) for ids in row], room), strict=True):
            packed += [*ids[:size], special.sep]
        target[: len(packed)] = packed
    return {"token_ids": token_ids, "padding_mask": token_ids != special.pad}


def round_robin(lengths: Sequence[int], room: int) -> list[int]:
    """How much of each segment stays when they take turns, the first one first."""
    taken = [0] * len(lengths)
    while room and (hungry := [i for i, n in enumerate(lengths) if taken[i] < n]):
        turns = max(1, room // len(hungry))
        for i in hungry[:room]:
            more = min(turns, lengths[i] - taken[i])
            taken[i] += more
            room -= more
    return taken


def waterfall(lengths: Sequence[int], room: int) -> list[int]:
    """How much of each segment stays when the first takes all that it needs, then the next."""
    taken = []
    for n in lengths:
        taken.append(min(n, room))
        room -= taken[-1]
    return taken


def _rows(segments: Sequence[Sequence[Ids]]) -> list[tuple[Ids, ...]]:
    if not segments:
        raise DataError("there is no segment to pack; give at least one batch of ids")
    if len(counts := {len(batch) for batch in segments}) > 1:
        raise DataError(f"segments have {sorted(counts)} rows; each row needs all of them")
    return list(zip(*segments, strict=True))
