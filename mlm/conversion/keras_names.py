"""Names and axes of DistilBERT's arrays in KerasHub's weight files, measured on keras-hub 0.32."""

import re

import jax
import numpy as np

from mlm.conversion.loaded import leaf_name
from mlm.models.masked_lm import Params

# Ours to theirs, * being the layer's number there: nothing, _1, _2 and so on.
LAYER = "layers/transformer_encoder*"
MODULES = {
    "backbone/embeddings/norm": "layers/layer_normalization",
    "backbone/layers/*/attention/query": f"{LAYER}/_self_attention_layer/query_dense",
    "backbone/layers/*/attention/key": f"{LAYER}/_self_attention_layer/key_dense",
    "backbone/layers/*/attention/value": f"{LAYER}/_self_attention_layer/value_dense",
    "backbone/layers/*/attention/out": f"{LAYER}/_self_attention_layer/output_dense",
    "backbone/layers/*/attention_norm": f"{LAYER}/_self_attention_layer_norm",
    "backbone/layers/*/feed_forward/up": f"{LAYER}/_feedforward_intermediate_dense",
    "backbone/layers/*/feed_forward/down": f"{LAYER}/_feedforward_output_dense",
    "backbone/layers/*/feed_forward_norm": f"{LAYER}/_feedforward_layer_norm",
    "head/dense": "layers/masked_lm_head/_intermediate_dense",
    "head/norm": "layers/masked_lm_head/_intermediate_layer_norm",
}
VARIABLES = {"kernel": 0, "scale": 0, "bias": 1}
TABLES = "layers/token_and_position_embedding"
LONE = {
    "backbone/embeddings/word": f"{TABLES}/token_embedding/vars/0",
    "backbone/embeddings/position": f"{TABLES}/position_embedding/vars/0",
    "head/output_bias": "layers/masked_lm_head/vars/0",
}
HEAD = "layers/masked_lm_head/"  # in task.weights.h5, all else in model.weights.h5


def to_keras(params: Params, *, heads: int) -> dict[str, jax.Array]:
    """`params` (or gradients) by the names of KerasHub's files, with its axes for heads."""
    arrays = {}
    for path, leaf in jax.tree.leaves_with_path(params):
        arrays[_name(leaf_name(path))] = leaf.reshape(_shape(leaf_name(path), leaf.shape, heads))
    return arrays


def from_keras(arrays: dict[str, np.ndarray], expected: Params) -> Params:
    """`arrays` by the names of KerasHub's files as parameters in the shapes of `expected`."""
    return jax.tree.map_with_path(
        lambda path, leaf: arrays[_name(leaf_name(path))].reshape(leaf.shape), expected
    )


def _name(ours: str) -> str:
    """A leaf's name there: `layers/transformer_encoder_1/_feedforward_output_dense/vars/0`."""
    starred = re.sub(r"\d+", "*", ours)
    if starred in LONE:
        return LONE[starred]
    module, leaf = starred.rsplit("/", 1)
    number = re.search(r"\d+", ours)
    theirs = MODULES[module].replace("*", f"_{number[0]}" if number and number[0] != "0" else "")
    return f"{theirs}/vars/{VARIABLES[leaf]}"


def _shape(ours: str, shape: tuple[int, ...], heads: int) -> tuple[int, ...]:
    """A leaf's shape there, where heads have an axis: [D, H, K], [H, K], and [H, K, D] for out."""
    module, leaf = ours.split("/")[-2:]
    if module in ("query", "key", "value"):
        return (*shape[:-1], heads, shape[-1] // heads)
    if module == "out" and leaf == "kernel":
        return (heads, shape[0] // heads, shape[1])
    return shape
