"""Draws what `python -m mlm inspect` prints: `python docs/masks.py OUT.svg --config=FILE ...`."""

import io
import re
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.terminal_theme import MONOKAI

from mlm.cli import Parser, parse_with_config, run_command
from mlm.whole_file import write_whole

WIDTH = 120


def main(argv: Sequence[str]) -> None:
    parser = Parser(prog="docs/masks.py", description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("--masks", default="", help="as of inspect")
    parser.add_argument("--sentences", type=int, default=3)
    args, config = parse_with_config(parser, argv)

    from mlm.inspection import inspect_masks
    from mlm.inspection.sentences import pick
    from mlm.inspection.terminal import print_inspection

    inspection = inspect_masks(config, masks=[m for m in args.masks.split(",") if m])
    console = Console(
        record=True,
        width=WIDTH,
        file=io.StringIO(),
        force_terminal=True,
        highlight=False,
        markup=False,
    )
    print_inspection(console, inspection, pick(inspection, args.sentences))
    shown = [a for a in argv[1:] if not a.startswith("--sentences")]
    picture = console.export_svg(title=f"mlm inspect {shlex.join(shown)}", theme=MONOKAI)
    # No fonts from elsewhere: whoever shows the picture has one.
    picture = re.sub(r"@font-face \{.*?\}", "", picture, flags=re.DOTALL)
    write_whole(args.out, picture.replace("Fira Code, monospace", "monospace"))


if __name__ == "__main__":
    sys.exit(run_command(main))
