"""`inspect`, `replay` and `doctor`: masks seen before a run, made again, and checked.

`replay` and `doctor` take a run from its workdir alone.
"""

from collections.abc import Sequence
from pathlib import Path

from ml_collections import ConfigDict

from mlm.cli import Parser, config_overrides, parse_with_config
from mlm.determinism import make_deterministic
from mlm.errors import ConfigError
from mlm.stored_config import OVERRIDES, stored_config
from mlm.training.workdir import found_workdir, locked_workdir


def inspect(argv: Sequence[str]) -> None:
    """Shows what a config masks at step 0, beside other strategies on the same text."""
    parser = Parser(prog="python -m mlm inspect", description=inspect.__doc__)
    parser.add_argument("--text", default="", help="mask the lines of this file, not the corpus")
    parser.add_argument(
        "--masks",
        default="",
        help="what to compare with, such as word,span@0.15; by default every unit there is",
    )
    parser.add_argument("--html", type=Path, help="write a page with histograms to this file")
    args, config = parse_with_config(parser, argv)

    from mlm.inspection import show

    masks = [name.strip() for name in args.masks.split(",") if name.strip()]
    show(config, file=args.text, masks=masks, html=args.html, name=args.config)


def replay(argv: Sequence[str]) -> int:
    """Re-creates the batch, masks and labels that a step of a run consumed.

    With --compare the step itself is repeated: exit code 0 if all bits are those that the run
    recorded, 1 if not.
    """
    parser = Parser(
        prog="python -m mlm replay",
        description=replay.__doc__,
        epilog=OVERRIDES,
    )
    parser.add_argument("--workdir", required=True, help="folder of a run of train.py")
    parser.add_argument(
        "--step",
        type=int,
        required=True,
        help="as in metrics.jsonl, 1 for the first: the update that makes state.step N of N - 1, "
        "on batch N - 1",
    )
    parser.add_argument("--row", type=int, help="of the (masked) batch, from 0; by default all")
    parser.add_argument("--out", type=Path, help="file.npz for all arrays of the whole batch")
    parser.add_argument(
        "--retrain",
        action="store_true",
        help="for weights that adapt: take the steps since the last checkpoint again",
    )
    parser.add_argument(
        "--compare",
        action="store_true",
        help="take the step again, and compare what the run recorded next with it, bit for bit",
    )
    args, rest = parser.parse_known_args(argv)
    workdir = found_workdir(args.workdir)
    config = stored_config(workdir, config_overrides(rest))
    make_deterministic(config.deterministic)
    if args.compare:
        return _compare(config, workdir, args.step)

    from mlm.replay import replay as replay_step
    from mlm.replay import replay_lines, save_replay, summary

    found = replay_step(config, workdir, args.step, retrain=args.retrain)
    show_rows = args.row is not None or not args.out
    for line in replay_lines(found, args.row) if show_rows else summary(found):
        print(line)
    if args.out:
        save_replay(found, args.out)
        print(f"{args.out}: {', '.join(found.arrays)}")
    return 0


def _compare(config: ConfigDict, workdir: Path, step: int) -> int:
    from mlm.retraining import compare

    found = compare(config, workdir, step)
    for line in found.lines():
        print(line)
    return int(bool(found.differing))


def doctor(argv: Sequence[str]) -> int:
    """Examines a run (--workdir), or a config before one (--config): what is ok, what is not.

    Exit code 0: nothing is bad (there may be warnings); 1: something is bad; any other: it could
    not be examined, as with every command.
    """
    parser = Parser(
        prog="python -m mlm doctor",
        usage="python -m mlm doctor (--workdir WORKDIR [--repair] | --config CONFIG) [--verbose]",
        description=doctor.__doc__,
    )
    parser.add_argument("--workdir", help="folder of a run of train.py")
    parser.add_argument(
        "--repair",
        action="store_true",
        help="first mend what is safe to mend in --workdir: set damaged checkpoints aside, remove "
        "what killed saves left, correct status.json and metrics.jsonl",
    )
    if not {a.partition("=")[0] for a in argv} & {"--workdir", "--config", "--help", "-h"}:
        raise ConfigError("nothing to examine; give --workdir of a run, or --config of a new one")
    if given := any(a.partition("=")[0] == "--workdir" for a in argv):
        parser.epilog = OVERRIDES
        args, rest = parser.parse_known_args(argv)
        workdir = found_workdir(args.workdir)
        config = stored_config(workdir, config_overrides(rest))
    else:
        args, config = parse_with_config(parser, argv)
    make_deterministic(config.deterministic)
    if args.repair:
        if not given:
            raise ConfigError("--repair mends the folder of a run; name it as --workdir")
        _repair(workdir)

    from mlm.checkup import examine_config, examine_run
    from mlm.console import make_console
    from mlm.doctor.finding import print_findings

    console = make_console()
    found = (
        examine_run(config, workdir, say=console.print)
        if given
        else examine_config(config, say=console.print)
    )
    return int(print_findings(console, found) == "bad")


def _repair(workdir: Path) -> None:
    from mlm.upkeep import repair_files

    line = ""
    with locked_workdir(workdir):
        for line in repair_files(workdir):
            print(f"repair: {line}")
    if not line:
        print("repair: there is nothing to mend")
