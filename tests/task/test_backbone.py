"""The encoder as an object: how it is made, what it gives, what it refuses."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from small_model import CONFIG, FEATURES

from mlm import DistilBertBackbone, models
from mlm.conversion import save_own
from mlm.task.backbone import seed_keys

BATCH = {name: FEATURES[name] for name in ("token_ids", "padding_mask")}
NAMED = dict(vocabulary_size=59, num_layers=1, num_heads=2, hidden_dim=16, intermediate_dim=32)


@pytest.fixture(scope="module")
def backbone():
    return DistilBertBackbone(CONFIG)


def bits(params):
    return [np.asarray(leaf).tobytes() for leaf in jax.tree.leaves(params)]


def test_it_gives_the_hidden_states_of_the_whole_model(backbone):
    graphdef, params = models.create(CONFIG, jax.random.key(5))
    params = {**params, "backbone": backbone.params}
    everywhere = models.apply(graphdef, params, {**BATCH})
    head = models.MaskedLMHead(CONFIG, rngs=nnx.Rngs(0))
    states = backbone(BATCH)
    assert states.shape == (2, 8, 16) and states.dtype == jnp.float32
    nnx.update(head, params["head"])
    logits = head(states, backbone.params["embeddings"]["word"])
    np.testing.assert_allclose(logits, everywhere, atol=1e-6)


def test_its_parameters_are_those_of_a_run_with_that_seed(backbone):
    key = jax.random.fold_in(jax.random.key(0, impl="threefry2x32"), 0)  # as mlm.experiment's
    assert bits(backbone.params) == bits(models.create(CONFIG, key)[1]["backbone"])
    assert bits(DistilBertBackbone(CONFIG, seed=1).params) != bits(backbone.params)
    assert len({str(jax.random.key_data(key)) for key in seed_keys(0)}) == 4


def test_the_names_of_the_original(backbone):
    named = DistilBertBackbone(**NAMED, dropout=0.2, max_sequence_length=40)
    assert named.config == models.DistilBertConfig(
        59, 1, 16, 2, 32, max_length=40, dropout=0.2, attention_dropout=0.2
    )
    assert named.max_sequence_length == 40 and named.dropout == 0.2
    for name, value in NAMED.items():
        assert getattr(named, name) == getattr(backbone, name) == value
    assert "num_heads=2" in repr(named) and "trainable=True" in repr(named)
    with pytest.raises(AttributeError):
        backbone.dropout = 0.5  # it would do nothing


def test_params_are_checked_and_copied(backbone):
    params = jax.tree.map(np.array, backbone.params)
    copy = DistilBertBackbone(CONFIG, params=params)
    assert bits(copy.params) == bits(backbone.params)
    params["embeddings"]["word"][:] = 0
    assert bits(copy.params) == bits(backbone.params)

    del params["layers"][0]["attention"]["query"]["bias"]
    params["extra"] = np.zeros(3, np.float32)
    params["embeddings"]["word"] = np.zeros((60, 16), np.float32)
    params["embeddings"]["position"] = np.zeros((32, 16), np.float16)
    with pytest.raises(ValueError) as raised:
        copy.params = params
    message = str(raised.value)
    assert "embeddings/word is float32[60, 16], not float32[59, 16]" in message
    assert "missing layers/0/attention/query/bias; unexpected extra" in message
    assert "embeddings/position is float16[32, 16], not float32" in message
    assert bits(copy.params) == bits(backbone.params)


@pytest.mark.parametrize(
    ("arguments", "settings", "error", "words"),
    [
        ([30552], {}, TypeError, "config is 30552; give a DistilBertConfig"),
        ([CONFIG], {"num_layers": 2}, TypeError, "and nothing else"),
        ([], {"vocabulary_size": 9}, TypeError, "num_layers, .* are missing"),
        ([], {**NAMED, "layers": 2}, TypeError, "unknown settings layers; there are vocab"),
        ([], {**NAMED, "hidden_dim": 15}, ValueError, "does not divide width=15"),
        ([CONFIG], {"seed": 2**32}, ValueError, "seed is 4294967296"),
        ([CONFIG], {"seed": 0.5}, ValueError, "seed is 0.5; give an integer"),
    ],
)
def test_impossible_backbones(arguments, settings, error, words):
    with pytest.raises(error, match=words):
        DistilBertBackbone(*arguments, **settings)


def test_impossible_calls(backbone):
    with pytest.raises(ValueError, match="features hold mask_positions"):
        backbone(FEATURES)
    with pytest.raises(ValueError, match="token_ids holds 59"):
        backbone({**BATCH, "token_ids": [[59] * 8] * 2})
    with pytest.raises(ValueError, match="trainable is 'no'; give True or False"):
        backbone.trainable = "no"


def test_from_preset(backbone, tmp_path):
    head = models.create_head(CONFIG, jax.random.key(0))
    save_own(tmp_path, CONFIG, {"backbone": backbone.params, "head": head})
    loaded = DistilBertBackbone.from_preset(tmp_path)
    assert loaded.config == CONFIG and bits(loaded.params) == bits(backbone.params)
    fresh = DistilBertBackbone.from_preset(tmp_path, load_weights=False, seed=3)
    assert bits(fresh.params) == bits(DistilBertBackbone(CONFIG, seed=3).params)
