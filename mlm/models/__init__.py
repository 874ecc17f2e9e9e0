"""DistilBERT for masked language modelling.

Read `distilbert.py` first (the encoder, from embeddings to layers), then `masked_lm.py` (the head,
and `create` and `apply`, which are all that training needs); `extension.py` gives a model more
tokens. No other room imports Flax.

    config = DistilBertConfig(vocabulary_size=30522)
    graphdef, params = create(config, jax.random.key(0))
    logits = jax.jit(apply)(graphdef, params, batch, key=dropout_key)
"""

from mlm.models.distilbert import DistilBertBackbone, DistilBertConfig
from mlm.models.extension import extend_vocabulary
from mlm.models.masked_lm import (
    MaskedLM,
    MaskedLMHead,
    apply,
    create,
    create_abstract,
    create_backbone,
    create_head,
    parameter_count,
)

__all__ = [
    "DistilBertBackbone",
    "DistilBertConfig",
    "MaskedLM",
    "MaskedLMHead",
    "apply",
    "create",
    "create_abstract",
    "create_backbone",
    "create_head",
    "extend_vocabulary",
    "parameter_count",
]
