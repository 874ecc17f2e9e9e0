"""Words that a pretrained model gets into its vocabulary, in NumPy.

A new token begins as the mean of the pieces that stood for it so far, in the word embedding (Gee et
al. 2022, "Fast Vocabulary Transfer", arXiv:2402.09977) and, which is ours, in the output bias. So
the model reads it, before any training, much as it read the pieces.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np

from mlm.models.distilbert import DistilBertConfig


def extend_vocabulary(
    config: DistilBertConfig, params: dict, pieces: Sequence[Sequence[int]]
) -> tuple[DistilBertConfig, dict]:
    """The config and params with a token more for each item of `pieces`, at the end.

    What is there already stays as it is, and what is given is not changed.

    Args:
      config: with V tokens.
      params: NumPy, as `create` makes them: a word embedding `float32[V, D]`, a bias `float32[V]`.
      pieces: for each new token the ids that stood for it, at least one.
    """
    if not pieces:
        return config, params
    size = config.vocabulary_size + len(pieces)
    embeddings = params["backbone"]["embeddings"]
    embeddings = embeddings | {"word": _with_means(embeddings["word"], pieces)}
    head = params["head"]
    return dataclasses.replace(config, vocabulary_size=size), {
        **params,
        "backbone": params["backbone"] | {"embeddings": embeddings},
        "head": head | {"output_bias": _with_means(head["output_bias"], pieces)},
    }


def _with_means(rows: np.ndarray, pieces: Sequence[Sequence[int]]) -> np.ndarray:
    means = [rows[list(ids)].mean(axis=0, dtype=np.float64) for ids in pieces]
    return np.concatenate([rows, np.asarray(means, rows.dtype)])
