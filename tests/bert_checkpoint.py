"""A small BERT with random weights, written as transformers writes one."""

import json

import numpy as np
from safetensors.numpy import save_file

SETTINGS = {
    "model_type": "bert",
    "architectures": ["BertForMaskedLM"],
    "vocab_size": 60,
    "hidden_size": 16,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "intermediate_size": 24,
    "max_position_embeddings": 20,
    "type_vocab_size": 2,
    "hidden_act": "gelu",
    "hidden_dropout_prob": 0.1,
    "attention_probs_dropout_prob": 0.2,
    "layer_norm_eps": 1e-12,
    "initializer_range": 0.02,
}
V, D, F, P = 60, 16, 24, 20
LAYER = {
    "attention.self.query": (D, D),
    "attention.self.key": (D, D),
    "attention.self.value": (D, D),
    "attention.output.dense": (D, D),
    "attention.output.LayerNorm": (D,),
    "intermediate.dense": (F, D),
    "output.dense": (D, F),
    "output.LayerNorm": (D,),
}
ENCODER = {
    "bert.embeddings.word_embeddings.weight": (V, D),
    "bert.embeddings.position_embeddings.weight": (P, D),
    "bert.embeddings.token_type_embeddings.weight": (2, D),
    **{f"bert.encoder.layer.{n}.{name}": shape for n in range(3) for name, shape in LAYER.items()},
    "bert.embeddings.LayerNorm": (D,),
}
HEAD = {
    "cls.predictions.transform.dense": (D, D),
    "cls.predictions.transform.LayerNorm": (D,),
    "cls.predictions.bias": (V,),
}
PRETRAINING = {"bert.pooler.dense": (D, D), "cls.seq_relationship": (2, D)}


def random_tensors(modules, seed=0):
    """float32 tensors, a weight and a bias for every name that does not say which it is."""
    rng = np.random.default_rng(seed)
    tensors = {}
    for name, shape in modules.items():
        scale = 1.0 if "LayerNorm" in name else 0.0
        weight = scale + 0.3 * rng.standard_normal(shape)
        if name.endswith((".weight", ".bias")):
            tensors[name] = weight
        else:
            tensors[f"{name}.weight"] = weight
            tensors[f"{name}.bias"] = 0.3 * rng.standard_normal(shape[0])
    return {name: tensor.astype(np.float32) for name, tensor in tensors.items()}


def write(folder, tensors, **settings):
    """`folder`, in which a checkpoint now is."""
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps(SETTINGS | settings))
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def write_in_shards(folder, tensors, count=3, **settings):
    """The same in `count` files and an index; gives the index."""
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps(SETTINGS | settings))
    weight_map = {}
    for part in range(count):
        shard = f"model-{part + 1:05}-of-{count:05}.safetensors"
        names = sorted(tensors)[part::count]
        save_file({name: tensors[name] for name in names}, folder / shard)
        weight_map |= dict.fromkeys(names, shard)
    size = sum(tensor.nbytes for tensor in tensors.values())
    index = {"metadata": {"total_size": size}, "weight_map": weight_map}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    return index
