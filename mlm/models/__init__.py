"""DistilBERT for masked language modelling, and the way in for public checkpoints.

Read `distilbert.py` first (the encoder, from embeddings to layers), then `masked_lm.py` (the head,
and `create` and `apply`, which are all that training needs), then `huggingface.py` (names of the
weights in a Hugging Face checkpoint) or `keras_preset.py` and `keras_export.py` (KerasHub's preset
directories; `keras_names.py` and `hdf5.py` are their parts). No other room imports Flax.

    config = DistilBertConfig(vocabulary_size=30522)
    graphdef, params = create(config, jax.random.key(0))
    logits = jax.jit(apply)(graphdef, params, batch, key=dropout_key)
"""

from mlm.models.distilbert import DistilBertBackbone, DistilBertConfig
from mlm.models.huggingface import load_huggingface
from mlm.models.keras_export import save_keras_preset
from mlm.models.keras_preset import load_keras_preset
from mlm.models.loaded import Loaded
from mlm.models.masked_lm import (
    MaskedLM,
    MaskedLMHead,
    apply,
    create,
    create_abstract,
    create_head,
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
    "create_head",
    "load_huggingface",
    "load_keras_preset",
    "parameter_count",
    "save_keras_preset",
]
