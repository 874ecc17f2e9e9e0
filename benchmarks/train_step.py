"""Our training step beside the peers': `python benchmarks/train_step.py [--size=base] [--rows=2]`.

Every contender is a process of its own with the same batches, masked before; they take turns of
`--steps` steps, so that a busy machine disturbs all alike. Printed are the median seconds of a
step, the median of the rounds' ratios to ours, the first call with compiling, and peak memory.
`--keras_python` and `--torch_python` are the interpreters that have those libraries.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from benchmarks.train_step_contenders import CONTENDERS  # noqa: E402

SLOTS = {128: 20, 512: 80}  # mask slots of a row


def main() -> int:
    args = arguments()
    contenders = {name: start(name, args) for name in args.contenders.split(",")}
    first = {name: json.loads(answer(name, process)) for name, process in contenders.items()}
    rounds = []
    for _ in range(args.rounds):
        rounds.append({name: turn(name, process) for name, process in contenders.items()})
    memory = {name: finish(name, process) for name, process in contenders.items()}
    show(args, rounds, first, memory)
    return 0


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--size", choices=("nano", "tiny", "base"), default="tiny")
    parser.add_argument("--rows", type=int, default=8)
    parser.add_argument("--length", type=int, default=128)
    parser.add_argument("--dropout", type=float, default=0.0, help="everywhere, attention included")
    parser.add_argument("--steps", type=int, default=3, help="in a turn")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--contenders", default=",".join(CONTENDERS))
    parser.add_argument("--keras_python", default=sys.executable)
    parser.add_argument("--torch_python", default=sys.executable)
    args = parser.parse_args()
    unknown = sorted({*args.contenders.split(",")} - {*CONTENDERS})
    if unknown or args.contenders.split(",")[0] != "ours":
        parser.error(
            f"--contenders is {args.contenders}; 'ours', then some of {', '.join(CONTENDERS)}"
        )
    return args


def start(name: str, args: argparse.Namespace) -> subprocess.Popen:
    """The contender's process; it answers its first call once it has compiled."""
    python = {"keras": args.keras_python, "torch": args.torch_python}.get(name.split("_")[0])
    slots = SLOTS.get(args.length, max(1, args.length * 15 // 100 + 1))
    facts = {n: getattr(args, n) for n in ("size", "rows", "length", "dropout", "steps")}
    return subprocess.Popen(
        [
            python or sys.executable,
            str(Path(__file__).with_name("train_step_contenders.py")),
            name,
            json.dumps(facts | {"slots": slots}),
        ],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"KERAS_BACKEND": "jax"},
    )


def answer(name: str, process: subprocess.Popen) -> str:
    """The next line that is an answer; libraries may print others."""
    for line in process.stdout:
        if line.startswith("answer "):
            return line.removeprefix("answer ")
    raise SystemExit(f"{name} ended with exit code {process.wait()}")


def turn(name: str, process: subprocess.Popen) -> float:
    process.stdin.write("turn\n")
    process.stdin.flush()
    return float(answer(name, process))


def finish(name: str, process: subprocess.Popen) -> float:
    """The peak memory in GiB."""
    process.stdin.close()
    peak = float(answer(name, process))
    process.wait()
    return peak


def show(args, rounds: list[dict], first: dict, memory: dict) -> None:
    load = ", ".join(f"{value:.1f}" for value in os.getloadavg())
    print(
        f"{args.size}, {args.rows} x {args.length}, dropout {args.dropout}, {args.rounds} rounds "
        f"of {args.steps} steps; load {load}"
    )
    print(f"{'':20}{'seconds':>10}{'min':>10}{'/ ours':>9}{'first call':>12}{'GiB':>7}  versions")
    for name in first:
        seconds = [turns[name] for turns in rounds]
        ratio = statistics.median(turns[name] / turns["ours"] for turns in rounds)
        print(
            f"{name:20}{statistics.median(seconds):10.3f}{min(seconds):10.3f}{ratio:9.2f}"
            f"{first[name]['seconds']:12.1f}{memory[name]:7.2f}  {first[name]['versions']}"
        )


if __name__ == "__main__":
    sys.exit(main())
