"""Run by tests in several processes: whether all of them find a checkpoint as it was saved."""

from pathlib import Path

from mlm import cluster
from mlm.cli import Parser, leave, parse_with_config, run_command


def main(argv):
    parser = Parser(prog="verify.py")
    parser.add_argument("--checkpoint", type=Path, required=True)
    cluster.add_flags(parser)
    args, config = parse_with_config(parser, argv)
    with cluster.joined(cluster.find_place(args, seconds=60), config):
        from mlm.training.restoring import verify_checkpoint

        assert verify_checkpoint(args.checkpoint).keys() >= {"params", "opt_state"}


if __name__ == "__main__":
    leave(cluster.leave(run_command(main)))
