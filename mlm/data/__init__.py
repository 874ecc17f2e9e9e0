"""From a token store on disk to batch k: tokens -> rows -> batch k, and a thread that runs ahead.

The way through the room:

    store.py       documents of token ids, memory-mapped; writer.py writes them once
    packing.py     which pieces of documents share a row (best fit)
    layout.py      where every token of a row comes from, for the three row modes
    plans.py       that plan, kept in a cache
    units.py       which tokens are masked together: a bit per token of the store
    ngrams.py      words and n-grams of a store, counted in passes over it
    pmi.py         the collocations among them
    rows.py        rows of length L as dense arrays, cut from the store when they are read
    order.py       in which order a visit takes the rows, computed for any batch alone
    mixture.py     what an epoch is made of: rows of several sources in shares
    difficulty.py  how hard rows are, for a curriculum
    neighbours.py  where the text of a piece goes on
    batches.py     batch k as a pure function of (seed, k), one slice per process
    prefetch.py    the same batches, made ahead of time by one thread

Nothing here keeps a position or imports jax: a run that resumes at step k asks for batch k.
"""

from mlm.data.batches import make_batch_at
from mlm.data.difficulty import difficulty_stages, row_difficulty
from mlm.data.mixture import apportion, epoch_counts, make_epoch_order
from mlm.data.neighbours import Neighbours, make_neighbours
from mlm.data.ngrams import WordTable
from mlm.data.order import keyed_permutation, make_order, permutation
from mlm.data.packing import ORDER_VERSION, best_fit
from mlm.data.pmi import Collocations, collocation_starts, find_collocations
from mlm.data.prefetch import prefetch
from mlm.data.rows import MODES, Rows, locate, make_rows, read_rows, useful_share
from mlm.data.store import TokenStore, open_store, token_counts, verify_store
from mlm.data.units import Units, open_units, save_units
from mlm.data.writer import write_store

__all__ = [
    "Collocations",
    "MODES",
    "Neighbours",
    "ORDER_VERSION",
    "Rows",
    "TokenStore",
    "Units",
    "WordTable",
    "apportion",
    "best_fit",
    "collocation_starts",
    "difficulty_stages",
    "epoch_counts",
    "find_collocations",
    "keyed_permutation",
    "locate",
    "make_batch_at",
    "make_epoch_order",
    "make_neighbours",
    "make_order",
    "make_rows",
    "open_store",
    "open_units",
    "permutation",
    "prefetch",
    "read_rows",
    "row_difficulty",
    "save_units",
    "token_counts",
    "useful_share",
    "verify_store",
    "write_store",
]
