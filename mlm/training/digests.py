"""Fingerprints of arrays, which tell whether what comes back from a disk is what was saved.

Orbax finds a file that is cut short, but no changed byte of an array: it comes back as another
number. So a checkpoint holds a digest of each leaf, made from what lay on the devices, and compared
with what lies there after reading.

A digest is two sums modulo 2^32 over all elements: of the element's bits times an odd number that
stands for its place (one flipped bit always changes it), and of a hash of bits and place. Sums have
no order, so parts of an array are summed where they lie, and every mesh gives the same digest. The
hash is the finalizer of MurmurHash3, https://github.com/aappleby/smhasher.
"""

import functools
import hashlib
import math
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.experimental import multihost_utils

from mlm.training.freezing import leaf_paths

Facts = dict[str, dict[str, Any]]  # by path: {"shape": [2, 3], "dtype": "float32", "digest": hex}


def digests_of(tree: Any) -> Facts:
    """Shape, dtype and digest of each leaf by its path; of several processes all must ask.

    Args:
      tree: of arrays, on any devices.
    """
    sums, _ = _sums_of(jax.tree.leaves(tree))
    facts = shapes_of(tree)
    return {p: {**facts[p], "digest": _hex(s)} for p, s in zip(facts, sums, strict=True)}


def shapes_of(tree: Any) -> Facts:
    """Shape and dtype of each leaf by its path; the leaves may be shapes only."""
    leaves = zip(leaf_paths(tree), jax.tree.leaves(tree), strict=True)
    return {path: {"shape": list(x.shape), "dtype": str(x.dtype)} for path, x in leaves}


def changed_leaves(tree: Any, facts: Facts) -> list[str]:
    """The paths of leaves that have not the digest of `facts`; of several processes all must ask.

    A leaf that a process has whole is compared in each of them, others in all together.
    """
    paths, leaves = leaf_paths(tree), jax.tree.leaves(tree)
    return [
        path
        for path, *sums in zip(paths, *_sums_of(leaves), strict=True)
        if any(_hex(s) != facts[path]["digest"] for s in sums)
    ]


def total_of(facts: Mapping[str, Mapping[str, Any]]) -> str:
    """One digest for all of `facts`, 16 hex digits."""
    lines = [f"{p} {f['shape']} {f['dtype']} {f['digest']}\n" for p, f in sorted(facts.items())]
    return hashlib.sha256("".join(lines).encode()).hexdigest()[:16]


def _hex(sums: np.ndarray) -> str:
    return "".join(f"{int(s):08x}" for s in sums)


def _sums_of(leaves: list[jax.Array]) -> tuple[np.ndarray, np.ndarray]:
    """`uint32[N, 2]` twice: the sums of N leaves, and those of what this process has of them.

    Where it has only a part of a leaf, the second is the first.
    """
    # All are on their way before the first is waited for.
    parts = jax.device_get([_parts(jnp.asarray(leaf)) for leaf in leaves])
    once = np.array([_add(sums for sums, first, _ in part if first) for part in parts], np.uint32)
    here = np.array([_add(sums for sums, _, _ in part) for part in parts], np.uint32)
    once, here = once.reshape(-1, 2), here.reshape(-1, 2)
    if jax.process_count() == 1:
        return once, here
    everywhere = np.asarray(multihost_utils.process_allgather(once))
    once = everywhere.sum(axis=0, dtype=np.uint32)
    sizes = zip(leaves, parts, strict=True)
    whole = [sum(size for *_, size in part) == leaf.size for leaf, part in sizes]
    return once, np.where(np.reshape(whole, (-1, 1)), here, once)


def _add(sums) -> np.ndarray:
    return sum(sums, np.zeros(2, np.uint32))


def _parts(leaf: jax.Array) -> list[tuple[jax.Array, bool, int]]:
    """The sums of each part that lies here, whether it counts for all processes, and its size.

    Of the replicas of a part one is taken, and of those in all processes one counts.
    """
    strides = [math.prod(leaf.shape[axis + 1 :]) for axis in range(leaf.ndim)]
    parts = {}
    for shard in sorted(leaf.addressable_shards, key=lambda shard: shard.replica_id):
        begins = [s.start or 0 for s in shard.index]
        begin = sum(b * stride for b, stride in zip(begins, strides, strict=True))
        if begin not in parts:
            sums = _sums(shard.data, np.uint32(begin % 2**32), shape=leaf.shape)
            parts[begin] = sums, shard.replica_id == 0, shard.data.size
    return list(parts.values())


@functools.partial(jax.jit, static_argnames="shape")
def _sums(part: jax.Array, begin: jax.Array, *, shape: tuple[int, ...]) -> jax.Array:
    """`uint32[2]`: the two sums over a part of an array of this shape; its first place is given."""
    place = jnp.full(part.shape, begin, jnp.uint32)
    for axis in range(part.ndim):
        stride = np.uint32(math.prod(shape[axis + 1 :]) % 2**32)
        place += lax.broadcasted_iota(jnp.uint32, part.shape, axis) * stride
    bits, place = _bits(part), _mixed(place)
    return jnp.stack(
        [
            jnp.sum(bits * (place | 1), dtype=jnp.uint32),
            jnp.sum(_mixed(bits ^ place), dtype=jnp.uint32),
        ]
    )


def _bits(values: jax.Array) -> jax.Array:
    """The bits of each element as uint32."""
    if values.dtype == jnp.bool_:
        return values.astype(jnp.uint32)
    kind = {1: jnp.uint8, 2: jnp.uint16}.get(values.dtype.itemsize, jnp.uint32)
    bits = lax.bitcast_convert_type(values, kind).astype(jnp.uint32)
    if bits.ndim == values.ndim:
        return bits
    return bits[..., 0] ^ _mixed(bits[..., 1])  # of 64 bits


def _mixed(x: jax.Array) -> jax.Array:
    for shift, factor in ((16, 0x85EBCA6B), (13, 0xC2B2AE35)):
        x = (x ^ (x >> shift)) * np.uint32(factor)
    return x ^ (x >> 16)
