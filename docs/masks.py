"""Draws what `python -m mlm inspect` prints: `python docs/masks.py CONFIG OUT.svg`."""

import io
import re
import sys
from pathlib import Path

from rich.console import Console
from rich.terminal_theme import MONOKAI

from mlm.config import load_config
from mlm.inspection import inspect_masks
from mlm.inspection.sentences import pick
from mlm.inspection.terminal import print_inspection
from mlm.whole_file import write_whole

WIDTH, SENTENCES = 120, 3


def draw(config: str, out: Path) -> None:
    inspection = inspect_masks(load_config(config))
    console = Console(
        record=True,
        width=WIDTH,
        file=io.StringIO(),
        force_terminal=True,
        highlight=False,
        markup=False,
    )
    print_inspection(console, inspection, pick(inspection, SENTENCES))
    picture = console.export_svg(title=f"python -m mlm inspect --config={config}", theme=MONOKAI)
    # No fonts from elsewhere: whoever shows the picture has one.
    picture = re.sub(r"@font-face \{.*?\}", "", picture, flags=re.DOTALL)
    write_whole(out, picture.replace("Fira Code, monospace", "monospace"))


if __name__ == "__main__":
    draw(sys.argv[1], Path(sys.argv[2]))
