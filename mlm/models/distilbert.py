"""The DistilBERT encoder: embeddings, then N post-norm transformer layers (arXiv:1910.01108).

Numerics follow the public checkpoints: exact GELU, layer norm with epsilon 1e-12, dropout where
Hugging Face's DistilBertModel has it. The classes hold parameters and nothing else: keys and
batches are arguments, so that training can treat the model as a pure function.

B batch, L length, D width, H heads, K head width, F feed-forward width, V vocabulary, N layers.
"""

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp
from flax import nnx

from mlm.models.attention import BACKENDS, Batch, attend, visibility
from mlm.models.dropout import dropout, fold_in

REMAT = ("none", "layers", "dots")
MACHINE = ("attention", "remat")  # settings of how a model is computed, which no file keeps
# `constrain(x[B, L, D]) -> x` says that rows stay whole with their devices, where parameters are
# split over several; the model knows where that is needed and nothing of the devices.
Constrain = Callable[[jax.Array], jax.Array]


@dataclasses.dataclass(frozen=True)
class DistilBertConfig:
    """The static settings of a model; the defaults are those of distilbert-base.

    Parameters, layer norms, softmax and the residual stream are always float32; `dtype` is the
    type that matrix products take and, inside the encoder, give.
    """

    vocabulary_size: int  # V
    layers: int = 6  # N
    width: int = 768  # D
    heads: int = 12  # H
    hidden: int = 3072  # F
    max_length: int = 512  # rows of the position table
    dropout: float = 0.1  # after the embeddings and after each feed-forward
    attention_dropout: float = 0.1  # on attention probabilities
    epsilon: float = 1e-12  # of the encoder's layer norms
    head_epsilon: float = 1e-12  # of the MLM head's layer norm; KerasHub has 1e-5 there
    initializer_stddev: float = 0.02  # of a normal that is not truncated
    dtype: str = "float32"  # or bfloat16
    attention: str = "einsum"  # one of BACKENDS; how it is computed, not what
    remat: str = "none"  # or what gradients compute again: 'layers', or all but their 'dots'

    def __post_init__(self):
        for name in ("vocabulary_size", "layers", "width", "heads", "hidden", "max_length"):
            _require(
                self, name, lambda value: isinstance(value, int) and value > 0, "an int above 0"
            )
        for name in ("dropout", "attention_dropout"):
            _require(self, name, lambda rate: 0 <= rate < 1, "in [0, 1); 0 turns it off")
        for name in ("epsilon", "head_epsilon", "initializer_stddev"):
            _require(self, name, lambda value: value > 0, "above 0")
        _require(self, "dtype", ("float32", "bfloat16").__contains__, "'float32' or 'bfloat16'")
        _require(self, "attention", BACKENDS.__contains__, f"one of {', '.join(BACKENDS)}")
        _require(self, "remat", REMAT.__contains__, f"one of {', '.join(REMAT)}")
        if self.width % self.heads:
            raise ValueError(
                f"heads={self.heads} does not divide width={self.width}; "
                "choose a width that is a multiple of heads"
            )


def _require(config: DistilBertConfig, name: str, holds, rule: str) -> None:
    value = getattr(config, name)
    if not holds(value):
        raise ValueError(f"{name}={value!r} is not possible; it must be {rule}")


def unchanged(x: jax.Array) -> jax.Array:
    """The `Constrain` of devices that have all parameters."""
    return x


class Linear(nnx.Module):
    """`float[..., inputs]` times a kernel, plus a bias from zero: `dtype[..., outputs]`."""

    def __init__(self, inputs: int, outputs: int, config: DistilBertConfig, *, rngs: nnx.Rngs):
        normal = nnx.initializers.normal(config.initializer_stddev)
        self.kernel = nnx.Param(normal(rngs.params(), (inputs, outputs), jnp.float32))
        self.bias = nnx.Param(jnp.zeros(outputs, jnp.float32))
        self.dtype = jnp.dtype(config.dtype)

    def __call__(self, x: jax.Array) -> jax.Array:
        kernel, bias = self.kernel[...].astype(self.dtype), self.bias[...].astype(self.dtype)
        # As one matrix over all tokens: on CPU the gradient of a batched product takes twice as
        # long, and nnx.Linear multiplies in batches.
        rows = x.astype(self.dtype).reshape(-1, x.shape[-1])
        return (rows @ kernel + bias).reshape(*x.shape[:-1], kernel.shape[1])


def layer_norm(config: DistilBertConfig, epsilon: float, rngs: nnx.Rngs) -> nnx.LayerNorm:
    """A layer `float[..., D] -> float32[..., D]`.

    The fast variance E[x^2] - E[x]^2 loses the digits that an epsilon of 1e-12 stands for.
    """
    return nnx.LayerNorm(
        config.width, epsilon=epsilon, dtype=jnp.float32, use_fast_variance=False, rngs=rngs
    )


class Embeddings(nnx.Module):
    """Word plus learned position embedding, normalised: `float32[B, L, D]`."""

    def __init__(self, config: DistilBertConfig, *, rngs: nnx.Rngs):
        normal = nnx.initializers.normal(config.initializer_stddev)
        word, position = (config.vocabulary_size, config.width), (config.max_length, config.width)
        self.word = nnx.Param(normal(rngs.params(), word, jnp.float32))
        self.position = nnx.Param(normal(rngs.params(), position, jnp.float32))
        self.norm = layer_norm(config, config.epsilon, rngs)
        self.rate = config.dropout

    def __call__(self, batch: Batch, key: jax.Array | None = None) -> jax.Array:
        x = jnp.take(self.word[...], batch["token_ids"], axis=0) + self._positions(batch)
        return dropout(self.norm(x), rate=self.rate, key=key)

    def _positions(self, batch: Batch) -> jax.Array:
        table, length = self.position[...], batch["token_ids"].shape[1]
        if length > len(table):
            raise ValueError(
                f"rows of {length} tokens exceed max_length={len(table)}; "
                "cut shorter rows or create the model with a larger max_length"
            )
        if "position_ids" in batch:
            return jnp.take(table, batch["position_ids"], axis=0)
        return table[:length]


class Attention(nnx.Module):
    """Multi-head self-attention over the visible positions: `dtype[B, L, D]`."""

    def __init__(self, config: DistilBertConfig, *, rngs: nnx.Rngs):
        self.query = Linear(config.width, config.width, config, rngs=rngs)
        self.key = Linear(config.width, config.width, config, rngs=rngs)
        self.value = Linear(config.width, config.width, config, rngs=rngs)
        self.out = Linear(config.width, config.width, config, rngs=rngs)
        self.heads = config.heads
        self.rate = config.attention_dropout
        self.backend = config.attention

    def __call__(
        self, x: jax.Array, visible: jax.Array | None, key: jax.Array | None = None
    ) -> jax.Array:
        query, keys, value = (
            layer(x).reshape(*x.shape[:2], self.heads, -1)
            for layer in (self.query, self.key, self.value)
        )
        mixed = attend(query, keys, value, visible, backend=self.backend, rate=self.rate, key=key)
        return self.out(mixed.reshape(x.shape))


class FeedForward(nnx.Module):
    """Two linear layers with an exact (erf) GELU between them: `dtype[B, L, D]`."""

    def __init__(self, config: DistilBertConfig, *, rngs: nnx.Rngs):
        self.up = Linear(config.width, config.hidden, config, rngs=rngs)
        self.down = Linear(config.hidden, config.width, config, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        return self.down(jax.nn.gelu(self.up(x), approximate=False))


class EncoderLayer(nnx.Module):
    """Attention and feed-forward, each added to its input, then normalised: `float32[B, L, D]`."""

    def __init__(self, config: DistilBertConfig, *, rngs: nnx.Rngs):
        self.attention = Attention(config, rngs=rngs)
        self.attention_norm = layer_norm(config, config.epsilon, rngs)
        self.feed_forward = FeedForward(config, rngs=rngs)
        self.feed_forward_norm = layer_norm(config, config.epsilon, rngs)
        self.rate = config.dropout

    def __call__(
        self, x: jax.Array, visible: jax.Array | None, key: jax.Array | None = None
    ) -> jax.Array:
        x = self.attention_norm(x + self.attention(x, visible, fold_in(key, 0)))
        y = dropout(self.feed_forward(x), rate=self.rate, key=fold_in(key, 1))
        return self.feed_forward_norm(x + y)


class DistilBertBackbone(nnx.Module):
    """Hidden states of a batch: `float32[B, L, D]`.

    The batch is a dict with `token_ids int32[B, L]` and, where they apply, `padding_mask
    bool[B, L]` (True is real; without it all are), `segment_ids int32[B, L]` (positions see only
    their own segment) and `position_ids int32[B, L]` (without it 0 to L - 1). With a `key`
    dropout is on. States at padded positions are finite but mean nothing.
    """

    def __init__(self, config: DistilBertConfig, *, rngs: nnx.Rngs):
        self.embeddings = Embeddings(config, rngs=rngs)
        self.layers = nnx.List(EncoderLayer(config, rngs=rngs) for _ in range(config.layers))
        self.attention, self.remat = config.attention, config.remat

    def __call__(
        self, batch: Batch, key: jax.Array | None = None, constrain: Constrain = unchanged
    ) -> jax.Array:
        return self.hidden_states(batch, key, constrain)[-1]

    def hidden_states(
        self, batch: Batch, key: jax.Array | None = None, constrain: Constrain = unchanged
    ) -> list[jax.Array]:
        """The embeddings and the output of every layer: N + 1 times `float32[B, L, D]`.

        Raises ValueError when L exceeds `max_length`.
        """
        visible = visibility(batch, self.attention)
        states = [constrain(self.embeddings(batch, fold_in(key, 0)))]
        for place, layer in enumerate(self.layers, start=1):
            run = checkpointed(layer, self.remat)
            states.append(constrain(run(states[-1], visible, fold_in(key, place))))
        return states


def checkpointed(layer: EncoderLayer, remat: str) -> Callable[..., jax.Array]:
    """The layer, of which a gradient keeps less and computes the rest again (arXiv:1604.06174).

    'layers' keeps what goes into it; 'dots' besides that the products with its kernels, so that
    attention, layer norms and GELU alone are computed twice. XLA's CPU compiler does not hold the
    second computation back, so on CPU it costs time and saves nothing.
    """
    if remat == "none":
        return layer
    graphdef, params = nnx.split(layer)
    policy = jax.checkpoint_policies.dots_with_no_batch_dims_saveable if remat == "dots" else None
    run = jax.checkpoint(
        lambda params, *inputs: nnx.merge(graphdef, params)(*inputs), policy=policy
    )
    return lambda *inputs: run(params, *inputs)
