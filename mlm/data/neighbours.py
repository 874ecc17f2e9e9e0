"""Where the text of a piece goes on: the pieces before and after it in its document."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from mlm.data.layout import Pieces, runs
from mlm.data.rows import Rows
from mlm.errors import ConfigError

# N pieces


class Neighbours(NamedTuple):
    """The N pieces of some rows, in order, each int64[N]; -1 where a document begins or ends.

    A place is (row, segment): its index and the number in `segment_ids`, which is 1 in rows of one
    document.
    """

    row: np.ndarray
    segment: np.ndarray
    before_row: np.ndarray
    before_segment: np.ndarray
    after_row: np.ndarray
    after_segment: np.ndarray


def make_neighbours(rows: Rows) -> Callable[[Sequence[int] | np.ndarray], Neighbours]:
    """`neighbours(indices)`: the pieces of these rows and where their documents go on.

    Raises:
      ConfigError: the rows are `blocks`, where row r goes on in row r + 1.
    """
    pieces = rows.layout
    if not isinstance(pieces, Pieces):
        raise ConfigError("rows of 'blocks' have no pieces; the text of row r goes on in row r + 1")
    row = np.repeat(np.arange(len(pieces)), np.diff(pieces.bounds))
    segment = 1 + np.arange(len(row)) - pieces.bounds[row]
    by_text = np.argsort(pieces.starts)  # each starts behind the one before it in its document
    document = np.searchsorted(rows.store.doc_ends, pieces.starts[by_text], side="right")
    before, after = np.full((2, len(row)), -1)
    goes_on = np.flatnonzero(document[1:] == document[:-1])
    before[by_text[goes_on + 1]] = by_text[goes_on]
    after[by_text[goes_on]] = by_text[goes_on + 1]

    def neighbours(indices: Sequence[int] | np.ndarray) -> Neighbours:
        indices = np.asarray(indices, np.int64)
        first = pieces.bounds[indices]
        chosen = runs(first, pieces.bounds[indices + 1] - first)
        places = [row[chosen], segment[chosen]]
        for other in (before[chosen], after[chosen]):
            places += [np.where(other < 0, -1, values[other]) for values in (row, segment)]
        return Neighbours(*places)

    return neighbours
