"""DistilBERT for masked language modelling, and the way in for public checkpoints.

Read `distilbert.py` first (the encoder, from embeddings to layers), then `masked_lm.py` (the head,
and `create` and `apply`, which are all that training needs), then `huggingface.py` (names of the
weights in a Hugging Face checkpoint); `extension.py` gives a model more tokens. No other room
imports Flax.

    config = DistilBertConfig(vocabulary_size=30522)
    graphdef, params = create(config, jax.random.key(0))
    logits = jax.jit(apply)(graphdef, params, batch, key=dropout_key)
"""

from mlm.models.distilbert import DistilBertBackbone, DistilBertConfig
from mlm.models.extension import extend_vocabulary
from mlm.models.huggingface import load_huggingface
from mlm.models.loaded import Loaded
from mlm.models.masked_lm import (
    MaskedLM,
    MaskedLMHead,
    apply,
    create,
    create_abstract,
    parameter_count,
)

__all__ = [
    "DistilBertBackbone",
    "DistilBertConfig",
    "Loaded",
    "MaskedLM",
    "MaskedLMHead",
    "apply",
    "create",
    "create_abstract",
    "extend_vocabulary",
    "load_huggingface",
    "parameter_count",
]
