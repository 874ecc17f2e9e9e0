"""Samples for tests of the doctor, made by hand: nothing is masked by the kernel here."""

import numpy as np

from mlm.doctor.sample import Sample

MASK, PAD, CLS = 4, 0, 2
TEXT = 10  # the first id of text, of V = 110
V = 110
RATES = {
    "rate": 0.2,
    "lowest": None,
    "mask_token_rate": 0.8,
    "random_token_rate": 0.1,
    "prediction_rate": None,
}


def make_sample(*, rate=0.2, split=(0.8, 0.1), rows=200, seed=0, units=None, **fields) -> Sample:
    """Rows of [CLS], 40 tokens of text and 5 of padding, masked at `rate` and `split`.

    `units`: tokens of each unit; whole ones are masked.
    """
    draw = np.random.default_rng(seed)
    original = np.concatenate(
        [
            np.full((rows, 1), CLS),
            draw.integers(TEXT, V, (rows, 40)),
            np.full((rows, 5), PAD),
        ],
        axis=1,
    )
    selectable = original >= TEXT
    size = units or 1
    whole = draw.random((rows, 40 // size)).argsort(axis=1) < round(rate * 40 / size)
    predicted = np.zeros((rows, 1, 46), bool)
    predicted[:, 0, 1:41] = np.repeat(whole, size, axis=1)
    fate = draw.random((rows, 1, 46))
    replaced = np.where(fate < sum(split), draw.integers(TEXT, V, fate.shape), original[:, None])
    shown = np.where(fate < split[0], MASK, replaced)
    leaders = np.arange(46)[None].repeat(rows, axis=0)
    leaders[:, 1:41] -= np.arange(40) % size
    values = {
        "step": 0,
        "rates": RATES,
        "count": "stochastic",
        "original": original,
        "selectable": selectable,
        "weighted": selectable,
        "shown": np.where(predicted, shown, original[:, None]),
        "predicted": predicted,
        "corrupted": predicted,
        "overflow": 0.0,
        "leaders": leaders if units else None,
        "lengths": np.where(selectable, size, 1) if units else None,
    }
    return Sample(**(values | fields))


def uniform_law() -> np.ndarray:
    law = np.zeros(V)
    law[TEXT:] = 1 / (V - TEXT)
    return law


def special() -> np.ndarray:
    return np.arange(V) < TEXT
