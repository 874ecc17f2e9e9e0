"""DistilBERT base on one GPU: `python benchmarks/gpu.py [--torch] [--attention=cudnn]`.

First correctness: loss and gradient of a bfloat16 step against float32 with plain attention, on a
packed batch. It ends there, with exit code 1, if they differ by more than 2 %. Then speed: packed
rows of 128 and 512 tokens, 32,768 tokens a step or more, bfloat16 with float32 state, AdamW, no
dropout, mask slots drawn before: tokens per second, share of the peak, memory. With `--torch` the
same for transformers (compiled, bfloat16 autocast, logits at every position).

`--try_on_cpu` runs all of it at the size of a toy, to see that it works; its speeds mean nothing.
"""

import argparse
import dataclasses
import functools
import os
import sys
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from benchmarks.train_step_contenders import SIZES, Work, batches, our_steps, torch_step  # noqa: E402

TOLERANCE = 0.02  # of the loss, and of the gradient's length
SLOTS = {128: 20, 512: 80, 16: 4}


def main() -> int:
    args = arguments()
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # torch needs some too
    import jax

    device = jax.devices()[0]
    print(f"{device.device_kind}, jax {version('jax')}, attention {args.attention}")
    if device.platform != "gpu" and not args.try_on_cpu:
        print(f"error: jax computes on {device.platform}; install jax[cuda13], or --try_on_cpu")
        return 2
    shapes = [(8, 16)] if args.try_on_cpu else [(args.tokens // n, n) for n in (128, 512)]
    for rows, length in shapes:
        work = Work(args.size, rows, length, 0.0, args.steps, SLOTS[length])
        if not is_correct(work._replace(rows=min(rows, 16)), args.attention):
            return 1
    for rows, length in shapes:
        work = Work(args.size, rows, length, 0.0, args.steps, SLOTS[length])
        measure_ours(work, args.attention)
        if args.torch:
            measure_torch(work, "cpu" if args.try_on_cpu else "cuda")
    return 0


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--attention", default=None, help="cudnn on a GPU, einsum on a CPU")
    parser.add_argument("--tokens", type=int, default=65_536, help="in a step, padding included")
    parser.add_argument("--steps", type=int, default=20, help="that are timed")
    parser.add_argument("--torch", action="store_true", help="transformers too")
    parser.add_argument("--try_on_cpu", action="store_true")
    args = parser.parse_args()
    args.size = "nano" if args.try_on_cpu else "base"
    args.attention = args.attention or ("einsum" if args.try_on_cpu else "cudnn")
    return args


def packed(work: Work) -> list[dict]:
    """The batches with three segments in each row, as packing makes them."""
    import numpy as np

    made = batches(work)
    for batch in made:
        places = np.arange(work.length)
        bounds = np.array([0, work.length // 3, work.length // 2])
        segments = np.searchsorted(bounds, places, side="right")
        batch["segment_ids"] = np.tile(segments, (work.rows, 1)).astype(np.int32)
        batch["position_ids"] = np.tile(places - bounds[segments - 1], (work.rows, 1))
        batch["position_ids"] = batch["position_ids"].astype(np.int32)
        batch["padding_mask"] = np.ones(batch["token_ids"].shape, bool)
        batch["mask_weights"] = np.ones(batch["mask_ids"].shape, np.float32)
    return made


def settings(work: Work, attention: str, dtype: str = "bfloat16"):
    from mlm.models import DistilBertConfig

    layers, width, heads, hidden, vocabulary = SIZES[work.size]
    return DistilBertConfig(
        vocabulary, layers, width, heads, hidden, work.length, 0.0, 0.0, dtype=dtype,
        attention=attention,
    )  # fmt: skip


def is_correct(work: Work, attention: str) -> bool:
    """Whether loss and gradient of the fast way are those of the plain one."""
    import jax
    import optax

    from mlm import models
    from mlm.training.loss import masked_cross_entropy

    plain = settings(work, "einsum", "float32")
    _, params = models.create(plain, jax.random.key(0))
    batch = packed(work)[0]

    @functools.partial(jax.jit, static_argnums=1)
    def gradient(params, config):
        graphdef, _ = models.create_abstract(config)

        def loss(params):
            logits = models.apply(graphdef, params, batch)
            sums = masked_cross_entropy(logits, batch["mask_ids"], batch["mask_weights"])
            return sums.loss / sums.weight

        return jax.value_and_grad(loss)(params)

    with jax.default_matmul_precision("highest"):  # else a GPU multiplies in TF32
        wanted, right = gradient(params, plain)
    found, ours = gradient(params, settings(work, attention))
    difference = optax.tree.norm(jax.tree.map(lambda a, b: a - b, ours, right))
    error = float(difference / optax.tree.norm(right))
    good = abs(float(found - wanted)) <= TOLERANCE * float(wanted) and error <= TOLERANCE
    print(
        f"L={work.length}: loss {float(found):.5f}, float32 {float(wanted):.5f}; gradient differs "
        f"by {error:.2%}: {'ok' if good else f'WRONG, more than {TOLERANCE:.0%}'}"
    )
    return good


def measure_ours(work: Work, attention: str) -> None:
    import jax

    from mlm.training.flops import peak_flops, train_step_flops

    config = settings(work, attention)
    seconds = timed(our_steps(config, packed(work)), work.steps)
    sizes = dataclasses.asdict(config)
    sizes = {n: sizes[n] for n in ("layers", "width", "hidden", "vocabulary_size")}
    operations = train_step_flops(rows=work.rows, length=work.length, slots=work.slots, **sizes)
    peak = peak_flops(jax.devices()[0].device_kind)
    share = (
        f"{operations / seconds / peak:.1%} of {peak / 1e12:.0f}" if peak else "of no known peak"
    )
    stats = jax.devices()[0].memory_stats() or {}
    report("ours", work, seconds, stats.get("peak_bytes_in_use", 0))
    print(f"  {operations / seconds / 1e12:.3g} TFLOP/s, {share}")


def measure_torch(work: Work, device: str) -> None:
    """Rows of one segment: transformers' DistilBERT knows no others."""
    import torch

    seconds = timed(
        torch_step(work, compiled=device != "cpu", bf16=True, device=device), work.steps
    )
    memory = torch.cuda.max_memory_allocated() if device == "cuda" else 0
    report(
        f"transformers {version('transformers')}, torch {version('torch')}", work, seconds, memory
    )


def timed(run: Callable[[int], None], steps: int) -> float:
    """Seconds of a step, the least of three times."""
    run(3)
    seconds = []
    for _ in range(3):
        began = time.perf_counter()
        run(steps)
        seconds.append((time.perf_counter() - began) / steps)
    return min(seconds)


def report(name: str, work: Work, seconds: float, memory: int) -> None:
    print(
        f"{name}: {work.rows} x {work.length}, {1e3 * seconds:.1f} ms a step, "
        f"{work.rows * work.length / seconds:,.0f} tokens/s, peak memory so far "
        f"{memory / 2**30:.2f} GiB"
    )


if __name__ == "__main__":
    sys.exit(main())
