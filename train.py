"""Trains a masked language model: `python train.py --config=FILE --workdir=DIR [--config.x.y=V]`.

The same command continues a run that was stopped or killed, and says so when it is complete.
"""

import dataclasses
import functools
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from ml_collections import ConfigDict

from mlm import cluster
from mlm.allocator import keep_freed_memory, use_one_heap
from mlm.cli import Parser, leave, parse_with_config, run_command
from mlm.config import ARCHITECTURE, flat, with_architecture
from mlm.console import make_console
from mlm.determinism import make_deterministic
from mlm.training.profile import Steps, check_within, profiled, read_steps
from mlm.training.workdir import (
    check_config,
    locked_workdir,
    read_json,
    saved_steps,
    write_json,
)


def main(argv: Sequence[str]) -> int:
    parser = Parser(prog="train.py", description=__doc__.splitlines()[0])
    parser.add_argument("--workdir", help="folder of the run")
    parser.add_argument(
        "--print_shardings",
        action="store_true",
        help="show what each device of config.mesh would hold, and train nothing",
    )
    parser.add_argument(
        "--profile_steps",
        metavar="N-M",
        help="profile the steps N to M into WORKDIR/profile, such as 100-105",
    )
    parser.add_argument(
        "--allow_data_change",
        action="store_true",
        help="go on with another seed, text or order of it than the run began with",
    )
    cluster.add_flags(parser)
    args, config = parse_with_config(parser, argv)
    table = args.print_shardings
    if args.workdir is None and not table:
        parser.error("the following arguments are required: --workdir")
    profile = None if args.profile_steps is None else read_steps(args.profile_steps)
    one_heap = use_one_heap()
    make_deterministic(config.deterministic)
    place = cluster.find_place(args, seconds=config.processes.init_timeout_seconds)
    with cluster.joined(place, config, print_shardings=table):
        if table:
            return _print_shardings(config)
        return run(
            config,
            args.workdir,
            profile=profile,
            one_heap=one_heap,
            allow_data_change=args.allow_data_change,
        )


def _print_shardings(config: ConfigDict) -> int:
    from mlm.shardings import print_shardings

    print_shardings(make_console(quiet=not cluster.is_first()), config)
    return 0


def run(
    config: ConfigDict,
    workdir: str | Path,
    *,
    profile: Steps | None = None,
    one_heap: bool = False,
    allow_data_change: bool = False,
) -> int:
    """Trains, evaluates and reports into `workdir`; 0, or 130 / 143 if a signal stopped it.

    Args:
      profile: steps of which `WORKDIR/profile` tells where their time went.
      one_heap: what `use_one_heap` gave.
      allow_data_change: whether a run that has begun may go on with other data.
    """
    first = cluster.is_first()  # of several processes: the one that writes for all
    with locked_workdir(workdir, first=first, lost=cluster.end) as workdir:
        cluster.share(workdir)
        config = _with_saved_sizes(config, workdir)
        changes = check_config(workdir, flat(config), allow_data_change=allow_data_change)

        # jax takes a second or two to import: not before the config is known to be sound.
        from mlm import devices, experiment, origin, saved
        from mlm.describe import print_config, print_experiment
        from mlm.evaluation.report import print_evaluation, print_fills
        from mlm.training.loop import train_in
        from mlm.training.watchdog import OTHER_SECONDS

        console = make_console(quiet=not first)
        if result := _finished(workdir):
            print_evaluation(console, **result)
            console.print(f"the run in {workdir} is complete; choose another --workdir for more")
            return 0

        print_config(console, config)
        devices.check_devices(config)
        start = origin.kept_start(config, workdir, allow_data_change=allow_data_change)
        exp = experiment.build(config, start=start, say=console.print)
        check_within(profile, exp.run.total_steps)
        print_experiment(console, exp)
        console.print(f"workdir {workdir}")
        if first:
            origin.check_steps_left(workdir, exp.run.total_steps)
            changes = exp.run.keep(workdir, allowed=changes if allow_data_change else None)
            for change in changes:
                console.print(f"not bit-exact: {change}")
            write_json(workdir / "config.json", exp.run.config)
        steps, folder = profile if first else None, workdir / "profile"
        begin = functools.partial(exp.run.begin, command=_command())
        step = keep_freed_memory(exp.run.step) if one_heap else exp.run.step
        with profiled(step, steps, folder, say=console.print) as step:
            # A profile is written in a step, for which all processes wait.
            limit = exp.run.step_seconds or (OTHER_SECONDS if profile else None)
            ready = dataclasses.replace(exp.run, step=step, begin=begin, step_seconds=limit)
            outcome = train_in(workdir, ready, hung=cluster.end)
        if outcome.exit_code:
            console.print(f"stopped and saved at step {outcome.step}; the same command continues")
            return outcome.exit_code

        result = saved.evaluation_result(config, workdir, outcome.step, outcome.evaluation)
        if first:
            write_json(workdir / "eval.json", result)
        print_evaluation(console, **result)
        print_fills(console, exp.fill, outcome.state.params, config.eval.fill)
        console.print(f"the run lies in {workdir}: eval.json, metrics.jsonl, checkpoints/")
        return 0


def _command() -> str:
    return shlex.join(["python", *sys.argv])


def _with_saved_sizes(config: ConfigDict, workdir: Path) -> ConfigDict:
    """The config with the sizes of the weights that the run in `workdir` began with, if it has."""
    stored = read_json(workdir / "config.json") if saved_steps(workdir / "checkpoints") else None
    if not config.model.init_from or not stored:
        return config
    return with_architecture(config, {n: stored.get(f"model.{n}") for n in ARCHITECTURE})


def _finished(workdir: Path) -> dict | None:
    """The evaluation of a run that is complete, None if there is something left to do."""
    status, result = read_json(workdir / "status.json"), read_json(workdir / "eval.json")
    if not status or not result or status.get("state") != "complete" or not result.get("masks"):
        return None
    last = saved_steps(workdir / "checkpoints")[-1:]
    return result if [status.get("step")] == [result.get("step")] == last else None


if __name__ == "__main__":
    leave(cluster.leave(run_command(main)))
