"""Masked tokens per second, ours and others': `python benchmarks/masking.py [--rounds=N] [--ours]`.

Prints versions, then for each shape our compile times and a table: million tokens per second with
padding, the median of the rounds and their range, how many times faster our exact masking is, and
how many times faster than transformers' whole words; each the median of the ratios of the rounds.
All run in one process, in turn, a second each. `--kinds=word,span` picks kinds of ours,
`--peers=transformers` the others.

`make bench-peers` installs the others; `taskset -c 0 python benchmarks/masking.py` is one core.
What they do differs:

    ours              row keys from (visit, example id); then ids, positions, labels and weights;
                      ids are on the device, and results are waited for every 16 calls; the kinds
                      are explained in masking_kinds.py
    KerasHub tf.data  the same four arrays, and ceil(rate * n) tokens per row as our exact count
    KerasHub call     the same four arrays, but a coin per token: another algorithm (0.32)
    transformers      ids and labels [B, L], no positions; a coin per token
      lists           rows of Python ints of unequal length, which the collator pads
      tensors, arrays only the masking, from int64[B, L] ids and special tokens' masks
      whole words     a coin per word, the same words as ours, from arrays and offsets; no random
                      ids
"""

import argparse
import gc
import importlib.util
import os
import platform
import re
import statistics
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from importlib.metadata import version
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parent.parent))

from benchmarks.masking_kinds import KINDS, our_contender  # noqa: E402
from benchmarks.masking_peers import (  # noqa: E402
    CLS,
    PAD,
    PEERS,
    SEP,
    VOCABULARY,
    WHOLE_WORDS,
    Contender,
    keras_hub_contenders,
    slots,
    transformers_contenders,
)

OURS = "ours, exact"
MAKERS = {"keras-hub": keras_hub_contenders, "transformers": transformers_contenders}


def main() -> None:
    args = parse_arguments()
    print_versions([name for peer in args.peers for name in PEERS[peer]])
    for batch, length in args.shapes:
        ids = make_ids(batch, length)
        print(f"\n{batch} x {length}, {slots(length)} slots per row")
        contenders = [our_contender(ids, kind) for kind in args.kinds]
        contenders += [contender for peer in args.peers for contender in MAKERS[peer](ids)]
        rounds = [one_round(contenders, ids, args.seconds) for _ in range(args.rounds)]
        print_table(rounds)
        print_bandwidth(statistics.median(r[OURS] for r in rounds), length)


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], allow_abbrev=False)
    parser.add_argument("--rounds", type=int, default=5, help="times that each contender is timed")
    parser.add_argument("--seconds", type=float, default=1.0, help="of each time, at least")
    parser.add_argument("--shapes", type=parse_shapes, default="256x128,256x512,32x512")
    parser.add_argument("--kinds", default=",".join(KINDS), help="of ours; exact is always there")
    parser.add_argument("--peers", default=",".join(PEERS), help="libraries to compare with")
    parser.add_argument("--ours", action="store_true", help="leave the peers out")
    args = parser.parse_args()
    if args.rounds < 1:
        parser.error(f"--rounds is {args.rounds}; give 1 or more")
    args.kinds = chosen(parser, "--kinds", f"exact,{args.kinds}", KINDS)
    args.peers = [] if args.ours else chosen(parser, "--peers", args.peers, PEERS)
    packages = [name for peer in args.peers for name in PEERS[peer]]
    missing = [name for name in packages if not importlib.util.find_spec(name.replace("-", "_"))]
    if missing:
        sys.exit(
            f"error: {', '.join(missing)} cannot be imported; `make bench-peers` installs them in "
            ".venv-peers, --ours leaves them out"
        )
    return args


def chosen(
    parser: argparse.ArgumentParser, flag: str, names: str, known: Iterable[str]
) -> list[str]:
    """The names between commas, each once."""
    picked = list(dict.fromkeys(names.split(",")))
    if unknown := [name for name in picked if name not in known]:
        parser.error(f"{flag} has {', '.join(unknown)}; choose from {','.join(known)}")
    return picked


def parse_shapes(text: str) -> list[tuple[int, int]]:
    """'256x128,32x512' as [(256, 128), (32, 512)]: rows and their length."""
    if not re.fullmatch(r"(,[1-9]\d*x[1-9]\d+)+", "," + text):
        raise argparse.ArgumentTypeError(f"{text!r} is not ROWSxLENGTH,... of 10 tokens or more")
    return [tuple(map(int, shape.split("x"))) for shape in text.split(",")]


def print_versions(peers: Sequence[str]) -> None:
    import jax

    device = jax.devices()[0].device_kind
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    names = (f"{name} {version(name)}" for name in ("jax", *peers))
    print(f"python {platform.python_version()}, {', '.join(names)}")
    print(f"{cores} cores may be used; jax computes on {device}")


def make_ids(batch: int, length: int) -> np.ndarray:
    """`int32[B, L]`: [CLS], random ids, [SEP]; every second row ends early and is padded."""
    rng = np.random.default_rng(0)
    ids = rng.integers(1000, VOCABULARY, (batch, length), dtype=np.int32)
    ends = np.full(batch, length)
    ends[1::2] = rng.integers(length // 4, length, len(ends[1::2]))
    ids[:, 0] = CLS
    ids[np.arange(batch), ends - 1] = SEP
    return np.where(np.arange(length) < ends[:, None], ids, PAD)


def one_round(contenders: Sequence[Contender], ids: np.ndarray, seconds: float) -> dict[str, float]:
    """Tokens per second of every contender, timed one after the other."""
    return {c.name: ids.size * batches_per_second(c, seconds) for c in contenders}


def batches_per_second(contender: Contender, seconds: float) -> float:
    chunk = contender.start()
    repeat(chunk, contender.settle)
    speed = repeat(chunk, seconds)
    del chunk  # and with it the iterator of a pipeline and its threads
    gc.collect()
    return speed


def repeat(chunk: Callable[[], int], seconds: float) -> float:
    """Batches per second of as many chunks as fill the time, one at least."""
    began, elapsed, batches = time.perf_counter(), 0.0, 0
    while elapsed < seconds:
        batches += chunk()
        elapsed = time.perf_counter() - began
    return batches / elapsed


def print_table(rounds: Sequence[dict[str, float]]) -> None:
    whole_words = WHOLE_WORDS in rounds[0]
    print(f"{'Mtok/s':34} median      min - max    exact / it" + "   it / words" * whole_words)
    for name in rounds[0]:
        speeds = [r[name] / 1e6 for r in rounds]
        span = f"{min(speeds):.2f} - {max(speeds):.2f}"
        line = f"{name:34}{statistics.median(speeds):7.2f}  {span:>16}{ratio(rounds, OURS, name)}"
        print(line + ratio(rounds, name, WHOLE_WORDS) * whole_words)


def ratio(rounds: Sequence[dict[str, float]], name: str, other: str) -> str:
    """The median of the rounds' ratios, in a column; nothing where one of them did not run."""
    if not {name, other} <= rounds[0].keys():
        return ""
    return f"{statistics.median(r[name] / r[other] for r in rounds):11.2f}"


def print_bandwidth(speed: float, length: int) -> None:
    """On an accelerator: what its memory would carry if every array crossed it once."""
    import jax

    if jax.default_backend() != "cpu":
        # int32 ids in and out; positions, labels and weights of four bytes for each slot.
        size = 4 * 2 + 4 * 3 * slots(length) / length
        print(f"{OURS}: {speed * size / 1e9:.1f} GB/s of ids in, ids out and slots")


if __name__ == "__main__":
    main()
