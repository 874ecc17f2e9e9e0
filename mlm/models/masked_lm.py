"""The masked language model: DistilBERT with a head that scores the vocabulary.

`create` gives the structure and the parameters apart, `apply` puts them together for one call.
Parameters are a plain nested dict, so that `jax.jit`, `jax.grad`, optimizers, sharding rules and
checkpoints see ordinary pytrees; `nnx.merge(graphdef, params)` gives the object for a notebook.

B batch, L length, P mask slots, D width, V vocabulary.
"""

import math

import jax
import jax.numpy as jnp
from flax import nnx

from mlm.models.distilbert import (
    Batch,
    Constrain,
    DistilBertBackbone,
    DistilBertConfig,
    Linear,
    layer_norm,
    unchanged,
)

Params = dict  # nested, with arrays as leaves


class MaskedLMHead(nnx.Module):
    """Dense, exact GELU, layer norm, then the word embedding transposed plus a bias.

    The word embedding belongs to the backbone and is an argument: a tied parameter is stored once.
    """

    def __init__(self, config: DistilBertConfig, *, rngs: nnx.Rngs):
        self.dense = Linear(config.width, config.width, config, rngs=rngs)
        self.norm = layer_norm(config, config.head_epsilon, rngs)
        self.output_bias = nnx.Param(jnp.zeros(config.vocabulary_size, jnp.float32))
        self.dtype = jnp.dtype(config.dtype)

    def __call__(self, hidden: jax.Array, word_embedding: jax.Array) -> jax.Array:
        """`float32[B, P, D]` and `float32[V, D]` to logits `float32[B, P, V]`."""
        x = self.norm(jax.nn.gelu(self.dense(hidden), approximate=False))
        logits = jnp.einsum(
            "bpd,vd->bpv",
            x.astype(self.dtype),
            word_embedding.astype(self.dtype),
            preferred_element_type=jnp.float32,
        )
        return logits + self.output_bias[...]


class MaskedLM(nnx.Module):
    """Logits over the vocabulary at the masked positions of a batch.

    Takes the batch of `DistilBertBackbone`. With `mask_positions int32[B, P]` in it the logits are
    `float32[B, P, V]`, one row per slot (padding slots included: weigh them with zero); without,
    they are `float32[B, L, V]`, at every position. With a `key` dropout is on.
    """

    def __init__(self, config: DistilBertConfig, *, rngs: nnx.Rngs):
        self.backbone = DistilBertBackbone(config, rngs=rngs)
        self.head = MaskedLMHead(config, rngs=rngs)

    def __call__(
        self, batch: Batch, key: jax.Array | None = None, constrain: Constrain = unchanged
    ) -> jax.Array:
        hidden = self.backbone(batch, key, constrain)
        if "mask_positions" in batch:
            hidden = jnp.take_along_axis(hidden, batch["mask_positions"][:, :, None], axis=1)
        return self.head(constrain(hidden), self.backbone.embeddings.word[...])


def create(config: DistilBertConfig, key: jax.Array) -> tuple[nnx.GraphDef, Params]:
    """A new model: its structure and its random parameters, `float32` leaves in nested dicts.

    The structure is hashable and equal for equal configs. To initialise straight into shards:
    `jax.jit(create, static_argnums=0, out_shardings=(None, shardings))(config, key)`.
    """
    graphdef, state = nnx.split(MaskedLM(config, rngs=nnx.Rngs(key)))
    return graphdef, nnx.to_pure_dict(state)


def create_abstract(config: DistilBertConfig) -> tuple[nnx.GraphDef, Params]:
    """What `create` gives, with shapes and dtypes (`jax.ShapeDtypeStruct`) in place of arrays."""
    return jax.eval_shape(lambda: create(config, jax.random.key(0)))


def create_backbone(config: DistilBertConfig, key: jax.Array) -> tuple[nnx.GraphDef, Params]:
    """`create` for the encoder alone; `apply` then gives its hidden states, `float32[B, L, D]`."""
    graphdef, state = nnx.split(DistilBertBackbone(config, rngs=nnx.Rngs(key)))
    return graphdef, nnx.to_pure_dict(state)


def create_head(config: DistilBertConfig, key: jax.Array) -> Params:
    """Random parameters of an MLM head alone, for a backbone that comes without one."""
    _, state = nnx.split(MaskedLMHead(config, rngs=nnx.Rngs(key)))
    return nnx.to_pure_dict(state)


def apply(
    graphdef: nnx.GraphDef,
    params: Params,
    batch: Batch,
    *,
    key: jax.Array | None = None,
    constrain: Constrain = unchanged,
) -> jax.Array:
    """Logits of `MaskedLM` as a pure function, for `jax.jit` and `jax.grad`.

    Of a model from `create_backbone` its hidden states. `constrain`: see `Constrain`.
    """
    return nnx.merge(graphdef, params)(batch, key, constrain)


def parameter_count(params: Params) -> int:
    """How many numbers `params` holds; abstract parameters count as well."""
    return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(params))
