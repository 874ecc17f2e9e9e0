"""`DistilBertBackbone`: the encoder as an object for notebooks, a config and its parameters.

The module behind it is `mlm.models.DistilBertBackbone`; this is a handle with the names of
KerasHub's class. B batch, L length, D width.
"""

import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from mlm import models
from mlm.conversion.loaded import listed
from mlm.masking.spec import as_integer
from mlm.pretrained import load_pretrained
from mlm.task.features import BACKBONE, read_features
from mlm.training.freezing import leaf_paths
from mlm.training.sharding import copy_to, make_mesh

# KerasHub's name of each setting, and ours.
NAMES = {
    "vocabulary_size": "vocabulary_size",
    "num_layers": "layers",
    "num_heads": "heads",
    "hidden_dim": "width",
    "intermediate_dim": "hidden",
    "dropout": "dropout",
    "max_sequence_length": "max_length",
}
DEFAULTS = {"dropout": 0.1, "max_sequence_length": 512}


class Keys(NamedTuple):
    """Threefry keys of one seed, one for each use; the first three as in `mlm.experiment`."""

    init: jax.Array
    mask: jax.Array
    dropout: jax.Array
    head: jax.Array


def _setting(name: str) -> property:
    return property(lambda self: getattr(self.config, name), doc=f"config.{name}")


class DistilBertBackbone:
    """A DistilBERT encoder: `backbone({"token_ids", "padding_mask"})` gives hidden states.

        DistilBertBackbone(models.DistilBertConfig(30522), seed=0)
        DistilBertBackbone(vocabulary_size=30522, num_layers=6, num_heads=12, hidden_dim=768,
                           intermediate_dim=3072, max_sequence_length=512)
        DistilBertBackbone.from_preset("distil_bert_base_en_uncased")

    Args:
      config: the architecture, or KerasHub's names of it in `settings`. There `dropout` is the rate
        on attention probabilities too.
      seed: of the random parameters.
      params: parameters to use in place of random ones, copied.

    Raises:
      ValueError: for sizes that cannot be, and parameters of other sizes.
    """

    vocabulary_size = _setting("vocabulary_size")
    num_layers = _setting("layers")
    num_heads = _setting("heads")
    hidden_dim = _setting("width")
    intermediate_dim = _setting("hidden")
    dropout = _setting("dropout")
    max_sequence_length = _setting("max_length")

    def __init__(
        self,
        config: models.DistilBertConfig | None = None,
        *,
        seed: int = 0,
        params: dict | None = None,
        **settings: Any,
    ):
        self._config = _read_config(config, settings)
        self._mesh = make_mesh()
        init = functools.partial(models.create_backbone, self._config)
        graphdef, self._like = jax.eval_shape(init, jax.random.key(0))
        self._apply = jax.jit(functools.partial(models.apply, graphdef))
        self._trainable = True
        self.params = init(seed_keys(seed).init)[1] if params is None else params

    @classmethod
    def from_preset(
        cls,
        preset: str | Path,
        load_weights: bool = True,
        *,
        seed: int = 0,
        local_files_only: bool = False,
    ) -> "DistilBertBackbone":
        """The encoder of a model, see `mlm.pretrained.load_pretrained` for what `preset` may be.

        Raises:
          CheckpointError: there is no such model, or it cannot be read.
        """
        found = load_pretrained(
            preset,
            load_weights=load_weights,
            key=seed_keys(seed).init,
            local_files_only=local_files_only,
        )
        return cls(found.config, params=found.params["backbone"])

    def __call__(self, features: Mapping[str, Any]) -> jax.Array:
        """`float32[B, L, D]`, without dropout; states at padded positions mean nothing.

        Args:
          features: token_ids and padding_mask, `[B, L]` of any integer or bool type.

        Raises:
          ValueError: for anything that the model cannot read.
        """
        return self._apply(self._params, read_features(features, self._config, names=BACKBONE))

    @property
    def config(self) -> models.DistilBertConfig:
        """The architecture."""
        return self._config

    @property
    def params(self) -> dict:
        """Nested dict of `float32` arrays on all devices. Set, they are checked and copied."""
        return self._params

    @params.setter
    def params(self, params: dict) -> None:
        self._params = own_params(params, self._like, self._mesh)

    @property
    def trainable(self) -> bool:
        """Whether `fit` changes the parameters; counts from the next `fit`."""
        return self._trainable

    @trainable.setter
    def trainable(self, value: bool) -> None:
        if not isinstance(value, bool):
            raise ValueError(f"trainable is {value!r}; give True or False")
        self._trainable = value

    def __repr__(self) -> str:
        sizes = ", ".join(f"{name}={getattr(self._config, ours)}" for name, ours in NAMES.items())
        return f"DistilBertBackbone({sizes}, trainable={self._trainable})"


def seed_keys(seed: int) -> Keys:
    """The keys of a seed from 0 to 2^32 - 1; raises ValueError for another."""
    if not 0 <= as_integer("seed", seed) < 2**32:
        raise ValueError(f"seed is {seed}; give an integer from 0 to 2^32 - 1")
    root = jax.random.key(seed, impl="threefry2x32")
    return Keys(*(jax.random.fold_in(root, use) for use in range(4)))


def own_params(params: dict, like: dict, mesh: jax.sharding.Mesh) -> dict:
    """A copy of `params` on all devices of the mesh; raises ValueError as `check_params` does."""
    check_params(params, like)
    return copy_to(mesh, params)


def check_params(params: dict, like: dict) -> None:
    """Raises ValueError unless `params` have the names, shapes and types of `like`."""
    given = dict(zip(leaf_paths(params), jax.tree.leaves(params), strict=True))
    wanted = dict(zip(leaf_paths(like), jax.tree.leaves(like), strict=True))
    problems = [f"missing {path}" for path in wanted if path not in given]
    problems += [f"unexpected {path}" for path in given if path not in wanted]
    problems += [
        f"{path} is {_form(given[path])}, not {_form(leaf)}"
        for path, leaf in wanted.items()
        if path in given and _form(given[path]) != _form(leaf)
    ]
    if problems:
        raise ValueError(f"params do not fit the model: {listed(problems)}")


def _form(leaf: Any) -> str:
    return f"{getattr(leaf, 'dtype', type(leaf).__name__)}{list(np.shape(leaf))}"


def _read_config(config: Any, settings: dict[str, Any]) -> models.DistilBertConfig:
    if unknown := [name for name in settings if name not in NAMES]:
        raise TypeError(f"unknown settings {', '.join(unknown)}; there are {', '.join(NAMES)}")
    if isinstance(config, models.DistilBertConfig) and not settings:
        return config
    if config is not None:
        raise TypeError(
            f"config is {config!r:.60}; give a DistilBertConfig and nothing else, or by name "
            f"{', '.join(NAMES)}"
        )
    settings = DEFAULTS | settings
    if missing := [name for name in NAMES if name not in settings]:
        raise TypeError(f"{', '.join(missing)} are missing; give them, or a DistilBertConfig")
    ours = {NAMES[name]: value for name, value in settings.items()}
    return models.DistilBertConfig(**ours, attention_dropout=settings["dropout"])
