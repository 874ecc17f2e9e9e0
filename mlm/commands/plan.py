"""`plan`: what a run would need and could reach on a machine that is not here."""

from collections.abc import Sequence

from mlm.cli import Parser, parse_with_config
from mlm.errors import ConfigError
from mlm.planning.topology import KNOWN, prepare_process, read_topology


def plan(argv: Sequence[str]) -> None:
    """Compiles a config's training step for a machine, on a CPU: does it fit, how fast can it be.

    Nothing is trained and no text is prepared.
    """
    parser = Parser(prog="python -m mlm plan", description=plan.__doc__)
    parser.add_argument("--topology", required=True, help=f"such as {', '.join(KNOWN)}")
    parser.add_argument("--slices", type=int, help="of that shape; by default as mesh.slices says")
    args, config = parse_with_config(parser, argv)
    slices = max(1, config.mesh.slices) if args.slices is None else args.slices
    topology = read_topology(args.topology, slices)
    if config.mesh.slices not in (-1, 1, slices):
        raise ConfigError(
            f"--slices is {slices} and mesh.slices {config.mesh.slices}; leave one of them out"
        )
    config.mesh.slices = slices
    prepare_process(topology)

    # jax reads what has just been said to it when it is imported.
    from mlm.console import make_console
    from mlm.planning.report import print_plan

    print_plan(make_console(), config, topology, name=args.config)
