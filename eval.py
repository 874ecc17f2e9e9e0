"""Evaluates a run: `python eval.py --workdir=DIR [--step=N] [--fill="The [MASK] ..."]`.

Without --fill it measures the frozen-mask losses of the newest checkpoint and writes eval.json.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

from mlm.cli import Parser, make_console, run_command
from mlm.config import from_flat
from mlm.errors import CheckpointError
from mlm.training.workdir import read_json, write_json


def main(argv: Sequence[str]) -> None:
    parser = Parser(prog="eval.py", description=__doc__.splitlines()[0])
    parser.add_argument("--workdir", required=True, help="folder of a run of train.py")
    parser.add_argument("--step", type=int, help="a checkpoint; by default the newest")
    parser.add_argument("--fill", action="append", default=[], help="text with [MASK] to complete")
    parser.add_argument("--top_k", type=int, default=5, help="candidates per [MASK]")
    args = parser.parse_args(argv)
    run(args.workdir, step=args.step, fill=args.fill, top_k=args.top_k)


def run(
    workdir: str | Path, *, step: int | None = None, fill: Sequence[str] = (), top_k: int = 5
) -> None:
    """Completes the texts of `fill`, or without any evaluates into `workdir`/eval.json."""
    workdir = Path(workdir)
    fields = read_json(workdir / "config.json")
    if fields is None:
        raise CheckpointError(f"--workdir {workdir} holds no run of train.py (no config.json)")

    from mlm import experiment
    from mlm.evaluation.report import print_evaluation, print_fills

    console = make_console()
    exp = experiment.build(from_flat(fields), say=console.print)
    experiment.keep_text(workdir, exp.text)
    step, params = experiment.restore_params(exp, workdir, step=step)
    if fill:
        print_fills(console, exp.fill, params, fill, top_k=top_k)
        return
    evaluation = exp.run.evaluate(params)
    write_json(workdir / "eval.json", {"step": step, "masks": evaluation})
    print_evaluation(console, evaluation, step=step)


if __name__ == "__main__":
    sys.exit(run_command(main))
