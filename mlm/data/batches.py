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

# B batch (over all processes), b = B / process_count

Batch = dict[str, np.ndarray]


def make_batch_at(
    rows: Rows,
    *,
    seed: int,
    batch_size: int,
    order: EpochOrder | None = None,
    process_index: int = 0,
    process_count: int = 1,
) -> Callable[[int], Batch]:
    """`batch_at(k)`: this process's slice of global batch k, the same whenever it is called.

    A batch has the fields of `read_rows` with b rows, example_ids int32[b] (the index of each row)
    and visits int32[b] (how often it has been seen before); it may straddle two epochs. The slices
    of all processes, concatenated, are the batch of a single process.

    Args:
      order: of an epoch; by default every row once, in the order of `seed`.

    Raises:
      ConfigError: a batch size that is not a positive multiple of the process count, or a seed
        that is not a uint64.
      DataError: fewer rows than one batch.
    """
    if batch_size < 1 or batch_size % process_count:
        raise ConfigError(
            f"batch size {batch_size} is not a positive multiple of the {process_count} processes; "
            "choose one that is"
        )
    if not 0 <= seed < 1 << 64:
        raise ConfigError(f"data seed {seed} is not a uint64; choose one from 0 to 2**64 - 1")
    if len(rows) < batch_size:
        raise DataError(
            f"the corpus makes {len(rows)} rows of length {rows.length}, fewer than one batch of "
            f"{batch_size}; choose a smaller batch size, shorter rows or more text"
        )
    assert 0 <= process_index < process_count and len(rows) < 1 << 31
    order = order or make_epoch_order(rows, seed=seed)
    size = batch_size // process_count
    slots = process_index * size + np.arange(size)

    def batch_at(k: int) -> Batch:
        epochs, places = np.divmod(int(k) * batch_size + slots, len(rows))
        example_ids, visits = np.empty((2, size), np.int32)
        for epoch in np.unique(epochs).tolist():
            here = epochs == epoch
            example_ids[here], visits[here] = order(epoch, places[here])
        return read_rows(rows, example_ids) | {"example_ids": example_ids, "visits": visits}

    return batch_at
