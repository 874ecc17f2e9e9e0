"""What an epoch is made of: rows of several sources in given shares, in the order of a seed.

An epoch has as many places as there are rows. Of a source with a share of its own, more or fewer
rows than it has are taken: its rows are numbered through all epochs, each is visited once before
any is visited again, and what an epoch leaves is taken by the next. Sources take turns at even
distances; what is random is which row of a source comes next.
"""

from collections.abc import Callable, Sequence

import numpy as np

from mlm.data.order import Order, easy_first, make_order
from mlm.data.rows import Rows
from mlm.errors import ConfigError, DataError

# R rows, S sources

EpochOrder = Callable[[int, np.ndarray], tuple[np.ndarray, np.ndarray]]


def make_epoch_order(
    rows: Rows,
    *,
    seed: int,
    counts: np.ndarray | None = None,
    stages: np.ndarray | None = None,
    easy_visits: int = 1,
) -> EpochOrder:
    """`order(epoch, places) -> (rows int32, visits int32)`: what stands at places of an epoch.

    A pure function of its arguments. `visits` says how often a row has been seen before.

    Args:
      rows: with `by_source`, if there are `counts`.
      seed: uint64.
      counts: int64[S], rows of each source in an epoch, see `epoch_counts`; by default an epoch
        takes every row once.
      stages: uint8[R], see `difficulty_stages`; by default there is no curriculum.
      easy_visits: how often a row is visited from easy to hard before its visits are in any order.
    """

    def source_order(source_seed: int, begin: int, end: int, keep: int) -> Order:
        order = make_order(source_seed, end - begin, keep=keep)
        if stages is None:
            return order
        return easy_first(order, stages[begin:end], easy_visits, keep=keep)

    if counts is None:
        order = source_order(seed, 0, len(rows), 2)
        return lambda epoch, places: (order(epoch, places), np.full(len(places), epoch, np.int32))
    sizes = np.diff(rows.source_bounds)
    straddled = counts // np.maximum(sizes, 1) + 2  # visits of a source that one epoch may take
    seeds = [(seed + 0x9E3779B97F4A7C15 * (s + 1)) % (1 << 64) for s in range(len(sizes))]
    begins, ends = rows.source_bounds[:-1].tolist(), rows.source_bounds[1:].tolist()
    orders = [
        source_order(*arguments)
        for arguments in zip(seeds, begins, ends, straddled.tolist(), strict=True)
    ]
    return _mixed(orders, rows.source_bounds, counts)


def _mixed(orders: Sequence[Order], bounds: np.ndarray, counts: np.ndarray) -> EpochOrder:
    """Sources take turns evenly, so that any stretch of an epoch holds their shares too."""
    sizes = np.diff(bounds)

    def order(epoch: int, places: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        sources, numbers = turns(counts, places)
        visits, at = np.divmod(epoch * counts[sources] + numbers, sizes[sources])
        rows = np.empty(len(places), np.int32)
        for source, visit in np.unique(np.stack([sources, visits]), axis=1).T.tolist():
            here = (sources == source) & (visits == visit)
            rows[here] = bounds[source] + orders[source](visit, at[here])
        return rows, visits.astype(np.int32)

    return order


def turns(counts: np.ndarray, places: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Whose turn it is at each place, and its how-manieth: (source int64[N], number int64[N]).

    Of n places the first source gets those where p -> floor((p c + n / 2) / n) steps up, which is
    c of them at even distances; the next one likewise of what is left.
    """
    sources, numbers = np.full((2, len(places)), -1, np.int64)
    open_places, left = np.arange(len(places)), int(counts.sum())
    at = np.asarray(places, np.int64)
    for source, count in enumerate(counts.tolist()):
        if not count:
            continue
        before, after = ((at + step) * count + left // 2 for step in (0, 1))
        before, after = before // left, after // left
        taken = after > before
        sources[open_places[taken]], numbers[open_places[taken]] = source, before[taken]
        open_places, at = open_places[~taken], (at - before)[~taken]
        left -= count
    return sources, numbers


def epoch_counts(
    rows: Rows, *, shares: Sequence[float] = (), temperature: float = 1.0
) -> np.ndarray | None:
    """Rows of each source in an epoch, int64[S] and len(rows) in all; None: every row once.

    Args:
      shares: of the rows, one for each source; they need not add up to 1.
      temperature: T, without shares: a source of n rows gets a share in proportion to n^(1/T), all
        the same as T grows (T5: Raffel et al., arXiv:1910.10683, section 3.5.2).

    Raises:
      ConfigError: another number of shares than of sources.
      DataError: a source with a share has no row.
    """
    if not shares and temperature == 1.0:
        return None
    sizes, names = np.diff(rows.source_bounds), [source["name"] for source in rows.store.sources]
    if shares and len(shares) != len(sizes):
        raise ConfigError(
            f"data.shares has {len(shares)} numbers for {len(sizes)} sources ({', '.join(names)}); "
            "give one for each name in data.corpus"
        )
    weights = np.array(shares or sizes, np.float64)
    weights = (weights / weights.max()) ** (1.0 if shares else 1 / temperature)
    if empty := [name for name, n, w in zip(names, sizes, weights, strict=True) if w and not n]:
        raise DataError(
            f"of {empty[0]} there is no row to train on; give it more text, a share of 0, or leave "
            "it out"
        )
    return apportion(weights, len(rows))


def apportion(weights: np.ndarray, total: int) -> np.ndarray:
    """int64[S] in proportion to `weights` that add up to `total`: the largest remainder method."""
    quotas = weights / weights.sum() * total
    counts = np.floor(quotas).astype(np.int64)
    largest = np.argsort(counts - quotas, kind="stable")[: total - counts.sum()]
    counts[largest] += 1
    return counts
