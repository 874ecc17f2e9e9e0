"""Random bits at any counter: threefry-2x32 with its 20 rounds written out.

The bits are those of `jax.random.bits`, which on CPU runs the rounds in a loop, takes two to four
times as long and always draws from counter 0 on; a mask slot draws at the position it holds.
Algorithm and constants: Salmon et al., "Parallel random numbers: as easy as 1, 2, 3" (SC 2011).
"""

import jax
import jax.numpy as jnp
import numpy as np

ROTATIONS = ((13, 15, 26, 6), (17, 29, 16, 24))
KEY_PARITY = np.uint32(0x1BD11BDA)


def threefry_bits(key_words: jax.Array, counters: jax.Array) -> jax.Array:
    """`uint32[B, N]`: the bits that `jax.random.bits` gives at each counter.

    Args:
      key_words: `uint32[B, 2]`, `jax.random.key_data` of a key per row. Do not compute them by
        threefry written out as here: XLA repeats chained rounds, and compiles for minutes.
      counters: `uint32[B, N]` or `uint32[1, N]`.
    """
    first, second = key_words[:, :1], key_words[:, 1:]
    keys = (first, second, first ^ second ^ KEY_PARITY)
    # JAX counts in 64 bits; the upper word is 0 for every row shorter than 2^32.
    x, y = keys[0], counters + keys[1]
    for block in range(5):
        for rotation in ROTATIONS[block % 2]:
            x = x + y
            y = x ^ _rotate_left(y, rotation)
        x = x + keys[(block + 1) % 3]
        y = y + keys[(block + 2) % 3] + jnp.uint32(block + 1)
    return x ^ y


def _rotate_left(words: jax.Array, by: int) -> jax.Array:
    return (words << jnp.uint32(by)) | (words >> jnp.uint32(32 - by))
