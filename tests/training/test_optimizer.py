import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from mlm.errors import ConfigError
from mlm.training.optimizer import OptimizerSettings, decay_mask, make_optimizer, make_schedule

ADAMW = {"b1": 0.9, "b2": 0.98, "eps": 1e-6, "weight_decay": 0.1}


def settings(**changes):
    defaults = dict(
        name="adamw",
        args=ADAMW,
        learning_rate=1.0,
        schedule="linear",
        warmup_steps=4,
        clip_norm=0.0,
    )
    return OptimizerSettings(**{**defaults, **changes})


@pytest.mark.parametrize(
    ("schedule", "values"),
    [
        ("linear", [0.25, 0.625, 1.0, 0.5, 0.0]),
        ("cosine", [0.25, 0.625, 1.0, 0.5, 0.0]),
        ("constant", [0.25, 0.625, 1.0, 1.0, 1.0]),
    ],
)
def test_schedules_at_their_corners(schedule, values):
    rate = make_schedule(settings(schedule=schedule), total_steps=12)
    np.testing.assert_allclose([rate(s) for s in (0, 2, 4, 8, 12)], values, atol=1e-6)


def test_linear_and_cosine_differ_between_the_corners():
    linear, cosine = (
        make_schedule(settings(schedule=s), total_steps=12)(6) for s in ("linear", "cosine")
    )
    assert abs(linear - 0.75) < 1e-6 < abs(linear - cosine)


def test_weight_decay_reaches_matrices_only():
    params = {"kernel": jnp.ones((2, 2)), "bias": jnp.ones(2), "scale": jnp.ones(2)}
    assert decay_mask(params) == {"kernel": True, "bias": False, "scale": False}
    tx = make_optimizer(settings(), lambda step: 1.0)
    zeros = jax.tree.map(jnp.zeros_like, params)
    updates, _ = tx.update(zeros, tx.init(params), params)
    np.testing.assert_allclose(updates["kernel"], -0.1, rtol=1e-6)
    assert not updates["bias"].any() and not updates["scale"].any()


def test_clipping_by_the_global_norm():
    tx = make_optimizer(settings(name="sgd", args={}, clip_norm=0.5), lambda step: 1.0)
    grads = {"a": jnp.array([3.0]), "b": jnp.array([4.0])}
    updates, _ = tx.update(grads, tx.init(grads), grads)
    np.testing.assert_allclose(optax.tree.norm(updates), 0.5, rtol=1e-6)


@pytest.mark.parametrize("name", ["lamb", "lion", "adafactor", "sgd", "adam"])
def test_any_optimizer_of_optax(name):
    params = {"w": jnp.ones((2, 2))}
    tx = make_optimizer(settings(name=name, args={"b1": None}), lambda step: 0.1)
    updates, _ = tx.update({"w": jnp.ones((2, 2))}, tx.init(params), params)
    assert (updates["w"] < 0).all()


@pytest.mark.parametrize("name", ["adamv", "global_norm", "__doc__"])
def test_a_name_that_is_no_optimizer(name):
    with pytest.raises(ConfigError, match=f"optimizer.name is '{name}'"):
        make_optimizer(settings(name=name), lambda step: 1.0)


def test_arguments_that_the_optimizer_does_not_take():
    with pytest.raises(ConfigError, match="optimizer.args has b2, eps.*momentum"):
        make_optimizer(settings(name="sgd", args={"b2": 0.9, "eps": 1e-6}), lambda step: 1.0)
