"""Held-out rows in batches of one shape, with the places that their tokens come from."""

from collections.abc import Iterator

import numpy as np

from mlm.data import Rows, locate, read_rows
from mlm.evaluation.frozen import EvalRows


def eval_rows(rows: Rows, size: int, batch_size: int, pad: int) -> Iterator[EvalRows]:
    """Rows 0 to size - 1 in batches; the last one is filled up with rows of padding."""
    for start in range(0, size, batch_size):
        indices = np.arange(start, min(start + batch_size, size))
        missing = batch_size - len(indices)
        batch = read_rows(rows, indices)
        batch["example_ids"] = indices.astype(np.int32)
        batch["visits"] = np.zeros_like(batch["example_ids"])
        batch = {
            name: np.pad(
                values,
                [(0, missing)] + [(0, 0)] * (values.ndim - 1),
                constant_values=pad if name == "token_ids" else 0,
            )
            for name, values in batch.items()
        }
        places = (np.pad(a, ((0, missing), (0, 0))) for a in locate(rows, indices))
        yield EvalRows(batch, *places)
