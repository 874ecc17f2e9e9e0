"""DistilBERT for masked language modelling, and public checkpoints in and out.

Read `distilbert.py` first (the encoder, from embeddings to layers), then `masked_lm.py` (the head,
and `create` and `apply`, which are all that training needs), then `huggingface.py` (a Hugging Face
folder of a DistilBERT or BERT becomes a `Loaded`; `settings.py`, `tensor_files.py`, `names.py` and
`reading.py` are its parts) and `huggingface_export.py` (the way back); `extension.py` gives a model
more tokens. No other room imports Flax.

    config = DistilBertConfig(vocabulary_size=30522)
    graphdef, params = create(config, jax.random.key(0))
    logits = jax.jit(apply)(graphdef, params, batch, key=dropout_key)

    loaded = load_huggingface("distilbert-base-uncased")
    print(*loaded.notes, sep="\n")
    save_huggingface("out", loaded.config, loaded.params, pad_token_id=0)
"""

from mlm.models.distilbert import DistilBertBackbone, DistilBertConfig
from mlm.models.extension import extend_vocabulary
from mlm.models.huggingface import load_huggingface
from mlm.models.huggingface_export import save_huggingface
from mlm.models.masked_lm import (
    MaskedLM,
    MaskedLMHead,
    apply,
    create,
    create_abstract,
    create_head,
    parameter_count,
)
from mlm.models.reading import Loaded

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
    "extend_vocabulary",
    "load_huggingface",
    "parameter_count",
    "save_huggingface",
]
