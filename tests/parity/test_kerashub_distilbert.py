"""Our DistilBERT computes what KerasHub's DistilBertMaskedLM computed for the same preset.

The recordings and how they were made are described in each folder's README. The `eps` model has
tiny activations before every layer norm, so that a wrong epsilon cannot hide: KerasHub's head has
1e-5, its backbone 1e-12.
"""

import dataclasses
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from mlm.conversion import load_keras_preset
from mlm.conversion.keras_names import to_keras
from mlm.models import apply, create_abstract

TOLERANCE = 2e-5

# What variables are called in memory, by what they are called in a file.
LAYER_NAMES = {
    "self_attention_layer/query_dense": "self_attention_layer/query",
    "self_attention_layer/key_dense": "self_attention_layer/key",
    "self_attention_layer/value_dense": "self_attention_layer/value",
    "self_attention_layer/output_dense": "self_attention_layer/attention_output",
    "self_attention_layer_norm": "self_attention_layer_norm",
    "feedforward_layer_norm": "feedforward_layer_norm",
    "feedforward_intermediate_dense": "feedforward_intermediate_dense",
    "feedforward_output_dense": "feedforward_output_dense",
}
OTHER_NAMES = {
    "token_and_position_embedding/token_embedding/vars/0": (
        "token_and_position_embedding/token_embedding/embeddings"
    ),
    "token_and_position_embedding/position_embedding/vars/0": (
        "token_and_position_embedding/position_embedding/embeddings"
    ),
    "layer_normalization/vars/0": "embeddings_layer_norm/gamma",
    "layer_normalization/vars/1": "embeddings_layer_norm/beta",
    "masked_lm_head/_intermediate_dense/vars/0": "mlm_head/intermediate_dense/kernel",
    "masked_lm_head/_intermediate_dense/vars/1": "mlm_head/intermediate_dense/bias",
    "masked_lm_head/_intermediate_layer_norm/vars/0": "mlm_head/intermediate_layer_norm/gamma",
    "masked_lm_head/_intermediate_layer_norm/vars/1": "mlm_head/intermediate_layer_norm/beta",
    "masked_lm_head/vars/0": "mlm_head/output_bias",
}


def variable_path(name):
    """`layers/transformer_encoder_1/_feedforward_layer_norm/vars/0` and so on, in memory."""
    name = name.removeprefix("layers/")
    if name in OTHER_NAMES:
        return OTHER_NAMES[name]
    encoder, middle = name.split("/_", 1)
    number = encoder.removeprefix("transformer_encoder").lstrip("_") or "0"
    module, variable = middle.split("/vars/")
    leaves = ("gamma", "beta") if "norm" in module else ("kernel", "bias")
    return f"transformer_layer_{number}/{LAYER_NAMES[module]}/{leaves[int(variable)]}"


def outputs_of(graphdef, params, batch, labels, weights):
    """Everything the recording holds, from one compiled function."""

    def loss(params):
        logits = apply(graphdef, params, batch)
        picked = jnp.take_along_axis(jax.nn.log_softmax(logits), labels[..., None], -1)[..., 0]
        return -(weights * picked).sum() / labels.size, logits  # padding slots count there

    (loss, logits), grads = jax.value_and_grad(loss, has_aux=True)(params)
    states = nnx.merge(graphdef, params).backbone.hidden_states(batch)
    return {"states": states, "logits": logits, "loss": loss, "grads": grads}


@pytest.fixture(scope="module", params=["kerashub_distilbert_tiny", "kerashub_distilbert_eps"])
def case(request):
    folder = Path(__file__).parent / request.param
    loaded = load_keras_preset(folder)
    graphdef, _ = create_abstract(loaded.config)
    inputs = dict(np.load(folder / "inputs.npz"))
    batch = {
        "token_ids": inputs["token_ids"],
        "padding_mask": inputs["padding_mask"].astype(bool),
        "mask_positions": inputs["mask_positions"],
    }
    labels, weights = inputs["labels"], inputs["sample_weight"]
    return {
        "loaded": loaded,
        "batch": batch,
        "real": batch["padding_mask"],
        "ours": jax.jit(outputs_of)(graphdef, loaded.params, batch, labels, weights),
        "theirs": dict(np.load(folder / "outputs.npz")),
    }


def assert_close(actual, expected, **message):
    np.testing.assert_allclose(actual, expected, rtol=0, atol=TOLERANCE, **message)


def test_every_hidden_state(case):
    names = ["embeddings_output", "layer_0_output", "layer_1_output"]
    assert len(case["ours"]["states"]) == len(names)
    for name, state in zip(names, case["ours"]["states"], strict=True):
        assert_close(state[case["real"]], case["theirs"][name][case["real"]])
    assert_close(state[case["real"]], case["theirs"]["sequence_output"][case["real"]])


def test_predictions(case):
    # Padding slots too: they stand at position 0.
    assert_close(case["ours"]["logits"], case["theirs"]["predictions"])


def test_loss(case):
    assert_close(case["ours"]["loss"], case["theirs"]["loss"])
    assert_close(case["ours"]["loss"], case["theirs"]["evaluate_loss"])


def test_gradient_of_every_variable(case):
    ours = to_keras(case["ours"]["grads"], heads=case["loaded"].config.heads)
    ours = {variable_path(name): grad for name, grad in ours.items()}
    theirs = {n.removeprefix("grad/"): g for n, g in case["theirs"].items() if "grad/" in n}
    assert ours.keys() == theirs.keys()
    for name, grad in theirs.items():
        assert_close(ours[name], grad, err_msg=name)


def test_the_recordings_tell_the_epsilons_apart(case):
    config = dataclasses.replace(case["loaded"].config, head_epsilon=1e-12)
    graphdef, _ = create_abstract(config)
    logits = jax.jit(apply)(graphdef, case["loaded"].params, case["batch"])
    assert np.abs(logits - case["theirs"]["predictions"]).max() > 5 * TOLERANCE
