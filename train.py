"""Trains a masked language model: `python train.py --config=FILE --workdir=DIR [--config.x.y=V]`.

The same command continues a run that was stopped or killed, and says so when it is complete.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

from ml_collections import ConfigDict

from mlm.cli import Parser, make_console, parse_with_config, run_command
from mlm.config import flat
from mlm.training.workdir import check_config, locked_workdir, read_json, write_json


def main(argv: Sequence[str]) -> int:
    parser = Parser(prog="train.py", description=__doc__.splitlines()[0])
    parser.add_argument("--workdir", required=True, help="folder of the run")
    args, config = parse_with_config(parser, argv)
    return run(config, args.workdir)


def run(config: ConfigDict, workdir: str | Path) -> int:
    """Trains, evaluates and reports into `workdir`; returns the exit code (0, 130 or 143)."""
    with locked_workdir(workdir) as workdir:
        check_config(workdir, flat(config))

        # jax takes a second or two to import: not before the config is known to be sound.
        from mlm import experiment
        from mlm.describe import describe, environment
        from mlm.evaluation.report import print_evaluation, print_fills
        from mlm.training import train

        console = make_console()
        status, stored = read_json(workdir / "status.json"), read_json(workdir / "eval.json")
        if status and stored and status["state"] == "complete":
            print_evaluation(console, stored["masks"], step=stored["step"])
            console.print(
                f"the run in {workdir} is complete; choose another --workdir for a new one"
            )
            return 0

        experiment.check_devices(config)
        exp = experiment.build(config, say=console.print)
        experiment.keep_text(workdir, exp.text)
        write_json(workdir / "config.json", flat(config))
        write_json(workdir / "environment.json", environment())
        describe(console, config, exp, workdir)
        outcome = train(exp.run, workdir)
        if outcome.exit_code:
            console.print(f"stopped and saved at step {outcome.step}; the same command continues")
            return outcome.exit_code

        write_json(workdir / "eval.json", {"step": outcome.step, "masks": outcome.evaluation})
        print_evaluation(console, outcome.evaluation, step=outcome.step)
        print_fills(console, exp.fill, outcome.state.params, config.eval.fill)
        console.print(f"the run lies in {workdir}: eval.json, metrics.jsonl, checkpoints/")
        return 0


if __name__ == "__main__":
    sys.exit(run_command(main))
