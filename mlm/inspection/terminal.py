"""Masks in a terminal: the same sentences under each strategy, and realised rates below.

What became of a token can be told without colour, and units without lines: see `LEGEND`.
"""

import dataclasses
from collections.abc import Sequence

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from mlm.inspection.measure import Measures, measure_all
from mlm.inspection.sample import KEPT, MASK, RANDOM, Inspection, Masked
from mlm.inspection.sentences import Piece, Stretch, pieces, words
from mlm.inspection.settings import describe

COLUMNS = "strategy|asked|realised|tokens|units|mean run|[MASK]|random|kept|specials|hash".split(
    "|"
)
HALF = 5  # columns of the first table, where one is too wide
STYLES = {MASK: "bold cyan", RANDOM: "bold magenta", KEPT: "bold green"}
FRAME, NOT_PREDICTED, NAME = "bold yellow", "dim", "bold"


@dataclasses.dataclass(frozen=True)
class Signs:
    """What marks tokens; plain ASCII where the output holds nothing else."""

    opens: str = "⟦"
    closes: str = "⟧"
    becomes: str = "→"
    keeps: str = "="
    silent: str = "~"


ASCII = Signs(opens="{", closes="}", becomes=">")


def print_inspection(console: Console, inspection: Inspection, chosen: Sequence[Stretch]) -> None:
    """Strategies, sentences and rates; in a log each strategy's sentence is one line."""
    signs = signs_of(console)
    console.print(f"Masks at step 0 of {inspection.rows}\n")
    for masked in inspection.masked:
        console.print(Text.assemble((masked.name, NAME), f": {describe(masked)}"))
    for note in inspection.notes:
        console.print(Text(note, style="yellow"))
    console.print(Text.assemble("\n", legend(inspection, signs)))
    for stretch in chosen:
        console.print()
        _print_sentence(console, inspection, stretch, signs)
    measures = measure_all(
        inspection.masked, continuations=inspection.continuations, counts=inspection.counts
    )
    console.print()
    for table in rates_tables(inspection.masked, measures, width=console.width):
        console.print(table)


def signs_of(console: Console) -> Signs:
    """Signs that the console's encoding can write."""
    return Signs() if (console.encoding or "").lower().startswith("utf") else ASCII


def legend(inspection: Inspection, signs: Signs) -> Text:
    """How to read the marks."""
    parts = [
        ("[MASK]", STYLES[MASK]), " hidden   ",
        (f"old{signs.becomes}new", STYLES[RANDOM]), " a random id   ",
        (f"{signs.keeps}old", STYLES[KEPT]), " selected and kept   ",
        (signs.opens, FRAME), "several tokens", (signs.closes, FRAME), " selected as one   ",
        ("a##b", "dim"), " pieces of a word",
    ]  # fmt: skip
    if any(not masked.predicted[masked.fates > 0].all() for masked in inspection.masked):
        parts += ["   ", (f"[MASK]{signs.silent}", NOT_PREDICTED), " not predicted"]
    return Text.assemble(*parts)


def _print_sentence(
    console: Console, inspection: Inspection, stretch: Stretch, signs: Signs
) -> None:
    """A line for each strategy; in a terminal wrapped beside its name."""
    first = pieces(inspection, inspection.masked[0], stretch)
    lines = [("text", Text(" ".join("".join(p.original for p in w) for w in words(first))))]
    for masked in inspection.masked:
        lines.append((masked.name, sentence(pieces(inspection, masked, stretch), signs)))
    width = max(len(name) for name, _ in lines)
    if not console.is_terminal:
        for name, text in lines:
            console.print(Text.assemble(f"{name:<{width}}  ", text), soft_wrap=True)
        return
    grid = Table.grid(padding=(0, 2))
    grid.add_column(width=width, no_wrap=True, style=NAME)
    grid.add_column(overflow="fold")
    for name, text in lines:
        grid.add_row(name, text)
    console.print(grid)


def sentence(found: Sequence[Piece], signs: Signs) -> Text:
    """The tokens of a sentence with their marks."""
    text = Text()
    for i, piece in enumerate(found):
        if i and not piece.glued:
            text.append(" ")
        elif piece.glued and not piece.whole:
            text.append("##", style="dim")
        if piece.opens:
            text.append(signs.opens, style=FRAME)
        text.append(*_mark(piece, signs))
        if piece.closes:
            text.append(signs.closes, style=FRAME)
    return text


def _mark(piece: Piece, signs: Signs) -> tuple[str, str]:
    """The token as it is written, and its style."""
    written = {
        MASK: "[MASK]",
        RANDOM: f"{piece.original}{signs.becomes}{piece.shown}",
        KEPT: f"{signs.keeps}{piece.original}",
    }.get(piece.fate, piece.original)
    if piece.fate and not piece.predicted:
        return written + signs.silent, NOT_PREDICTED
    return written, STYLES.get(piece.fate, "")


def rates_tables(
    masked: Sequence[Masked], measures: Sequence[Measures], *, width: int
) -> list[Table]:
    """A row for each strategy; two tables where the terminal is too narrow for one."""
    rows = [[one.name, *cells(one, found)] for one, found in zip(masked, measures, strict=True)]
    columns = range(1, len(COLUMNS))
    whole = _table(rows, columns)
    endless = Console(width=1000)
    if Measurement.get(endless, endless.options, whole).maximum <= width:
        return [whole]
    return [_table(rows, columns[:HALF]), _table(rows, columns[HALF:])]


def _table(rows: Sequence[Sequence[str]], columns: Sequence[int]) -> Table:
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    table.add_column(COLUMNS[0], no_wrap=True)
    for i in columns:  # what is too long is folded: nothing is lost
        table.add_column(COLUMNS[i], justify="right", overflow="fold")
    for row in rows:
        table.add_row(row[0], *(row[i] for i in columns))
    return table


def cells(masked: Masked, found: Measures) -> list[str]:
    """What the table says of a strategy, by `COLUMNS` but the first."""
    tokens = f"{found.selected:,}"
    if found.predicted != found.selected:
        tokens += f" ({found.predicted:,} predicted)"
    if masked.overflow:
        tokens += f" ({masked.overflow:,} more found no slot)"
    shares = (f"{share:.1%}" for share in found.split)
    return [
        f"{found.requested:g}",
        f"{found.realised:.4f}",
        tokens,
        f"{found.units:,}",
        f"{found.mean_run:.2f}",
        *shares,
        f"{found.touched:,}",
        masked.hash[:12],
    ]
