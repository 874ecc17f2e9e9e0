"""What a checkpoint and its digests cost: `python benchmarks/checkpoint.py [--folder=DIR]`.

DistilBERT base with the moments of Adam, three saves and restores of random numbers. Printed are
medians: how long the digests take, how long a save holds up training, when it is on disk, how long
a restore takes and how much of that is comparing digests. A disk's cache is part of all of it.
"""

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

import jax  # noqa: E402
import optax  # noqa: E402

from mlm.models import DistilBertConfig, create  # noqa: E402
from mlm.training.checkpoint import checkpoints_in, parts_of  # noqa: E402
from mlm.training.digests import changed_leaves, digests_of  # noqa: E402
from mlm.training.step import new_state  # noqa: E402

ROUNDS = 3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", help="where the checkpoints go; by default for temporary files")
    folder = parser.parse_args().folder
    sizes = DistilBertConfig(vocabulary_size=30522)  # the defaults are distilbert-base
    make = jax.jit(lambda key: new_state(create(sizes, key)[1], optax.adamw(1e-3)))
    state = jax.block_until_ready(make(jax.random.key(0)))
    leaves = jax.tree.leaves(parts_of(state))
    print(f"{sum(leaf.nbytes for leaf in leaves) / 1e6:.0f} MB in {len(leaves)} arrays")
    facts = digests_of(parts_of(state))  # compiles
    show("digests", [seconds(lambda: digests_of(parts_of(state))) for _ in range(ROUNDS)])
    with (
        tempfile.TemporaryDirectory(dir=folder) as place,
        checkpoints_in(Path(place)) as checkpoints,
    ):
        held, written = [], []
        for step in range(1, ROUNDS + 1):
            save = lambda step=step: checkpoints.save(step, state, interval={}, loss=None)  # noqa: E731
            held.append(seconds(save))
            written.append(held[-1] + seconds(checkpoints.wait))
        show("a save holds up training", held)
        show("and is on disk after", written)
        restore = lambda: jax.block_until_ready(checkpoints.restore(ROUNDS, state))  # noqa: E731
        show("a restore", [seconds(restore) for _ in range(ROUNDS)])
        compared = [seconds(lambda: changed_leaves(parts_of(state), facts)) for _ in range(ROUNDS)]
        show("of which comparing", compared)


def seconds(call: Callable) -> float:
    began = time.perf_counter()
    call()
    return time.perf_counter() - began


def show(what: str, values: list[float]) -> None:
    print(f"{what:<26} {statistics.median(values):.2f} s")


if __name__ == "__main__":
    main()
