"""Scores of a weighted race, in integer arithmetic: the same bits on every device.

Who runs with speed w arrives after an exponential time divided by w, and the first n to arrive are
a weighted sample without replacement (Efraimidis and Spirakis, 2006; by its logarithm, the
Gumbel-top-k trick, arXiv:1903.06059). Floating-point logarithms differ in their last bit between
devices, and with it now and then who is first; a table of integers does not.
B batch, L length, V vocabulary.
"""

import jax
import jax.numpy as jnp
import numpy as np

from mlm.masking.smallest import NEVER
from mlm.masking.units import Units

# log2(1 + i / 4096) in units of 2^-26; between its entries a straight line errs by 1e-8 at most.
LOG2 = np.round(np.log2(1 + np.arange(2**12 + 1) / 2**12) * 2**26).astype(np.uint32)
# Weights below 2^-224 of the largest of their row count as that much.
RANGE = 224
# Bits that a token's weight has behind the point where the weights of a unit are added up.
UNIT_BITS = 12


def race_scores(bits: jax.Array, handicap: jax.Array) -> jax.Array:
    """`uint32[B, L]`: log2 of arrival times in units of 2^-24; the smaller, the earlier.

    Args:
      bits: `uint32[B, L]`, random.
      handicap: `uint32[B, L]` from `handicaps`.
    """
    # -log2 of a uniform number in (0, 1], in units of 2^-26.
    time = np.uint32(32 << 26) - log2_fixed(jnp.maximum(bits, 1))
    return (log2_fixed(jnp.maximum(time, 1)) >> 2) + handicap


def handicaps(weights: jax.Array, units: Units) -> jax.Array:
    """`uint32[B, L]`: log2 of the row's largest weight over each unit's, in units of 2^-24.

    A unit's weight is the geometric mean of its tokens'. `NEVER` where it is 0.

    Args:
      weights: `float32[B, L]`, 0 or more; negative ones and NaN count as 0.
    """
    runs = units.selectable & (weights >= np.finfo(np.float32).tiny)
    logs = jnp.where(runs, _log2_of_float(weights), 0)
    largest = jnp.max(logs, axis=1, keepdims=True, initial=0)
    if units.are_tokens:
        behind = largest - logs
        behind = jnp.minimum(behind, np.uint32(RANGE << 24))
        return jnp.where(runs, behind, NEVER)
    behind = (largest >> (24 - UNIT_BITS)) - (logs >> (24 - UNIT_BITS))
    behind = jnp.minimum(behind, np.uint32(RANGE << UNIT_BITS))
    behind = units.total(jnp.where(runs, behind, 0)) // units.lengths.astype(jnp.uint32)
    stay = units.total((~runs).astype(jnp.uint32))
    return jnp.where(stay > 0, NEVER, behind << (24 - UNIT_BITS))


def log2_fixed(numbers: jax.Array) -> jax.Array:
    """`uint32`: log2 of integers from 1 on, in units of 2^-26."""
    zeros = jax.lax.clz(numbers)
    fraction = (numbers << zeros) << 1  # without its leading one
    return ((31 - zeros) << 26) + _log2_of_fraction(fraction)


def _log2_of_float(numbers: jax.Array) -> jax.Array:
    """`uint32`: 127 + log2 of normal positive floats, in units of 2^-24."""
    bits = jax.lax.bitcast_convert_type(numbers.astype(jnp.float32), jnp.uint32)
    return ((bits >> 23) << 24) + (_log2_of_fraction(bits << 9) >> 2)


def _log2_of_fraction(fraction: jax.Array) -> jax.Array:
    """`uint32`: log2(1 + fraction / 2^32) in units of 2^-26, below 2^26."""
    table, index = jnp.asarray(LOG2), fraction >> 20
    low, high = table[index], table[index + 1]
    return low + (((high - low) * ((fraction >> 4) & 0xFFFF)) >> 16)
