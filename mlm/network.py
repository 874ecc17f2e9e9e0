"""The model and the loss of a run: ours, or functions of the user's that the config names.

A model of one's own is `make(config) -> (init, apply)`, where `config` is a `DistilBertConfig` with
the fields of `config.model` and the size of the vocabulary, to take or leave:

    init(key) -> params                    nested dicts of float32 arrays
    apply(params, batch, *, key=None) -> logits float32[B, P, V]; without a key there is no dropout

`batch` has token_ids int32[B, L], padding_mask bool[B, L] and mask_positions int32[B, P], for every
L up to `config.max_length`; packed rows bring segment_ids and position_ids besides. A loss is
`loss(logits float32[B, P, V], labels int32[B, P]) -> float32[B, P]`.

What they give is checked by shapes alone, before anything is compiled.
"""

import dataclasses
import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax.sharding import Mesh

from mlm import models
from mlm.errors import ConfigError
from mlm.own import is_array, kind_of, load_function, reason
from mlm.training.loss import SlotLoss, cross_entropy, slot_scores
from mlm.training.parameter_rules import on_mesh
from mlm.training.sharding import keep_rows
from mlm.training.step import Apply, Params

ROWS, SLOTS, SHORTEST = 2, 3, 4  # of the batches that a model is tried on


@dataclasses.dataclass(frozen=True)
class Network:
    """A model as functions.

    Attributes:
      config: its sizes, or what a model of one's own was told.
      init: `init(key) -> params`.
      apply: `apply(params, batch, *, key=None) -> float32[B, P, V]`.
      params: shapes and dtypes, `jax.ShapeDtypeStruct`s in nested dicts.
    """

    config: models.DistilBertConfig
    init: Callable[[jax.Array], Params]
    apply: Apply
    params: Params


def make_network(
    config: models.DistilBertConfig, custom: str = "", *, mesh: Mesh | None = None
) -> Network:
    """DistilBERT, or the model that `custom` names as `module:function`.

    Args:
      mesh: where its params are split, if they are.

    Raises:
      ConfigError: there is no such function, or what it gives is no model.
    """
    if not custom:
        graphdef, params = models.create_abstract(config)
        init = lambda key: models.create(config, key)[1]  # noqa: E731
        apply = functools.partial(models.apply, graphdef)
        if mesh is not None:
            constrain = functools.partial(keep_rows, mesh)
            apply = on_mesh(functools.partial(apply, constrain=constrain), mesh)
        return Network(config, init, apply, params)
    make = load_function("model.custom", custom)
    try:
        init, apply = make(config)
        params = jax.eval_shape(init, jax.random.key(0))
        _check_params(params)
        for length in (config.max_length, SHORTEST):
            _check_logits(apply, params, config, length)
    except Exception as error:  # whatever a function of the user's does
        raise ConfigError(
            f"model.custom is {custom!r}: {reason(error)}; give a function of the config that "
            "returns (init, apply), see mlm/network.py"
        ) from error
    return Network(config, init, apply if mesh is None else on_mesh(apply, mesh), params)


def make_loss(name: str, vocabulary_size: int) -> SlotLoss:
    """Cross-entropy, or the loss that `name` names as `module:function`.

    Raises:
      ConfigError: there is no such function, it does not give a number for each mask slot, or has
        no gradient.
    """
    if not name:
        return cross_entropy
    loss = load_function("train.loss", name)
    logits = jax.ShapeDtypeStruct((ROWS, SLOTS, vocabulary_size), jnp.float32)
    labels = jax.ShapeDtypeStruct((ROWS, SLOTS), jnp.int32)
    total = lambda logits, labels: slot_scores(logits, labels, loss=loss).losses.sum()  # noqa: E731
    try:
        jax.eval_shape(jax.grad(total), logits, labels)
    except Exception as error:
        raise ConfigError(
            f"train.loss is {name!r}: {reason(error)}; give a function (logits float32[B, P, V], "
            "labels int32[B, P]) -> float32[B, P]"
        ) from error
    return loss


def _check_params(params: object) -> None:
    """Raises ValueError unless they are what freezing, optimizers and checkpoints take."""
    if not isinstance(params, dict):
        raise ValueError(
            f"init gives {kind_of(params)} among its params, which must be nested dicts"
        )
    if not params:
        raise ValueError("init gives a dict without params")
    for name, value in params.items():
        if not is_array(value):
            _check_params(value)
        elif value.dtype != jnp.float32:
            raise ValueError(f"init gives {name!r} as {value.dtype}, params must be float32")


def _check_logits(apply: Apply, params: Params, config, length: int) -> None:
    """Raises ValueError unless `apply` scores every mask slot, with dropout and without."""
    struct = jax.ShapeDtypeStruct
    batch = {
        "token_ids": struct((ROWS, length), jnp.int32),
        "padding_mask": struct((ROWS, length), jnp.bool_),
        "mask_positions": struct((ROWS, SLOTS), jnp.int32),
    }
    wanted = struct((ROWS, SLOTS, config.vocabulary_size), jnp.float32)
    logits = jax.eval_shape(apply, params, batch)
    if not is_array(logits) or (logits.shape, logits.dtype) != (wanted.shape, wanted.dtype):
        raise ValueError(
            f"apply gives {kind_of(logits)} for mask_positions int32{[ROWS, SLOTS]} in rows of "
            f"{length}, it must be {kind_of(wanted)}"
        )
    total = lambda params, batch, key: apply(params, batch, key=key).sum()  # noqa: E731
    jax.eval_shape(jax.grad(total), params, batch, jax.random.key(0))
