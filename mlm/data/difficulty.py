"""How hard rows are, for a curriculum that begins with the easy ones.

Length and rarity are the measures of Platanios et al. 2019 (arXiv:1903.09848).
"""

import numpy as np

from mlm.data.layout import runs
from mlm.data.order import permutation
from mlm.data.rows import Rows
from mlm.data.store import token_counts
from mlm.errors import ConfigError

# R rows

MEASURES = ("length", "rarity")
STAGES = 10  # equal shares of the rows; within a stage they come in any order
AT_A_TIME = 4096  # rows


def difficulty_stages(difficulty: np.ndarray) -> np.ndarray:
    """uint8[R]: 0 for the tenth of the rows that is easiest, up to 9; equals at random."""
    stages = np.empty(len(difficulty), np.uint8)
    # By index, rows as long as can be would come in the order of the text.
    ranked = np.lexsort((permutation(0, 0, len(difficulty)), difficulty))
    stages[ranked] = np.arange(len(ranked)) * STAGES // len(ranked)
    return stages


def row_difficulty(rows: Rows, measure: str) -> np.ndarray:
    """float64[R], larger for harder rows.

    Args:
      measure: 'length', tokens per document or piece of one; or 'rarity', nats per token under
        the frequencies of the store.

    Raises:
      ConfigError: an unknown measure.
    """
    if measure not in MEASURES:
        raise ConfigError(f"data.curriculum is {measure!r}; choose one of {', '.join(MEASURES)}")
    counts = token_counts(rows.store)
    surprisal = np.log(counts.sum()) - np.log(np.maximum(counts, 1))
    difficulty = np.empty(len(rows))
    for start in range(0, len(rows), AT_A_TIME):
        indices = np.arange(start, min(start + AT_A_TIME, len(rows)))
        spans = rows.layout.spans(indices)
        row, size = spans.place // rows.length, len(indices)
        tokens = np.bincount(row, weights=spans.length, minlength=size)
        if measure == "length":
            total, number = tokens, np.bincount(row, weights=spans.length > 0, minlength=size)
        else:
            ids = rows.store.tokens[runs(spans.source, spans.length)]
            row_of_token = np.repeat(row, spans.length)
            total = np.bincount(row_of_token, weights=surprisal[ids], minlength=size)
            number = tokens
        difficulty[indices] = total / np.maximum(number, 1)
    return difficulty
