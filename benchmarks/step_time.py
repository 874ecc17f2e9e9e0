"""Seconds per training step: `python benchmarks/step_time.py --config=FILE [--steps=N]`.

Prints the median and the minimum of N steps after the first, which compiles, and peak memory.
"""

import resource
import statistics
import sys
import time
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from mlm.allocator import keep_freed_memory, use_one_heap  # noqa: E402
from mlm.cli import Parser, parse_with_config, run_command  # noqa: E402


def main(argv: Sequence[str]) -> None:
    parser = Parser(prog="benchmarks/step_time.py", description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=5, help="steps that are timed")
    parser.add_argument("--plain_malloc", action="store_true", help="without keep_freed_memory")
    args, config = parse_with_config(parser, argv)
    one_heap = not args.plain_malloc and use_one_heap()

    import jax

    from mlm import experiment

    run = experiment.build(config).run
    step = keep_freed_memory(run.step) if one_heap else run.step
    batches = [run.put(run.batch_at(k)) for k in range(min(4, args.steps))]
    state, seconds = run.init_state(), []
    for k in range(args.steps + 1):
        began = time.perf_counter()
        state, metrics = step(state, batches[k % len(batches)])
        jax.block_until_ready(metrics)
        seconds.append(time.perf_counter() - began)
    median = statistics.median(seconds[1:])
    print(
        f"first step {seconds[0]:.1f} s; then median {median:.3f} s, min {min(seconds[1:]):.3f} s"
    )
    print(
        f"{run.slots / median:,.0f} tokens/s, padding included, on {jax.devices()[0].device_kind}"
    )
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(f"peak memory of the process {peak:.2f} GiB")


if __name__ == "__main__":
    sys.exit(run_command(main))
