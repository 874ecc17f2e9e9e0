"""Settings of the C library that make training steps on CPU a quarter shorter.

XLA allocates the temporary memory of a step anew each time (200 MB for the quickstart), and glibc
hands such blocks back to the kernel, which clears every page again at the next step: 50,000 page
faults and half a core of system time per step. Kept in one heap, the memory is reused.

It is kept from the second step on: what compiling leaves behind would lie between the blocks of
steps for good, half a gigabyte of it.
"""

import ctypes
import importlib.util
import itertools
import sys
from collections.abc import Callable
from importlib.metadata import entry_points

# Parameters of mallopt(3), from malloc.h.
M_TRIM_THRESHOLD, M_MMAP_MAX, M_ARENA_MAX = -1, -4, -8


def use_one_heap() -> bool:
    """Gives all threads one heap, as `keep_freed_memory` needs; True if that was done.

    It must run before jax is imported, and does so only where jax will compute on the CPU: one heap
    for all threads would slow down the host's work beside an accelerator.
    """
    accelerator = entry_points(group="jax_plugins") or importlib.util.find_spec("libtpu")
    if accelerator or "jax" in sys.modules or not hasattr(ctypes.CDLL(None), "mallopt"):
        return False
    return bool(ctypes.CDLL(None).mallopt(M_ARENA_MAX, 1))


def keep_freed_memory(step: Callable) -> Callable:
    """`step`, which from its second call on keeps what it frees; the first one compiles.

    To be used where `use_one_heap` was.
    """
    calls = itertools.count()

    def kept(*args):
        if next(calls) == 1:
            libc = ctypes.CDLL(None)
            libc.malloc_trim(0)  # what the compiler left
            libc.mallopt(M_MMAP_MAX, 0)
            libc.mallopt(M_TRIM_THRESHOLD, 2**31 - 1)
        return step(*args)

    return kept
