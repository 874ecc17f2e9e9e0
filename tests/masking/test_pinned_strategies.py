"""Masks of each strategy are part of a run's record, as those of tokens are: nothing moves them."""

import hashlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from mask_kinds import ROOT, L, V, make_rows, make_spec, starts_of

from mlm.masking import mask_tokens, row_keys, smallest, transform

IDS = make_rows(128, seed=4)
# Exact in float32 on every machine, steep, and 0 for one id in eleven.
TABLE = np.ldexp(1 + np.arange(V) % 7, -(np.arange(V) % 16)) * (np.arange(V) % 11 > 0)
TABLE = TABLE.astype(np.float32)
REPLACEMENTS = (np.arange(1, len(make_spec().replacement_ids) + 1) ** 2 * 80_000).astype(np.uint32)
# What is given, and the first 16 hex digits of SHA-256 over the six results.
PINNED = {
    "word": ("word", {}, {}, "7495b863fd81338e"),
    "word, cut": ("word", {"fit": "truncate"}, {}, "89ff340a8deedcff"),
    "word, coins": ("word", {"count": "bernoulli"}, {}, "72cdac41947bc49d"),
    "span": ("span", {}, {}, "72475942b17bcf1b"),
    "span, cut": ("span", {"fit": "truncate", "count": "exact"}, {}, "3402800c1d6352f5"),
    "ngram": ("ngram", {}, {}, "484946d7cc412dd2"),
    "weighted tokens": ("token", {}, {"weights": TABLE}, "2292a0876b2f0820"),
    "weighted words": ("word", {}, {"weights": TABLE}, "8fc82e6a6540129b"),
    "weighted spans": (
        "span",
        {},
        {"weights": TABLE[IDS] + np.float32(2**-40)},
        "7c357c290447a58f",
    ),
    "copies": ("token", {}, {"copies": 3}, "f5f71c732a4633cc"),
    "copies of words": ("word", {}, {"copies": 3}, "83a9b7737a0d760c"),
    "fewer predictions": (
        "span",
        {"mask_selection_length": 9, "corruption_length": L},
        {"rate": 0.4, "prediction_rate": 0.15},
        "037460de40afaf4d",
    ),
    "unigram": (
        "token",
        {},
        {"random_cdf": REPLACEMENTS, "random_token_rate": 0.2},
        "d1ce9612bf3c094c",
    ),
    "few slots": ("word", {"mask_selection_length": 3}, {"rate": 0.3}, "b452fdcafda9e47e"),
}


@pytest.fixture(params=["search", "sort"])
def way(request, monkeypatch):
    """A transform of its own for each way of finding the smallest."""
    if request.param == "sort":
        fresh = transform._mask.__wrapped__
        compiled = jax.jit(
            lambda *arrays, **static: fresh(*arrays, **static), static_argnames=("spec", "copies")
        )
        monkeypatch.setattr(transform, "_mask", compiled)
        monkeypatch.setattr(smallest, "threshold_by_search", smallest.threshold_by_sort)
        monkeypatch.setattr(smallest, "positions_by_bits", smallest.positions_by_sort)


@pytest.mark.parametrize("name", PINNED)
def test_masks_are_pinned(name, way):
    kind, changes, given, pinned = PINNED[name]
    spec, keys = make_spec(kind, **changes), row_keys(ROOT, 0, jnp.arange(128))
    starts = starts_of(kind, keys, IDS, spec)
    masked = mask_tokens(keys, IDS, spec, **{"rate": 0.15, **given}, unit_starts=starts)
    digest = hashlib.sha256(b"".join(np.asarray(x).tobytes() for x in masked)).hexdigest()
    assert digest[:16] == pinned, "masks changed: every frozen evaluation changes with them"
