"""The encoder: what a position may see, where dropout acts, which settings are refused."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from mlm.models import DistilBertBackbone, DistilBertConfig
from mlm.models.distilbert import dropout, layer_norm

CONFIG = DistilBertConfig(
    vocabulary_size=31,
    layers=2,
    width=16,
    heads=2,
    hidden=24,
    max_length=12,
    initializer_stddev=0.5,
)
KEY = jax.random.key(0)


@pytest.fixture(scope="module")
def backbone():
    return DistilBertBackbone(CONFIG, rngs=nnx.Rngs(KEY))


@pytest.fixture(scope="module")
def run(backbone):
    graphdef, params = nnx.split(backbone)
    return jax.jit(lambda batch, key=None: nnx.merge(graphdef, params)(batch, key))


def row(*ids, length=12):
    """One row of `ids`, padded with 0: `token_ids int32[1, L]` and its `padding_mask`."""
    token_ids = np.zeros((1, length), np.int32)
    token_ids[0, : len(ids)] = ids
    return {"token_ids": token_ids, "padding_mask": np.arange(length)[None] < len(ids)}


FIRST, SECOND = (2, 7, 9, 4, 3), (2, 11, 5, 3)


def test_packed_sequences_see_only_themselves(run):
    packed = row(*FIRST, *SECOND) | {
        "segment_ids": np.array([[1] * 5 + [2] * 4 + [0] * 3], np.int32),
        "position_ids": np.array([[0, 1, 2, 3, 4, 0, 1, 2, 3, 0, 0, 0]], np.int32),
    }
    states = run(packed)[0]
    np.testing.assert_allclose(states[:5], run(row(*FIRST))[0, :5], atol=1e-5)
    np.testing.assert_allclose(states[5:9], run(row(*SECOND))[0, :4], atol=1e-5)


def test_neighbours_matter_without_segments(run):
    together = run(row(*FIRST, *SECOND))[0, :5]
    assert np.abs(together - run(row(*FIRST))[0, :5]).max() > 1e-2


def test_padding_does_not_change_real_positions(run):
    padded = row(*FIRST)
    other_padding = padded | {"token_ids": np.where(padded["padding_mask"], padded["token_ids"], 8)}
    np.testing.assert_array_equal(run(other_padding)[0, :5], run(padded)[0, :5])
    exact_fit = {"token_ids": np.array([FIRST], np.int32)}
    np.testing.assert_allclose(run(exact_fit)[0], run(padded)[0, :5], atol=1e-5)


def test_all_padding_row_is_finite(run):
    assert np.isfinite(run(row())).all()


def test_positions_default_to_a_count_from_zero(run):
    counted = row(*FIRST) | {"position_ids": np.arange(12, dtype=np.int32)[None]}
    np.testing.assert_allclose(run(counted), run(row(*FIRST)), atol=1e-6)


def test_rows_longer_than_the_position_table_are_refused(backbone):
    with pytest.raises(ValueError, match="13 tokens exceed max_length=12"):
        jax.eval_shape(backbone, {"token_ids": np.zeros((1, 13), np.int32)})


def test_call_gives_the_last_hidden_state(backbone):
    batch = row(*FIRST)
    states = jax.eval_shape(backbone.hidden_states, batch)
    assert [state.shape for state in states] == [(1, 12, 16)] * (CONFIG.layers + 1)
    assert jax.eval_shape(backbone, batch) == states[-1]


def test_dropout_is_a_function_of_the_key(run):
    batch = row(*FIRST)
    np.testing.assert_array_equal(run(batch), run(batch))
    np.testing.assert_array_equal(run(batch, KEY), run(batch, KEY))
    assert np.abs(run(batch, KEY) - run(batch, jax.random.key(1))).max() > 1e-2
    assert np.abs(run(batch, KEY) - run(batch)).max() > 1e-2


def test_dropout_keeps_and_scales_the_right_share():
    count, rate = 100_000, 0.1
    out = np.asarray(dropout(jnp.ones(count), rate=rate, key=KEY))
    np.testing.assert_allclose(np.unique(out), [0, 1 / (1 - rate)], rtol=1e-6)
    deviation = np.sqrt(count * rate * (1 - rate))
    assert abs((out == 0).sum() - rate * count) < 5 * deviation


def test_dropout_does_not_depend_on_the_number_of_devices():
    mesh = jax.make_mesh((8,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
    rows = jax.NamedSharding(mesh, jax.P("data"))
    x = np.arange(1, 129, dtype=np.float32).reshape(16, 8)
    run = jax.jit(functools.partial(dropout, rate=0.3))
    np.testing.assert_array_equal(run(jax.device_put(x, rows), key=KEY), run(x, key=KEY))


def test_dropout_without_key_or_rate_changes_nothing():
    x = jnp.arange(4.0)
    assert dropout(x, rate=0.5, key=None) is x
    assert dropout(x, rate=0.0, key=KEY) is x


def test_each_dropout_place_draws_its_own_mask(monkeypatch):
    keys = []

    def record(x, *, rate, key):
        keys.append((rate, tuple(jax.random.key_data(key).tolist())))
        return x

    for module in ("distilbert", "attention"):
        monkeypatch.setattr(f"mlm.models.{module}.dropout", record)
    config = dataclasses.replace(CONFIG, dropout=0.1, attention_dropout=0.2)
    DistilBertBackbone(config, rngs=nnx.Rngs(KEY))(row(*FIRST), KEY)
    # The embeddings, then attention probabilities and feed-forward of each layer; as in Hugging
    # Face's DistilBERT, none on the attention output.
    assert [rate for rate, _ in keys] == [0.1, 0.2, 0.1, 0.2, 0.1]
    assert len({key for _, key in keys}) == len(keys)


def test_layer_norm_keeps_small_variances_of_large_numbers():
    x = 100 + 1e-2 * np.random.default_rng(0).standard_normal((4, 16)).astype(np.float32)
    x = x.astype(np.float32)
    wide = x.astype(np.float64)
    expected = (wide - wide.mean(-1, keepdims=True)) / wide.std(-1, keepdims=True)
    norm = layer_norm(CONFIG, 1e-12, nnx.Rngs(KEY))
    np.testing.assert_allclose(norm(x), expected, atol=5e-3)


@pytest.mark.parametrize(
    "change, message",
    [
        ({"heads": 3}, "heads=3 does not divide width=16"),
        ({"layers": 0}, "layers=0 is not possible; it must be an int above 0"),
        ({"vocabulary_size": 10.5}, "vocabulary_size=10.5"),
        ({"dropout": 1.0}, r"dropout=1.0 .* \[0, 1\)"),
        ({"attention_dropout": -0.1}, "attention_dropout=-0.1"),
        ({"epsilon": 0.0}, "epsilon=0.0 .* above 0"),
        ({"dtype": "float16"}, "dtype='float16' .* 'float32' or 'bfloat16'"),
    ],
)
def test_wrong_settings_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(CONFIG, **change)
