"""Numbers on masks: rates and histograms, made of arrays alone.

R masked rows, L length, V vocabulary.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np

from mlm.inspection.sample import KEPT, MASK, NONE, RANDOM, Masked

LONGEST = 12  # the last bar of a histogram of lengths, which holds the longer ones too
PARTS = 16  # equal parts of a row
GROUPS = 10  # of tokens, from the rarest to the most frequent


@dataclasses.dataclass(frozen=True, eq=False)
class Measures:
    """What a strategy did to the sample.

    Attributes:
      requested, realised: share of the selectable tokens that is selected.
      selectable, selected, predicted: tokens, over all copies.
      units: of which at least one token is selected.
      mean_run: tokens of a run of selected tokens; runs end where a token is not selected.
      split: shares of the selected tokens that are MASK, RANDOM and KEPT.
      touched: special tokens that are selected or changed: 0, or something is wrong.
      unit_tokens: `int64[LONGEST]`, units by their selected tokens (1, 2, ..., LONGEST or more).
      unit_words: the same in words; None if the tokenizer tells none.
      runs: `int64[LONGEST]`, runs by their tokens.
      positions: `float64[PARTS]`, share of the selectable tokens that is selected in each part of
        the row, nan where there are none.
      frequency: `float64[GROUPS]`, the same by how frequent the token's id is, see
        `frequency_groups`.
    """

    requested: float
    realised: float
    selectable: int
    selected: int
    predicted: int
    units: int
    mean_run: float
    split: tuple[float, float, float]
    touched: int
    unit_tokens: np.ndarray
    unit_words: np.ndarray | None
    runs: np.ndarray
    positions: np.ndarray
    frequency: np.ndarray


def measure(masked: Masked, *, continuations: np.ndarray | None, counts: np.ndarray) -> Measures:
    """The measures of a strategy.

    Args:
      continuations: `bool[V]`, ids that go on with a word; None if that is not known.
      counts: `int64[V]`, how often each id stands in the text.
    """
    selected = masked.fates != NONE
    total, among = int(selected.sum()), int(masked.selectable.sum())
    tokens = np.ones(selected.shape, bool)
    lengths = run_lengths(selected)
    groups = frequency_groups(masked.token_ids, masked.selectable, counts)
    parts = np.broadcast_to(np.arange(selected.shape[1]) * PARTS // selected.shape[1], groups.shape)
    return Measures(
        requested=masked.requested,
        realised=total / max(among, 1),
        selectable=among,
        selected=total,
        predicted=int(masked.predicted.sum()),
        units=len(unit_sizes(masked, tokens)),
        mean_run=float(lengths.mean()) if len(lengths) else 0.0,
        split=tuple(float(np.sum(masked.fates == f) / max(total, 1)) for f in (MASK, RANDOM, KEPT)),
        touched=int(np.sum(~masked.selectable & (selected | (masked.shown != masked.token_ids)))),
        unit_tokens=histogram(unit_sizes(masked, tokens)),
        unit_words=None
        if continuations is None
        else histogram(unit_sizes(masked, _word_begins(masked, continuations))),
        runs=histogram(lengths),
        positions=_shares(selected, masked.selectable, parts, PARTS),
        frequency=_shares(selected, masked.selectable, groups, GROUPS),
    )


def measure_all(
    masked: Sequence[Masked], *, continuations: np.ndarray | None, counts: np.ndarray
) -> list[Measures]:
    """The measures of each strategy."""
    return [measure(one, continuations=continuations, counts=counts) for one in masked]


def run_lengths(selected: np.ndarray) -> np.ndarray:
    """`int64[N]`: the lengths of the runs of True in the rows of `bool[R, L]`."""
    _, begins, ends = runs_of(selected)
    return ends - begins


def runs_of(selected: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The runs of True in `bool[R, L]`: the row of each, where it begins, and where it ends."""
    change = np.diff(np.pad(selected, ((0, 0), (1, 1))).astype(np.int8), axis=1)
    rows, begins = np.nonzero(change == 1)
    return rows, begins, np.nonzero(change == -1)[1]


def unit_sizes(masked: Masked, counted: np.ndarray) -> np.ndarray:
    """`int64[N]`: for each unit with selected tokens, how many of those `bool[R, L]` counts."""
    rows, length = masked.fates.shape
    names = masked.leaders + length * np.arange(rows)[:, None]
    selected = masked.fates != NONE
    size = rows * length
    units = np.bincount(names[selected], minlength=size)
    return np.bincount(names[selected & counted], minlength=size)[units > 0]


def _word_begins(masked: Masked, continuations: np.ndarray) -> np.ndarray:
    """`bool[R, L]`: where a word begins, or what a unit holds of one that began before it."""
    here = np.arange(masked.leaders.shape[1])
    return ~continuations[masked.token_ids] | (masked.leaders == here)


def histogram(lengths: np.ndarray) -> np.ndarray:
    """`int64[LONGEST]`: how many are 1, 2, ..., LONGEST or longer."""
    return np.bincount(np.clip(lengths, 1, LONGEST) - 1, minlength=LONGEST)


def frequency_groups(ids: np.ndarray, selectable: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """`int64[R, L]`: 0 (rarest) to GROUPS - 1: the decile of the log count of each token's id.

    Deciles are those of the selectable tokens, so that each group holds as many of them, as far as
    equal counts, which share a group, allow.
    """
    logs = np.log1p(counts)[ids]
    if not selectable.any():
        return np.zeros(ids.shape, np.int64)
    return np.searchsorted(frequency_bounds(ids, selectable, counts), logs, side="right")


def frequency_bounds(ids: np.ndarray, selectable: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """`float64[GROUPS - 1]`: log(1 + count) at which the groups but the first begin."""
    logs = np.log1p(counts)[ids][selectable]
    return np.quantile(logs, np.arange(1, GROUPS) / GROUPS, method="higher")


def _shares(
    selected: np.ndarray, selectable: np.ndarray, groups: np.ndarray, number: int
) -> np.ndarray:
    """`float64[number]`: the share of selected among selectable tokens of each group."""
    among = np.bincount(groups[selectable], minlength=number)
    hits = np.bincount(groups[selectable & selected], minlength=number)
    return np.divide(hits, among, out=np.full(number, np.nan), where=among > 0)
