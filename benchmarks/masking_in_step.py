"""Share of masking in a training step: `python benchmarks/masking_in_step.py --config=FILE`.

Prints the median seconds of the ordinary step, of the same step on batches that were masked
before, the median ratio of the pairs, and masking alone, compiled by itself. How it masks is up to
the config: `--config.masking.unit=span`.
"""

import itertools
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from mlm.allocator import keep_freed_memory  # noqa: E402
from mlm.cli import Parser, parse_with_config, run_command  # noqa: E402


def main(argv: Sequence[str]) -> None:
    parser = Parser(prog="benchmarks/masking_in_step.py", description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=20, help="pairs of steps that are timed")
    args, config = parse_with_config(parser, argv)
    keep_freed_memory()

    import jax

    from mlm import experiment

    built = experiment.build(config)
    mask = make_mask(config, built)
    batches = [built.run.put(built.run.batch_at(k)) for k in range(4)]
    began = time.perf_counter()
    masked = [jax.block_until_ready(mask(batches[0]))]
    print(f"first call of masking alone: {time.perf_counter() - began:.2f} s, compiling included")
    masked += [mask(batch) for batch in batches[1:]]

    ordinary = stepper(built.run.step, built.run.init_state(), batches)
    premasked = stepper(make_premasked_step(config, built), built.run.init_state(), masked)
    alone = masker(mask, batches)
    seconds = time_in_turn((ordinary, premasked, alone), args.steps)
    print_shares(*seconds)
    print(f"{args.steps} of each, in turn, on {jax.devices()[0].device_kind}")


def make_mask(config, built) -> Callable:
    """`mask(batch)`: the step's masking, jitted by itself."""
    import jax
    import jax.numpy as jnp

    from mlm import masks
    from mlm.training.sharding import by_row

    root = jax.random.key(config.seed, impl="threefry2x32")
    mask = masks.make_mask(config, built.text, root=root, total_steps=built.run.total_steps)
    table = built.run.init_state().mask_table
    return jax.jit(
        lambda batch: mask(batch, jnp.int32(0), table)[0], out_shardings=by_row(built.mesh)
    )


def make_premasked_step(config, built) -> Callable:
    """The step of `experiment.build`, except that it takes the masks that stand in the batch.

    What masking counts for the metrics is left out as well: it belongs to masking.
    """
    import jax
    import jax.numpy as jnp

    from mlm.settings import optimizer_settings
    from mlm.training.optimizer import make_optimizer, make_schedule
    from mlm.training.step import MaskCounts, make_train_step

    # How long the warm-up is does not matter for the time of a step.
    settings = optimizer_settings(config, warmup=1)
    schedule = make_schedule(settings, total_steps=built.run.total_steps)
    return make_train_step(
        built.apply,
        lambda batch, step, table: (batch, MaskCounts(*jnp.zeros(3))),
        make_optimizer(settings, schedule),
        schedule,
        dropout_key=jax.random.key(config.seed, impl="threefry2x32"),
        mesh=built.mesh,
        accumulation=config.train.accumulation,
    )


def stepper(step: Callable, state, batches: Sequence) -> Callable[[], object]:
    """`advance()`: one step on the next of the batches; what it returns can be waited for."""
    batches = itertools.cycle(batches)

    def advance():
        nonlocal state
        state, metrics = step(state, next(batches))
        return state, metrics

    return advance


def masker(mask: Callable, batches: Sequence) -> Callable[[], object]:
    batches = itertools.cycle(batches)
    return lambda: mask(next(batches))


def time_in_turn(calls: Sequence[Callable[[], object]], times: int) -> list[list[float]]:
    """Seconds of every call, `times` each; they take turns, and every other round runs backwards.

    A first round compiles and is not counted.
    """
    import jax

    seconds = [[] for _ in calls]
    for k in range(times + 1):
        for i in range(len(calls))[:: 1 if k % 2 else -1]:
            began = time.perf_counter()
            jax.block_until_ready(calls[i]())
            seconds[i].append(time.perf_counter() - began)
    return [each[1:] for each in seconds]


def print_shares(
    ordinary: Sequence[float], premasked: Sequence[float], alone: Sequence[float]
) -> None:
    median = statistics.median
    ratios = sorted(p / o for p, o in zip(premasked, ordinary, strict=True))
    middle_half = ratios[len(ratios) // 4], ratios[-1 - len(ratios) // 4]
    print(f"ordinary step {median(ordinary) * 1e3:.1f} ms, premasked {median(premasked) * 1e3:.1f}")
    print(
        f"premasked / ordinary, median of the pairs: {median(ratios):.3f}, half of them in "
        f"{middle_half[0]:.3f} to {middle_half[1]:.3f}"
    )
    share = median(alone) / median(ordinary)
    print(f"masking alone {median(alone) * 1e3:.2f} ms, {share:.2%} of the ordinary step")


if __name__ == "__main__":
    sys.exit(run_command(main))
