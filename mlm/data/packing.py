"""Best-fit packing: which pieces of documents share a row.

Lengths are at most the row's, so whole groups of equal pieces are placed at once and the number
of steps depends on the row length only, not on the corpus (histogram packing, Krell et al. 2021,
arXiv 2107.02027). The plan is made once and may be kept in a cache folder.
"""

import numpy as np

# N pieces

# Raise it whenever rows or their order change, so that old plans are not read and a run that
# resumes can tell that its data order is another one.
ORDER_VERSION = 1


def best_fit(lengths: np.ndarray, capacity: int) -> np.ndarray:
    """The row of each piece, int64[N], by best-fit decreasing into rows of `capacity` slots.

    The longest piece goes first, each into the fullest row that still has space for it. Among
    pieces of one length the earlier goes first; rows are numbered as they are opened.

    Args:
      lengths: int[N], each from 1 to `capacity`.
    """
    order = np.argsort((capacity - lengths).astype(np.min_scalar_type(capacity)), kind="stable")
    counts = np.bincount(lengths, minlength=capacity + 1)
    open_rows, opened, placed = _OpenRows(capacity), 0, [order[:0]]
    for length in np.flatnonzero(counts)[::-1].tolist():
        left = int(counts[length])
        while left:
            space, group = open_rows.take(length)
            if group is None:
                space, needed = capacity, -(-left // (capacity // length))
                group, opened = np.arange(opened, opened + needed), opened + needed
            # A row that fits best after one piece fits best for the next of this length too,
            # so each row of the group takes as many as it can hold.
            each = space // length
            full, part = min(divmod(left, each), (len(group), 0))
            placed.append(np.repeat(group[: full + 1], each)[: full * each + part])
            left -= len(placed[-1])
            rest = group[full:]
            if part:
                open_rows.add(space - part * length, rest[:1])
                rest = rest[1:]
            open_rows.add(space - each * length, group[:full])
            open_rows.add(space, rest)
    rows = np.empty(len(lengths), np.int64)
    rows[order] = np.concatenate(placed)
    return rows


class _OpenRows:
    """Groups of rows by free space; bit s of `spaces` is set while a row with s free is open."""

    def __init__(self, capacity: int):
        self.groups = [[] for _ in range(capacity + 1)]
        self.spaces = 0

    def add(self, space: int, group: np.ndarray) -> None:
        if len(group):
            self.groups[space].append(group)
            self.spaces |= 1 << space

    def take(self, length: int) -> tuple[int, np.ndarray | None]:
        """A group with the smallest space that is at least `length`, or None."""
        enough = self.spaces >> length
        if not enough:
            return 0, None
        space = length + (enough & -enough).bit_length() - 1
        group = self.groups[space].pop()
        if not self.groups[space]:
            self.spaces ^= 1 << space
        return space, group
