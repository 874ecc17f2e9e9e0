"""One tiny model and its texts for the tests of the notebook objects."""

import numpy as np

from mlm import DistilBertBackbone, DistilBertMaskedLM, DistilBertMaskedLMPreprocessor
from mlm.models import DistilBertConfig
from mlm.text import train_tokenizer

NAMES = "cat dog bird fox".split()
TEXTS = [f"the {a} sees the {b} near the river." for a in NAMES for b in NAMES for _ in range(2)]
TEXTS = TEXTS[:20]  # three batches of 8, the last of them filled up
TOKENIZER = train_tokenizer(TEXTS, vocabulary_size=60, lowercase=True)
CONFIG = DistilBertConfig(
    TOKENIZER.vocabulary_size, layers=1, width=16, heads=2, hidden=32, max_length=32
)
FEATURES = {
    "token_ids": np.array([[2, 7, 4, 9, 4, 11, 3, 0], [2, 8, 9, 4, 3, 0, 0, 0]], np.int32),
    "padding_mask": np.array([[1] * 7 + [0], [1] * 5 + [0] * 3], bool),
    "mask_positions": np.array([[2, 4], [3, 0]], np.int32),
}
LABELS, WEIGHTS = np.array([[8, 10], [12, 0]]), np.array([[1, 1], [1, 0]])


def make_model(config=CONFIG, *, seed=0, **settings):
    """A model with random weights and a preprocessor of 16 tokens."""
    settings = {"sequence_length": 16, **settings}
    preprocessor = DistilBertMaskedLMPreprocessor(TOKENIZER, **settings)
    return DistilBertMaskedLM(DistilBertBackbone(config, seed=seed), preprocessor, seed=seed)


def twin(model):
    """An untrained object of the same seed; it shares compiled functions, which saves a minute."""
    other = make_model(model.config)
    other._functions, other._settings = model._functions, model._settings
    return other
