"""What a config says of the model, the optimizer and chance, as the values that go down."""

from typing import NamedTuple

import jax
from ml_collections import ConfigDict

from mlm import models
from mlm.config import model_fields
from mlm.training.optimizer import OptimizerSettings


class RunKeys(NamedTuple):
    """Three keys from one seed; masks and dropout fold the example and the step into theirs."""

    init: jax.Array
    masks: jax.Array
    dropout: jax.Array


def run_keys(seed: int) -> RunKeys:
    """The keys of a run: nothing else is random in it but the order of its rows."""
    root = jax.random.key(seed, impl="threefry2x32")
    return RunKeys(*(jax.random.fold_in(root, i) for i in range(3)))


def model_config(config: ConfigDict, vocabulary_size: int) -> models.DistilBertConfig:
    """The architecture of `config.model` over a vocabulary."""
    return models.DistilBertConfig(vocabulary_size, **model_fields(config))


def optimizer_settings(config: ConfigDict, *, warmup: int) -> OptimizerSettings:
    """The settings of `config.optimizer`, its warm-up in steps."""
    return OptimizerSettings(
        name=config.optimizer.name,
        args=config.optimizer.args.to_dict(),
        learning_rate=config.optimizer.learning_rate,
        schedule=config.optimizer.schedule,
        warmup_steps=warmup,
        clip_norm=config.optimizer.clip_norm,
    )
