"""Our side of `masking.py`: every kind of unit, weighted selection, copies, and the class.

Each kind is one jitted function that makes row keys, masks, and is given a new visit by every call.
"""

import itertools
import time
from collections.abc import Callable

import numpy as np

from benchmarks.masking_peers import (
    CONTINUES,
    MASK,
    RATE,
    UNSELECTABLE,
    VOCABULARY,
    Contender,
    each,
    layer_arguments,
    slots,
)

KINDS = {
    "exact": "tokens, ceil(rate * n) of a row",
    "stochastic": "tokens, rate * n of a row on average, as in all below",
    "word": "whole words",
    "span": "spans of 1 to 10 words, geometric",
    "ngram": "n-grams of 1 to 3 words",
    "external": "units from a bitmap that is given: collocations, names, phrases",
    "frequency": "tokens, by count ** -0.7",
    "copies": "tokens, two copies of a row with disjoint masks; counted are tokens that go in",
    "generator": "the class on a NumPy batch: checks, copies and waits for every call",
}
IN_FLIGHT = 16  # calls between two waits for their results


def our_contender(ids: np.ndarray, kind: str) -> Contender:
    """A kind by its name; says what its first call took."""
    if kind == "generator":
        return our_generator(ids)
    import jax

    mask, visits = make_mask(ids, kind), itertools.count()
    batch = jax.device_put((ids, np.arange(len(ids), dtype=np.int32)))

    def chunk() -> int:
        jax.block_until_ready([mask(*batch, next(visits)) for _ in range(IN_FLIGHT)])
        return IN_FLIGHT

    began = time.perf_counter()
    jax.block_until_ready(mask(*batch, next(visits)))
    print(f"first call of ours, {kind}: {time.perf_counter() - began:.2f} s, compiling included")
    return Contender(f"ours, {kind}", lambda: chunk)


def make_mask(ids: np.ndarray, kind: str) -> Callable:
    """`mask(token_ids, example_ids, visit)`, jitted."""
    import jax

    from mlm.masking import MaskingSpec, mask_tokens, row_keys

    spec = MaskingSpec(
        VOCABULARY,
        MASK,
        slots(ids.shape[1]),
        UNSELECTABLE,
        count="exact" if kind == "exact" else "stochastic",
        fate="unit" if kind in ("span", "ngram", "external") else "token",
    )
    root, settings = jax.random.key(0, impl="threefry2x32"), make_settings(ids, kind, spec)

    def mask(token_ids, example_ids, visit):
        keys = row_keys(root, visit, example_ids)
        return mask_tokens(keys, token_ids, spec, rate=RATE, **settings(keys, token_ids))

    return jax.jit(mask)


def make_settings(ids: np.ndarray, kind: str, spec) -> Callable[..., dict]:
    """`settings(keys, token_ids)`: what `mask_tokens` is told besides."""
    import jax

    from mlm.masking.tables import frequency_weights
    from mlm.masking.transform import selectable_positions
    from mlm.masking.units import ngram_starts, span_starts, word_starts

    rng = np.random.default_rng(0)
    bitmap = jax.device_put(rng.random(ids.shape) < 0.6)
    weights = frequency_weights(rng.zipf(1.5, VOCABULARY).clip(max=10**9), alpha=0.7)

    def words(token_ids):
        return word_starts(token_ids, CONTINUES), selectable_positions(token_ids, spec)

    return {
        "word": lambda keys, i: {"unit_starts": words(i)[0]},
        "span": lambda keys, i: {"unit_starts": span_starts(keys, *words(i))},
        "ngram": lambda keys, i: {
            "unit_starts": ngram_starts(keys, *words(i), shortest=1, longest=3)
        },
        "external": lambda keys, i: {"unit_starts": bitmap},
        "frequency": lambda keys, i: {"weights": weights},
        "copies": lambda keys, i: {"copies": 2},
    }.get(kind, lambda keys, i: {})


def our_generator(ids: np.ndarray) -> Contender:
    """The class, called as KerasHub's is: NumPy in, checked, masked, NumPy out."""
    from mlm import MaskedLMMaskGenerator

    masker = MaskedLMMaskGenerator(**layer_arguments(ids), seed=0)
    return Contender("ours, generator", lambda: each(lambda: masker(ids)))
