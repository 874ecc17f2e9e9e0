"""BERT's checkpoints compute here what BERT computes (arXiv:1810.04805), written down in float64.

Word, position and type-0 embedding, then post-norm layers of attention and feed-forward with exact
GELU, then the masked language model head. No peer ran: the definition below is the peer.
"""

import math

import bert_checkpoint
import jax
import numpy as np
import pytest
from bert_checkpoint import ENCODER, HEAD, PRETRAINING, random_tensors, write, write_in_shards
from flax import nnx

from mlm.conversion import load_huggingface
from mlm.models import create_abstract

TOLERANCE = 2e-5
HEADS = bert_checkpoint.SETTINGS["num_attention_heads"]
IDS = np.random.default_rng(1).integers(5, 60, (3, 20)).astype(np.int32)
REAL = np.arange(20) < np.array([[20], [13], [2]])

erf = np.vectorize(math.erf)


def bert(tensors, epsilon):
    """Embeddings, the output of every layer, and logits, each `float64[B, L, ...]`."""
    weights = {name: tensor.astype(np.float64) for name, tensor in tensors.items()}

    def linear(x, name):
        return x @ weights[f"{name}.weight"].T + weights[f"{name}.bias"]

    def norm(x, name):
        centred = x - x.mean(-1, keepdims=True)
        deviation = np.sqrt((centred**2).mean(-1, keepdims=True) + epsilon)
        return weights[f"{name}.weight"] * centred / deviation + weights[f"{name}.bias"]

    def gelu(x):
        return x * (1 + erf(x / math.sqrt(2))) / 2

    def attention(x, name):
        split = [
            linear(x, f"{name}.{part}").reshape(*x.shape[:2], HEADS, -1).swapaxes(1, 2)
            for part in ("query", "key", "value")
        ]
        scores = split[0] @ split[1].swapaxes(2, 3) / math.sqrt(split[0].shape[-1])
        scores = np.where(REAL[:, None, None, :], scores, -np.inf)
        shares = np.exp(scores - scores.max(-1, keepdims=True))
        shares /= shares.sum(-1, keepdims=True)
        return (shares @ split[2]).swapaxes(1, 2).reshape(x.shape)

    word = weights["bert.embeddings.word_embeddings.weight"]
    x = word[IDS] + weights["bert.embeddings.position_embeddings.weight"]
    x = norm(
        x + weights["bert.embeddings.token_type_embeddings.weight"][0], "bert.embeddings.LayerNorm"
    )
    states = [x]
    for n in range(3):
        layer = f"bert.encoder.layer.{n}"
        mixed = linear(attention(x, f"{layer}.attention.self"), f"{layer}.attention.output.dense")
        x = norm(x + mixed, f"{layer}.attention.output.LayerNorm")
        up = gelu(linear(x, f"{layer}.intermediate.dense"))
        x = norm(x + linear(up, f"{layer}.output.dense"), f"{layer}.output.LayerNorm")
        states.append(x)
    x = gelu(linear(x, "cls.predictions.transform.dense"))
    x = norm(x, "cls.predictions.transform.LayerNorm")
    return states, x @ word.T + weights["cls.predictions.bias"]


@pytest.mark.parametrize("epsilon", [1e-12, 0.1])
def test_every_layer_and_the_logits(tmp_path, epsilon):
    tensors = random_tensors(ENCODER | HEAD | PRETRAINING)
    loaded = load_huggingface(write(tmp_path, tensors, layer_norm_eps=epsilon))
    graphdef, _ = create_abstract(loaded.config)

    @jax.jit
    def outputs(params, batch):
        model = nnx.merge(graphdef, params)
        return model.backbone.hidden_states(batch), model(batch)

    states, logits = outputs(loaded.params, {"token_ids": IDS, "padding_mask": REAL})
    expected_states, expected_logits = bert(tensors, epsilon)
    for state, expected in zip(states, expected_states, strict=True):
        np.testing.assert_allclose(state[REAL], expected[REAL], rtol=0, atol=TOLERANCE)
    np.testing.assert_allclose(logits[REAL], expected_logits[REAL], rtol=0, atol=TOLERANCE)


def old_names(tensors):
    """Layer norms as the first checkpoints called them."""
    names = {"LayerNorm.weight": "LayerNorm.gamma", "LayerNorm.bias": "LayerNorm.beta"}
    for new, old in names.items():
        tensors = {name.replace(new, old): tensor for name, tensor in tensors.items()}
    return tensors


def with_copies(tensors):
    copies = {
        "cls.predictions.decoder.weight": tensors["bert.embeddings.word_embeddings.weight"],
        "cls.predictions.decoder.bias": tensors["cls.predictions.bias"],
        "bert.embeddings.position_ids": np.arange(20)[None],
        "bert.embeddings.token_type_ids": np.zeros((1, 20), np.int64),
    }
    return tensors | {name: copy.copy() for name, copy in copies.items()}


def assert_same_params(actual, expected):
    jax.tree.map(np.testing.assert_array_equal, actual.params, expected.params)
    assert actual.config == expected.config


@pytest.fixture
def plain(tmp_path):
    return load_huggingface(write(tmp_path / "plain", random_tensors(ENCODER | HEAD)))


@pytest.mark.parametrize(
    "form", [old_names, with_copies, lambda tensors: tensors | random_tensors(PRETRAINING)]
)
def test_other_forms_of_the_same_checkpoint(tmp_path, plain, form):
    tensors = form(random_tensors(ENCODER | HEAD))
    assert_same_params(load_huggingface(write(tmp_path / "form", tensors)), plain)


def test_shards(tmp_path, plain):
    write_in_shards(tmp_path / "shards", random_tensors(ENCODER | HEAD))
    assert_same_params(load_huggingface(tmp_path / "shards"), plain)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float64"])
def test_other_float_types(tmp_path, dtype):
    stored = {n: t.astype(dtype) for n, t in random_tensors(ENCODER | HEAD).items()}
    exact = {name: tensor.astype(np.float32) for name, tensor in stored.items()}
    expected = load_huggingface(write(tmp_path / "exact", exact))
    loaded = load_huggingface(write(tmp_path / "stored", stored), cast=True)
    assert_same_params(loaded, expected)
    assert (
        f"Tensors that are not float32 were cast to it: {len(stored)} in {dtype}." in loaded.notes
    )


def test_the_encoder_alone_has_the_same_encoder(tmp_path, plain):
    tensors = random_tensors(ENCODER) | random_tensors(PRETRAINING)
    bare = {n.removeprefix("bert."): t for n, t in tensors.items() if "seq" not in n}
    loaded = load_huggingface(write(tmp_path / "bare", bare), key=jax.random.key(0))
    jax.tree.map(np.testing.assert_array_equal, loaded.params["backbone"], plain.params["backbone"])
