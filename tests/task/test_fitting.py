"""The settings of `compile`, looked at without a model."""

import jax.numpy as jnp
import numpy as np
import optax
import pytest

from mlm.errors import ConfigError
from mlm.task.fitting import History, make_settings
from mlm.training.loss import cross_entropy


def first_updates(tx, steps=2):
    """What the optimizer adds to 1 in its first steps at a gradient of 0.5."""
    params, updates = {"w": jnp.ones((2, 2))}, []
    state = tx.init(params)
    for _ in range(steps):
        update, state = tx.update({"w": jnp.full((2, 2), 0.5)}, state, params)
        updates.append(float(update["w"][0, 0]))
    return updates


def test_the_default_is_the_originals():
    settings = make_settings()
    assert settings.loss is cross_entropy and settings.jit_compile
    np.testing.assert_allclose(first_updates(settings.tx), [-5e-5] * 2, rtol=1e-4)


def test_names_rates_schedules_and_optimizers():
    np.testing.assert_allclose(first_updates(make_settings(learning_rate=2).tx), [-2] * 2, 1e-4)
    assert first_updates(make_settings(optimizer="sgd", learning_rate=2.0).tx) == [-1, -1]
    schedule = optax.linear_schedule(0.0, 1.0, 1)
    made = make_settings(optimizer="sgd", learning_rate=schedule)
    assert first_updates(made.tx) == [0, -0.5]
    own = optax.sgd(4.0)
    assert make_settings(optimizer=own).tx is own


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        ({"loss": "mse"}, ValueError, "loss is 'mse'; give a function"),
        ({"optimizer": "adamm"}, ConfigError, "is 'adamm', which is no optimizer of optax"),
        ({"optimizer": 5}, ValueError, "optimizer is 5; give the name"),
        ({"optimizer": optax.sgd(1.0), "learning_rate": 1.0}, ValueError, "has its own already"),
        ({"learning_rate": -1.0}, ValueError, "learning_rate is -1.0; give a number from 0"),
        ({"learning_rate": float("nan")}, ValueError, "learning_rate is nan"),
        ({"learning_rate": "fast"}, ValueError, "learning_rate is 'fast'"),
    ],
)
def test_impossible_settings(arguments, error, words):
    with pytest.raises(error, match=words):
        make_settings(**arguments)


def test_a_history():
    history = History()
    history.add(0, {"loss": 2.0})
    history.add(1, {"loss": 1.0})
    assert history == History({"loss": [2.0, 1.0]}, [0, 1])
