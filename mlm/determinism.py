"""Bit-exact runs on a GPU: what XLA must be told for it, and what differs when it is not told.

On CPU and TPU a program gives the same bits each time. On a GPU, XLA adds up in no fixed order
where that is faster (scatters, which is the gradient of the word embedding, and some reductions),
and picks kernels by timing them, so that two processes may run different ones.
"""

import os
import sys

# The first forbids such operations; the second takes XLA's own choice of a kernel, untimed.
FLAGS = ("--xla_gpu_deterministic_ops=true", "--xla_gpu_autotune_level=0")


def make_deterministic(wanted: bool) -> None:
    """Sets XLA's flags for bit-exact runs on GPUs; elsewhere they change nothing.

    XLA reads them when jax starts, so this must come before jax is imported.

    Raises:
      RuntimeError: it comes too late.
    """
    if not wanted:
        return
    given = os.environ.get("XLA_FLAGS", "")
    missing = [flag for flag in FLAGS if flag not in given.split()]
    if missing and "jax" in sys.modules:
        raise RuntimeError(
            "jax was imported before config.deterministic could be set; start Python with "
            f"XLA_FLAGS='{' '.join(FLAGS)}'"
        )
    os.environ["XLA_FLAGS"] = " ".join([given, *missing]).strip()


def flags_are_set() -> bool:
    """Whether XLA was told, or will be."""
    return set(FLAGS) <= set(os.environ.get("XLA_FLAGS", "").split())


def not_bit_exact(platform: str, *, deterministic: bool) -> str:
    """What a second run of the same config on this machine may not repeat; empty if nothing."""
    if deterministic or platform not in ("cuda", "rocm"):
        return ""
    return (
        "not bit-exact on this GPU: sums in gradients (word embedding, attention) have no fixed "
        "order, and XLA picks kernels by timing them, so losses of a second run differ in their "
        "last digits; batches and masks are the same. --config.deterministic=True repeats every bit"
    )
