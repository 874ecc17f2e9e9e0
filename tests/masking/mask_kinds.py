"""The same rows and one compiled transform for each kind of unit, for all tests of them.

To compile takes longer than to run, so tests share rows, shapes and programs.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from mlm.masking import MaskingSpec, mask_tokens, row_keys
from mlm.masking.transform import selectable_positions
from mlm.masking.units import make_units, ngram_starts, span_starts, word_starts

PAD, UNK, CLS, SEP, MASK, V, L = 0, 1, 2, 3, 4, 200, 48
SPECIAL = (PAD, CLS, SEP, MASK)
CONTINUES = np.arange(V) >= 140  # of the ids from 5 on, 3 in 10 continue a word
TABLE = np.random.default_rng(5).lognormal(0, 1, V).astype(np.float32)
ROOT = jax.random.key(13)
KINDS = ("token", "word", "span", "ngram", "bitmap")


def make_rows(rows, length=L, seed=0):
    """`int32[B, L]`: two texts a row with [SEP] between them, and padding of all lengths."""
    draw = np.random.default_rng(seed)
    ids = draw.integers(5, V, (rows, length)).astype(np.int32)
    for row, n in zip(ids, draw.integers(12, length + 1, rows), strict=True):
        row[0], row[draw.integers(3, n - 3)], row[n - 1], row[n:] = CLS, SEP, SEP, PAD
    return ids


def make_spec(kind="token", **changes):
    fate = "token" if kind in ("token", "word") else "unit"
    return MaskingSpec(V, MASK, **{**SPEC, "fate": fate, **changes})


ROWS = 1024
IDS = make_rows(ROWS)
SPEC = dict(
    mask_selection_length=L, unselectable_token_ids=SPECIAL, count="stochastic", overflow="drop"
)


def starts_of(kind, keys, ids, spec):
    """`bool[B, L]`: where units of this kind begin; None for tokens."""
    ids = jnp.asarray(ids)
    words, selectable = word_starts(ids, CONTINUES), selectable_positions(ids, spec)
    match kind:
        case "token":
            return None
        case "word":
            return words
        case "span":
            return span_starts(keys, words, selectable)
        case "ngram":
            return ngram_starts(keys, words, selectable, shortest=1, longest=3)
        case "bitmap":
            return ids % 3 == 0


@functools.cache
def compiled(kind, spec, copies=1):
    """`mask_tokens` for a kind: ids, example_ids, visits and what else may be traced."""

    @jax.jit
    def masked(ids, example_ids, visits, rate, arrays):
        keys = row_keys(ROOT, visits, example_ids)
        starts = starts_of(kind, keys, ids, spec)
        return mask_tokens(keys, ids, spec, rate=rate, unit_starts=starts, copies=copies, **arrays)

    return masked


def mask(kind, ids, rate=0.15, *, spec=None, examples=None, visits=0, copies=1, **arrays):
    """NumPy results of rows 0, 1, ... or of `examples`."""
    examples = np.arange(len(ids)) if examples is None else examples
    visits = np.broadcast_to(np.int32(visits), len(ids))
    spec = spec or make_spec(kind)
    split = {name: getattr(spec, name) for name in ("mask_token_rate", "random_token_rate")}
    masked = compiled(kind, spec, copies)
    return jax.device_get(masked(ids, examples, visits, rate, split | arrays))


def units_of(kind, ids, *, spec=None, visits=0):
    """The units of the same rows, by themselves."""
    spec = spec or make_spec(kind)
    keys = row_keys(ROOT, visits, jnp.arange(len(ids)))
    selectable = selectable_positions(jnp.asarray(ids), spec)
    units = make_units(selectable, starts_of(kind, keys, ids, spec))
    lengths = jnp.ones_like(units.leaders) if units.are_tokens else units.lengths
    return jax.device_get(units._replace(lengths=lengths))


def where(masked, length=L):
    """`bool[B, L]`: what the mask slots point to."""
    hidden = np.zeros((len(masked.mask_positions), length), bool)
    rows, slots = np.nonzero(masked.mask_weights)
    hidden[rows, masked.mask_positions[rows, slots]] = True
    return hidden


def selectable(ids):
    return ~np.isin(ids, SPECIAL)


def assert_fits(counts, shares):
    """Chi-square at five sigma; its cube root is nearly normal (Wilson and Hilferty, 1931)."""
    expected = np.asarray(shares) / np.sum(shares) * np.sum(counts)
    assert (expected >= 5).all(), "too few for a chi-square"
    chi2 = np.sum((counts - expected) ** 2 / expected)
    spread = 2 / (9 * (len(counts) - 1))
    assert chi2 < (len(counts) - 1) * (1 - spread + 5 * np.sqrt(spread)) ** 3
