"""Batch k as a pure function of (seed, k), so that a run resumes at any step without a position.

Examples are numbered through the whole run: batch k holds the examples k B ... k B + B - 1.
Example n stands at place n % rows of epoch n // rows; which row that is, and how often it has been
seen before, is for the order to say (`mixture`).
"""

from collections.abc import Callable

import numpy as np

from mlm.data.mixture import EpochOrder, make_epoch_order
from mlm.data.rows import Rows, read_rows
from mlm.errors import ConfigError, DataError

# B batch (over all processes), b of its rows

Batch = dict[str, np.ndarray]


def make_batch_at(
    rows: Rows,
    *,
    seed: int,
    batch_size: int,
    order: EpochOrder | None = None,
    places: np.ndarray | None = None,
) -> Callable[[int], Batch]:
    """`batch_at(k)`: batch k, or some of its rows, the same whenever it is called.

    A batch has the fields of `read_rows` with b rows, example_ids int32[b] (the index of each row)
    and visits int32[b] (how often it has been seen before); it may straddle two epochs.

    Args:
      order: of an epoch; by default every row once, in the order of `seed`.
      places: int[b], which rows of a batch are read: those of one of several processes; by default
        all.

    Raises:
      ConfigError: a batch size that is not positive, or a seed that is not a uint64.
      DataError: fewer rows than one batch.
    """
    if batch_size < 1:
        raise ConfigError(f"batch size {batch_size} is not positive; choose one that is")
    if not 0 <= seed < 1 << 64:
        raise ConfigError(f"data seed {seed} is not a uint64; choose one from 0 to 2**64 - 1")
    if len(rows) < batch_size:
        raise DataError(
            f"the corpus makes {len(rows)} rows of length {rows.length}, fewer than one batch of "
            f"{batch_size}; choose a smaller batch size, shorter rows or more text"
        )
    assert len(rows) < 1 << 31
    order = order or make_epoch_order(rows, seed=seed)
    places = np.arange(batch_size) if places is None else places

    def batch_at(k: int) -> Batch:
        epochs, at = np.divmod(int(k) * batch_size + places, len(rows))
        example_ids, visits = np.empty((2, len(places)), np.int32)
        for epoch in np.unique(epochs).tolist():
            here = epochs == epoch
            example_ids[here], visits[here] = order(epoch, at[here])
        return read_rows(rows, example_ids) | {"example_ids": example_ids, "visits": visits}

    return batch_at
