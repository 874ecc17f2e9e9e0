"""Public DistilBERT checkpoints: a Hugging Face directory in, our config and parameters out.

Every tensor must find its place and every place its tensor: a checkpoint that loads in part, such
as one without its MLM head, would train from random numbers without a word.
"""

import json
import re
from pathlib import Path

import jax
import numpy as np
from safetensors.numpy import load_file

from mlm.models.distilbert import DistilBertConfig
from mlm.models.masked_lm import Params, create_abstract

SETTINGS = {
    "vocabulary_size": "vocab_size",
    "layers": "n_layers",
    "width": "dim",
    "heads": "n_heads",
    "hidden": "hidden_dim",
    "max_length": "max_position_embeddings",
    "dropout": "dropout",
    "attention_dropout": "attention_dropout",
    "initializer_stddev": "initializer_range",
}

# Settings that change the numbers and that the model has in one form only.
FIXED = {
    "model_type": "distilbert",
    "activation": "gelu",
    "sinusoidal_pos_embds": False,
    "tie_word_embeddings": True,
}

# Ours to theirs, * being the layer's number. `vocab_projector.weight` is the word embedding.
NAMES = {
    "backbone/embeddings/word": "distilbert.embeddings.word_embeddings.weight",
    "backbone/embeddings/position": "distilbert.embeddings.position_embeddings.weight",
    "backbone/embeddings/norm": "distilbert.embeddings.LayerNorm",
    "backbone/layers/*/attention/query": "distilbert.transformer.layer.*.attention.q_lin",
    "backbone/layers/*/attention/key": "distilbert.transformer.layer.*.attention.k_lin",
    "backbone/layers/*/attention/value": "distilbert.transformer.layer.*.attention.v_lin",
    "backbone/layers/*/attention/out": "distilbert.transformer.layer.*.attention.out_lin",
    "backbone/layers/*/attention_norm": "distilbert.transformer.layer.*.sa_layer_norm",
    "backbone/layers/*/feed_forward/up": "distilbert.transformer.layer.*.ffn.lin1",
    "backbone/layers/*/feed_forward/down": "distilbert.transformer.layer.*.ffn.lin2",
    "backbone/layers/*/feed_forward_norm": "distilbert.transformer.layer.*.output_layer_norm",
    "head/dense": "vocab_transform",
    "head/norm": "vocab_layer_norm",
    "head/output_bias": "vocab_projector.bias",
}
LEAVES = {"kernel": "weight", "scale": "weight", "bias": "bias"}


def load_huggingface(directory: str | Path) -> tuple[DistilBertConfig, Params]:
    """The config and `float32` NumPy parameters of a saved `DistilBertForMaskedLM`.

    Reads `config.json` and `model.safetensors`. Raises ValueError when a setting is one that the
    model does not have, or when tensors are missing, unexpected or of another shape, and
    FileNotFoundError when the directory lacks one of the files.
    """
    directory = Path(directory)
    for name in ("config.json", "model.safetensors"):
        if not (directory / name).is_file():
            raise FileNotFoundError(f"{directory} has no {name}; write it with save_pretrained")
    config = read_config(directory / "config.json")
    tensors = load_file(directory / "model.safetensors")
    _drop_tied(tensors)
    _, expected = create_abstract(config)
    _check(tensors, jax.eval_shape(to_huggingface, expected), directory)
    return config, jax.tree.map_with_path(lambda path, _: _tensor_at(path, tensors), expected)


def read_config(path: Path) -> DistilBertConfig:
    """Our settings from a Hugging Face `config.json`. Raises ValueError on those we do not have."""
    theirs = json.loads(path.read_text())
    problems = [f"no {name}" for name in SETTINGS.values() if name not in theirs]
    problems += [
        f"{name}={theirs[name]!r} where only {value!r} is implemented"
        for name, value in FIXED.items()
        if theirs.get(name, value) != value
    ]
    if problems:
        raise ValueError(f"{path} does not describe a model we have: {'; '.join(problems)}")
    return DistilBertConfig(**{ours: theirs[name] for ours, name in SETTINGS.items()})


def to_huggingface(params: Params) -> dict[str, jax.Array]:
    """`params` (or gradients) by Hugging Face name, kernels as torch has them: outputs first."""
    tensors = {}
    for path, leaf in jax.tree.leaves_with_path(params):
        name, transposed = _name_and_layout(path)
        tensors[name] = leaf.T if transposed else leaf
    return tensors


def _tensor_at(path: tuple, tensors: dict[str, np.ndarray]) -> np.ndarray:
    name, transposed = _name_and_layout(path)
    tensor = np.asarray(tensors[name], np.float32)
    return tensor.T if transposed else tensor


def _name_and_layout(path: tuple) -> tuple[str, bool]:
    """A leaf's name there and whether it is transposed: `vocab_transform.weight` and True."""
    ours = jax.tree_util.keystr(path, simple=True, separator="/")
    number = re.search(r"\d+", ours)
    starred = re.sub(r"\d+", "*", ours)
    if starred in NAMES:
        return NAMES[starred], False
    module, leaf = starred.rsplit("/", 1)
    name = f"{NAMES[module]}.{LEAVES[leaf]}"
    return name.replace("*", number[0]) if number else name, leaf == "kernel"


def _drop_tied(tensors: dict[str, np.ndarray]) -> None:
    """Forget a stored output projection when it is the word embedding, which it is tied to."""
    word = tensors.get("distilbert.embeddings.word_embeddings.weight")
    if np.array_equal(tensors.get("vocab_projector.weight", ()), word):
        del tensors["vocab_projector.weight"]


def _check(tensors: dict[str, np.ndarray], expected: dict, source: Path) -> None:
    problems = [f"missing {name}" for name in expected if name not in tensors]
    problems += [f"unexpected {name}" for name in tensors if name not in expected]
    problems += [
        f"{name} has shape {tensors[name].shape}, expected {spec.shape}"
        for name, spec in expected.items()
        if name in tensors and tensors[name].shape != spec.shape
    ]
    if problems:
        more = f"; and {len(problems) - 10} more" if len(problems) > 10 else ""
        raise ValueError(
            f"{source} is not a whole DistilBertForMaskedLM, which is what can be loaded; "
            f"its tensors do not fit its config.json ({len(problems)}): "
            f"{'; '.join(problems[:10])}{more}"
        )
