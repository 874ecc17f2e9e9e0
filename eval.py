"""Evaluates a run: `python eval.py --workdir=DIR [--step=N] [--fill="The [MASK] ..."]`.

Without --fill it measures the frozen-mask losses of a checkpoint, the newest by default, and
writes eval.json (eval-N.json for an older one).
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

from mlm import cluster
from mlm.cli import Parser, config_overrides, leave, run_command
from mlm.console import make_console
from mlm.determinism import make_deterministic
from mlm.errors import CheckpointError, ConfigError
from mlm.stored_config import OVERRIDES, stored_config
from mlm.training.workdir import found_workdir, saved_steps, workdir_path, write_json


def main(argv: Sequence[str]) -> None:
    parser = Parser(prog="eval.py", description=__doc__.splitlines()[0])
    parser.add_argument("--workdir", required=True, help="folder of a run of train.py")
    parser.add_argument("--step", type=int, help="a checkpoint; by default the newest")
    parser.add_argument("--fill", action="append", default=[], help="text with [MASK] to complete")
    parser.add_argument("--top_k", type=int, default=5, help="candidates per [MASK]")
    parser.epilog = OVERRIDES
    cluster.add_flags(parser)
    args, rest = parser.parse_known_args(argv)
    overrides = config_overrides(rest)
    if args.top_k < 1:
        raise ConfigError(f"--top_k is {args.top_k}; give the number of candidates, 1 or more")
    workdir = found_workdir(args.workdir)
    step = find_step(workdir, args.step)
    config = stored_config(workdir, overrides)
    make_deterministic(config.deterministic)
    place = cluster.find_place(args, seconds=config.processes.init_timeout_seconds)
    with cluster.joined(place, config, step=step, fill=args.fill, top_k=args.top_k):
        run(workdir, step=step, fill=args.fill, top_k=args.top_k, overrides=overrides)


def find_step(workdir: str | Path, step: int | None) -> int:
    """`step` if there is a checkpoint of it, of None the newest; raises CheckpointError if not."""
    steps = saved_steps(workdir_path(workdir) / "checkpoints")
    if not steps:
        raise CheckpointError(
            f"--workdir {str(workdir)!r} holds no checkpoint of a run; train one with train.py"
        )
    if step is not None and step not in steps:
        raise CheckpointError(
            f"--workdir {workdir} has no checkpoint {step}; it has {', '.join(map(str, steps))}"
        )
    return steps[-1] if step is None else step


def run(
    workdir: str | Path,
    *,
    step: int | None = None,
    fill: Sequence[str] = (),
    top_k: int = 5,
    overrides: Mapping[str, object] | None = None,
) -> None:
    """Completes the texts of `fill`, or without any evaluates into `workdir`/eval.json.

    `overrides` are fields that a run may change, such as the places of its text.
    """
    workdir, step = workdir_path(workdir), find_step(workdir, step)
    first = cluster.is_first()  # of several processes: the one that writes
    config = stored_config(workdir, overrides or {})

    from mlm import experiment, origin, saved
    from mlm.evaluation.report import print_evaluation, print_fills

    console = make_console(quiet=not first)
    if fill:
        fill_mask, params = saved.load_fill(config, workdir, step)
        print_fills(console, fill_mask, params, fill, top_k=top_k)
        return
    start = origin.kept_start(config, workdir)
    exp = experiment.build(config, start=start, say=console.print)
    if first:
        exp.run.keep(workdir)
    shardings = exp.shardings.params
    params = saved.restore_params(exp.params, workdir, step, shardings=shardings)
    evaluation = exp.run.evaluate(params)
    newest = step == find_step(workdir, None)
    name = "eval.json" if newest else f"eval-{step}.json"
    result = saved.evaluation_result(config, workdir, step, evaluation)
    if first:
        write_json(workdir / name, result)
    print_evaluation(console, **result)


if __name__ == "__main__":
    leave(cluster.leave(run_command(main)))
