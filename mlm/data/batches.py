"""Batch k as a pure function of (seed, k), so that a run resumes at any step without a position.

Examples are numbered through the whole run: batch k holds the examples k B ... k B + B - 1.
Example n is seen on visit n // rows (its epoch), at one place of that visit's permutation.
"""

from collections.abc import Callable

import numpy as np

from mlm.data.order import make_order
from mlm.data.rows import Rows, read_rows
from mlm.errors import ConfigError, DataError

# B batch (over all processes), b = B / process_count

Batch = dict[str, np.ndarray]


def make_batch_at(
    rows: Rows,
    *,
    seed: int,
    batch_size: int,
    process_index: int = 0,
    process_count: int = 1,
) -> Callable[[int], Batch]:
    """`batch_at(k)`: this process's slice of global batch k, the same whenever it is called.

    A batch has the fields of `read_rows` with b rows, example_ids int32[b] (the index of each row)
    and visits int32[b] (how often it has been seen before); it may straddle two visits. The slices
    of all processes, concatenated, are the batch of a single process.

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
    order = make_order(seed, len(rows))
    size = batch_size // process_count
    slots = process_index * size + np.arange(size)

    def batch_at(k: int) -> Batch:
        visits, places = np.divmod(int(k) * batch_size + slots, len(rows))
        example_ids = np.empty(size, np.int32)
        for visit in np.unique(visits).tolist():
            example_ids[visits == visit] = order(visit, places[visits == visit])
        batch = read_rows(rows, example_ids)
        return batch | {"example_ids": example_ids, "visits": visits.astype(np.int32)}

    return batch_at
