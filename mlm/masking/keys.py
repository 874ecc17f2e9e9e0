"""Where every random bit of a mask comes from.

A mask is a pure function of (root key, visit, example id): the root is folded with how often the
example was seen before and with the example's id, and each ingredient of the mask folds its own
stream number into that. So the same example gets the same mask in any batch, on any device and
after any restart, and changing one ingredient leaves the draws of the others alone. The idea of
seeding by (seed, epoch, index) is fairseq's `MaskTokensDataset`; here it runs on device, in jit.
"""

import enum

import jax
import jax.numpy as jnp

from mlm.masking.threefry import threefry_bits


class Stream(enum.IntEnum):
    """The ingredients that draw; numbers are part of the mask's definition and never reused."""

    SELECTION = 0  # which tokens
    COUNT = 1  # how many, where that is random
    CORRUPTION = 2  # [MASK], random or kept
    RANDOM_ID = 3  # which random id


def row_keys(root: jax.Array, visits: jax.Array | int, example_ids: jax.Array) -> jax.Array:
    """`key[B]`, one per row: `fold_in(fold_in(root, visit), example_id)`.

    Args:
      root: one threefry key (`jax.random.key(seed)`).
      visits: `int32[B]` or int; how often each row has been seen before. The visit itself gives
        dynamic masks (RoBERTa, arXiv:1907.11692), 0 static ones, `visit % k` k patterns in turn.
      example_ids: `int32[B]`, the row's index in its plan.

    Raises:
      ValueError: for keys other than threefry, whose draws depend on batching or sharding, and
        with `jax_threefry_partitionable` off, which gives other bits.
    """
    check_keys(root)
    visits = jnp.broadcast_to(visits, jnp.shape(example_ids))
    fold = jax.vmap(lambda visit, i: jax.random.fold_in(jax.random.fold_in(root, visit), i))
    return fold(visits, example_ids)


def draw_bits(keys: jax.Array, stream: Stream, positions: jax.Array) -> jax.Array:
    """`uint32[B, N]`: random bits of a row's key, a stream and a position, and of nothing else.

    Args:
      keys: `key[B]`.
      stream: what is drawn.
      positions: `uint32[B, N]` or `uint32[1, N]`; draws are counter-based, so a longer row begins
        with the bits of a shorter one, and a slot draws what its position would have drawn.
    """
    folded = jax.vmap(lambda key: jax.random.fold_in(key, stream))(keys)
    return threefry_bits(jax.random.key_data(folded), positions)


def unit_interval(bits: jax.Array) -> jax.Array:
    """`float32` in [0, 1) from the upper 24 of 32 random bits, each value exact."""
    return (bits >> 8).astype(jnp.float32) * jnp.float32(2**-24)


def check_keys(keys: jax.Array) -> None:
    """Raises ValueError unless `keys` are new-style threefry keys with partitionable draws."""
    if not jnp.issubdtype(keys.dtype, jax.dtypes.prng_key):
        raise ValueError(f"keys have dtype {keys.dtype}; make them with jax.random.key(seed)")
    if "fry" not in str(keys.dtype):
        raise ValueError(
            f"keys are {keys.dtype}; masks need threefry keys, jax.random.key(seed, "
            "impl='threefry2x32'), whose draws do not depend on the batch or the mesh"
        )
    if not jax.config.jax_threefry_partitionable:
        raise ValueError(
            "jax_threefry_partitionable is off, which gives other masks; remove that setting"
        )
