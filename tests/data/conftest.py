"""A small corpus with every awkward length, and stores made of any documents."""

from types import SimpleNamespace

import numpy as np
import pytest

from mlm.data import open_store, write_store


@pytest.fixture
def special():
    return SimpleNamespace(pad=0, cls=1, sep=2)


@pytest.fixture
def corpus():
    """60 documents of 1 to 40 ids; no id occurs twice, so each token can be followed."""
    lengths = np.random.default_rng(0).integers(1, 41, 60)
    ends = np.cumsum(lengths)
    return [
        list(range(10 + end - length, 10 + end)) for length, end in zip(lengths, ends, strict=True)
    ]


@pytest.fixture
def make_store(tmp_path):
    def make(documents, name="store", **changes):
        options = {
            "vocabulary_size": 5000,
            "tokenizer_hash": "a1" * 32,
            "fingerprint": "f0" * 32,
            "source": {"text": "synthetic"},
        }
        write_store(tmp_path / name, documents, **(options | changes))
        return open_store(tmp_path / name)

    return make


@pytest.fixture
def store(make_store, corpus):
    return make_store(corpus)
