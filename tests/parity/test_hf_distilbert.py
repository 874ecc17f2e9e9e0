"""Our DistilBERT computes what transformers' DistilBertForMaskedLM computed for the same weights.

The recordings and how they were made are described in each folder's README. The `eps` model has
tiny activations before every layer norm, so that a wrong epsilon cannot hide.
"""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from mlm.conversion import load_huggingface
from mlm.conversion.huggingface_names import to_huggingface
from mlm.models import apply, create_abstract

TOLERANCE = 2e-5


def outputs_of(graphdef, params, batch, labels):
    """Everything the recording holds, from one compiled function."""

    def loss(params):
        logits = apply(graphdef, params, batch)
        picked = jnp.take_along_axis(
            jax.nn.log_softmax(logits), jnp.maximum(labels, 0)[..., None], -1
        )[..., 0]
        return -jnp.where(labels != -100, picked, 0).sum() / (labels != -100).sum(), logits

    (loss, logits), grads = jax.value_and_grad(loss, has_aux=True)(params)
    states = nnx.merge(graphdef, params).backbone.hidden_states(batch)
    return {"states": states, "logits": logits, "loss": loss, "grads": grads}


@pytest.fixture(scope="module", params=["hf_distilbert_tiny", "hf_distilbert_eps"])
def case(request):
    folder = Path(__file__).parent / request.param
    loaded = load_huggingface(folder)
    graphdef, _ = create_abstract(loaded.config)
    inputs = dict(np.load(folder / "inputs.npz"))
    batch = {
        "token_ids": inputs["input_ids"],
        "padding_mask": inputs["attention_mask"].astype(bool),
    }
    ours = jax.jit(outputs_of)(graphdef, loaded.params, batch, inputs["labels"])
    return {
        "graphdef": graphdef,
        "params": loaded.params,
        "inputs": inputs,
        "batch": batch,
        "real": batch["padding_mask"],
        "ours": ours,
        "theirs": dict(np.load(folder / "outputs.npz")),
    }


def assert_close(actual, expected):
    np.testing.assert_allclose(actual, expected, rtol=0, atol=TOLERANCE)


def test_every_hidden_state(case):
    names = ["embeddings_output", "hidden_layer_0", "hidden_layer_1"]
    assert len(case["ours"]["states"]) == len(names)
    for name, state in zip(names, case["ours"]["states"], strict=True):
        assert_close(state[case["real"]], case["theirs"][name][case["real"]])
    assert_close(state[case["real"]], case["theirs"]["last_hidden_state"][case["real"]])


def test_logits_at_every_position(case):
    assert_close(case["ours"]["logits"][case["real"]], case["theirs"]["logits"][case["real"]])


def test_logits_at_mask_positions(case):
    positions = case["inputs"]["mask_positions"]
    logits = jax.jit(apply)(
        case["graphdef"], case["params"], {**case["batch"], "mask_positions": positions}
    )
    real = np.take_along_axis(case["real"], positions, axis=1)
    assert_close(logits[real], case["theirs"]["logits_at_mask_positions"][real])


def test_loss(case):
    assert_close(case["ours"]["loss"], case["theirs"]["loss"])


def test_gradient_of_every_parameter(case):
    ours = to_huggingface(case["ours"]["grads"])
    theirs = {n.removeprefix("grad/"): g for n, g in case["theirs"].items() if "grad/" in n}
    assert ours.keys() == theirs.keys()
    for name, grad in theirs.items():
        np.testing.assert_allclose(ours[name], grad, rtol=0, atol=TOLERANCE, err_msg=name)


def test_rows_as_long_as_the_position_table_without_a_padding_mask(case):
    batch = {"token_ids": case["inputs"]["input_ids_full"]}
    model = nnx.merge(case["graphdef"], case["params"])
    hidden = jax.jit(lambda batch: model.backbone(batch))(batch)
    assert_close(hidden, case["theirs"]["last_hidden_state_full"])
    assert_close(
        jax.jit(apply)(case["graphdef"], case["params"], batch), case["theirs"]["logits_full"]
    )
