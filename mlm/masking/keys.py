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
import numpy as np

from mlm.masking.threefry import threefry_bits


class Stream(enum.IntEnum):
    """The ingredients that draw; numbers are part of the mask's definition and never reused."""

    SELECTION = 0  # which tokens
    COUNT = 1  # how many, where that is random
    CORRUPTION = 2  # [MASK], random or kept
    RANDOM_ID = 3  # which random id
    UNITS = 4  # how long spans and n-grams are
    RATE = 5  # a row's own rate
    OWN_UNITS = 6  # whatever the user's units draw
    OWN_WEIGHTS = 7  # whatever the user's weights draw


def row_keys(root: jax.Array, visits: jax.Array | int, example_ids: jax.Array) -> jax.Array:
    """`key[B]`, one per row: `fold_in(fold_in(root, visit), example_id)`.

    Args:
      root: one threefry key (`jax.random.key(seed)`).
      visits: `int32[B]` or int; how often each row has been seen before. The visit itself gives
        dynamic masks (RoBERTa, arXiv:1907.11692), 0 static ones, `visit % k` k patterns in turn.
      example_ids: `int32[B]`, the row's index in its plan.

    Raises:
      ValueError: for anything but integers that 32 bits hold, other shapes, and keys other than
        threefry, whose draws depend on batching or sharding.
    """
    check_keys(root)
    if root.ndim:
        raise ValueError(f"root is {root.shape} keys; give one, for all rows")
    example_ids, visits = _read_ids("example_ids", example_ids), _read_ids("visits", visits)
    if example_ids.ndim != 1 or visits.shape not in ((), example_ids.shape):
        raise ValueError(
            f"example_ids have shape {example_ids.shape} and visits {visits.shape}; give int32[B], "
            "and visits of the same shape or one int"
        )
    visits = jnp.broadcast_to(visits, example_ids.shape)
    fold = jax.vmap(lambda visit, i: jax.random.fold_in(jax.random.fold_in(root, visit), i))
    return fold(visits, example_ids)


def _read_ids(name: str, ids: jax.Array | int) -> jax.Array:
    """An integer array; wider ones would be cut to 32 bits, and rows would share their masks."""
    if not isinstance(ids, jax.Array):
        ids = np.asarray(ids)
    if not jnp.issubdtype(ids.dtype, jnp.integer):
        raise ValueError(f"{name} are {ids.dtype}; give integers")
    if isinstance(ids, np.ndarray) and ids.size and not 0 <= ids.min() <= ids.max() < 2**31:
        raise ValueError(f"{name} reach from {ids.min()} to {ids.max()}; give 0 to 2^31 - 1")
    return ids if isinstance(ids, jax.Array) else jnp.asarray(ids, jnp.int32)


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
    """Raises ValueError unless `keys` are new-style threefry keys."""
    dtype = getattr(keys, "dtype", type(keys).__name__)
    if not isinstance(keys, jax.Array) or not jnp.issubdtype(dtype, jax.dtypes.prng_key):
        raise ValueError(
            f"keys are {dtype}; make them with jax.random.key(seed), or of an old key with "
            "jax.random.wrap_key_data"
        )
    if "fry" not in str(dtype):
        raise ValueError(
            f"keys are {dtype}; masks need threefry keys, jax.random.key(seed, "
            "impl='threefry2x32'), whose draws do not depend on the batch or the mesh"
        )
