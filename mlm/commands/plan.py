"""`plan`: what a run would need and could reach on a machine that is not here."""

from collections.abc import Sequence

from mlm.cli import Parser, parse_with_config
from mlm.planning.topology import KNOWN, prepare_process, read_topology


def plan(argv: Sequence[str]) -> None:
    """Compiles a config's training step for a machine, on a CPU: does it fit, how fast can it be.

    Nothing is trained and no text is prepared.
    """
    parser = Parser(prog="python -m mlm plan", description=plan.__doc__)
    parser.add_argument("--topology", required=True, help=f"such as {', '.join(KNOWN)}")
    parser.add_argument(
        "--slices", type=int, default=1, help="of that shape; config.mesh.slices follows"
    )
    args, config = parse_with_config(parser, argv)
    topology = read_topology(args.topology, args.slices)
    if config.mesh.slices == 1:
        config.mesh.slices = args.slices
    prepare_process(topology)

    # jax reads what has just been said to it when it is imported.
    from mlm.console import make_console
    from mlm.planning.report import print_plan

    print_plan(make_console(), config, topology, name=args.config)
