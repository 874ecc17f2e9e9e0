"""Scaled dot-product attention (arXiv:1706.03762) in four ways that give the same numbers.

- `einsum`: two products and a softmax between them, on any device; the one that has dropout.
- `xla`: `jax.nn.dot_product_attention`, on any device.
- `cudnn`: cuDNN's flash attention, on NVIDIA GPUs in bfloat16; never holds `[B, H, L, L]`.
- `splash`: JAX's Pallas kernel for TPUs, which takes segment ids instead of a mask.

B batch, L length, H heads, K head width.
"""

import math
from collections.abc import Mapping, Sequence

import jax
import jax.numpy as jnp

from mlm.models.dropout import dropout

Batch = Mapping[str, jax.Array]
BACKENDS = ("einsum", "cudnn", "splash", "xla")
LANES = 128  # of a TPU: splash works on tiles of so many queries and keys


def attention_mask(batch: Batch) -> jax.Array | None:
    """Which keys a query may see: `bool[B, 1, L or 1, L]`, or None when all may see all."""
    visible = None
    if "padding_mask" in batch:
        visible = batch["padding_mask"][:, None, None, :]
    if "segment_ids" in batch:
        segment = batch["segment_ids"]
        same = segment[:, None, :, None] == segment[:, None, None, :]
        visible = same if visible is None else same & visible
    return visible


def attention_groups(batch: Batch) -> jax.Array | None:
    """Positions that see each other share a number: `int32[B, L]`, or None when all may see all.

    Padding is a group of its own. Real queries see what `attention_mask` shows them.
    """
    groups = None
    if "segment_ids" in batch:
        groups = batch["segment_ids"]
    if "padding_mask" in batch:
        real = batch["padding_mask"]
        groups = jnp.where(real, 0 if groups is None else groups, jnp.iinfo(jnp.int32).min)
    return groups


def visibility(batch: Batch, backend: str) -> jax.Array | None:
    """What `attend` takes as `visible`: groups for splash, a mask for the others."""
    return attention_groups(batch) if backend == "splash" else attention_mask(batch)


def attend(
    query: jax.Array,
    keys: jax.Array,
    value: jax.Array,
    visible: jax.Array | None,
    *,
    backend: str = "einsum",
    rate: float = 0.0,
    key: jax.Array | None = None,
) -> jax.Array:
    """Values mixed by the softmax of scaled scores: `dtype[B, L, H, K]`, scores in float32.

    Args:
      query, keys, value: `dtype[B, L, H, K]`.
      visible: from `visibility(batch, backend)`. A query that may see nothing gives finite numbers.
      backend: one of `BACKENDS`.
      rate, key: dropout on the probabilities, which `einsum` alone has.

    Raises:
      ValueError: the backend has no dropout, or cannot take these shapes or types.
    """
    if backend == "einsum":
        return _einsum(query, keys, value, visible, rate=rate, key=key)
    if rate and key is not None:
        raise ValueError(
            f"attention {backend!r} has no dropout, attention_dropout is {rate}; make it 0 or "
            "choose 'einsum'"
        )
    if problem := obstacle(
        backend, dtype=query.dtype.name, width=query.shape[-1], lengths=[query.shape[1]]
    ):
        raise ValueError(f"attention {backend!r} {problem}; choose 'einsum'")
    if backend == "splash":
        return _splash(query, keys, value, visible)
    if visible is not None and backend == "cudnn":  # it takes no mask that broadcasts over queries
        visible = jnp.broadcast_to(visible, (*visible.shape[:2], query.shape[1], keys.shape[1]))
    return jax.nn.dot_product_attention(query, keys, value, mask=visible, implementation=backend)


def obstacle(backend: str, *, dtype: str, width: int, lengths: Sequence[int]) -> str:
    """Why a backend cannot take such arrays ('takes bfloat16, not float32'); empty if it can.

    The rules are those of jax 0.10: its checks before cuDNN is called, and splash's tiles.

    Args:
      width: K.
      lengths: every L.
    """
    if backend == "cudnn":
        if dtype != "bfloat16":
            return f"takes bfloat16, not {dtype}"
        if width > 128 or width % 8:
            return f"takes heads of a multiple of 8 up to 128 wide, not {width}"
        if odd := [n for n in lengths if n % 2]:
            return f"takes rows of an even length, not {odd[0]}"
    if backend == "splash" and (uneven := [n for n in lengths if n % LANES]):
        return f"takes rows of a multiple of {LANES} tokens, not {uneven[0]}"
    return ""


def _einsum(query, keys, value, visible, *, rate, key) -> jax.Array:
    scores = jnp.einsum("blhk,bmhk->bhlm", query, keys, preferred_element_type=jnp.float32)
    scores /= math.sqrt(query.shape[-1])
    if visible is not None:
        # Finite, so that a query that may see nothing attends evenly instead of giving NaN.
        scores = jnp.where(visible, scores, jnp.finfo(jnp.float32).min)
    weights = dropout(jax.nn.softmax(scores), rate=rate, key=key)
    return jnp.einsum("bhlm,bmhk->blhk", weights.astype(value.dtype), value)


def _splash(query, keys, value, groups, *, interpret: bool = False) -> jax.Array:
    """Splash attention, a row at a time; `interpret` runs the kernel as plain JAX, for tests."""
    # Here, because importing Pallas takes half a second that other backends need not wait.
    from jax.experimental.pallas.ops.tpu.splash_attention import (
        FullMask,
        MultiHeadMask,
        SegmentIds,
        make_splash_mha_single_device,
    )

    length, heads, width = query.shape[1:]
    mask = MultiHeadMask([FullMask((length, length))] * heads)
    kernel = make_splash_mha_single_device(mask, interpret=interpret)
    query = (query.astype(jnp.float32) / math.sqrt(width)).astype(query.dtype)
    rows = [x.swapaxes(1, 2) for x in (query, keys, value)]  # [B, H, L, K]
    if groups is None:
        mixed = jax.vmap(kernel)(*rows)
    else:
        mixed = jax.vmap(lambda q, k, v, g: kernel(q, k, v, SegmentIds(g, g)))(*rows, groups)
    return mixed.swapaxes(1, 2)
