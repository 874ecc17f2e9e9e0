"""From the results of the fault tests to docs/faults.md.

Command:  python tests/faults/scoreboard.py RESULTS.xml ... OUT.md

RESULTS.xml is what `pytest --junitxml` writes: each test has its row, injection and promise beside
its outcome, and the seconds and steps that it measured.
"""

import dataclasses
import os
import platform
import statistics
import sys
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterable
from importlib.metadata import version
from pathlib import Path

PACKAGES = ("jax", "flax", "optax", "orbax-checkpoint", "numpy")
ROWS = range(1, 56)
BROKEN = "**broken**"
HEAD = """# Faults, and what a run makes of them

Written by `make faults` from the run itself: each row is one or more tests in `tests/faults/` or
`tests/clusters/`, which start real training runs, send real signals, fill real disks and flip real
bits. "Bit for bit" means that every training loss, and the digest of the last state, equals that of
a run that nothing disturbed. Exit codes are those of [how a run stops](stopping.md). Where a row
has several tests, promise (1) belongs to fault (1). Seconds, and steps that had to be taken again,
are the most that a test of the row measured. These runs save every 25 steps, pairs of processes
every 10, and take those in less time than the save itself: a kill while a checkpoint is still being
written goes back to the one before it, which costs what was computed meanwhile besides.
"""
HEADINGS = ("#", "fault", "promise", "result", "seconds to stop", "steps lost")


@dataclasses.dataclass
class Row:
    """All tests of one fault."""

    tests: list[tuple[str, str]] = dataclasses.field(default_factory=list)  # injection, promise
    outcomes: list[str] = dataclasses.field(default_factory=list)
    reasons: list[str] = dataclasses.field(default_factory=list)
    seconds: list[float] = dataclasses.field(default_factory=list)
    lost: list[float] = dataclasses.field(default_factory=list)

    @property
    def result(self) -> str:
        if "broken" in self.outcomes:
            return BROKEN
        not_run = f"not run: {self.reasons[0]}" if self.reasons else "not run"
        if "kept" not in self.outcomes:
            return not_run
        return f"kept; {len(self.reasons)} of its tests {not_run}" if self.reasons else "kept"


def read_rows(files: Iterable[Path]) -> dict[int, Row]:
    """The tests of each row, from all files."""
    rows: dict[int, Row] = {}
    for file in files:
        for case in ElementTree.parse(file).iter("testcase"):
            found = [(p.get("name"), p.get("value")) for p in case.iter("property")]
            named = dict(found)
            if "row" not in named:
                continue
            row = rows.setdefault(int(named["row"]), Row())
            if (test := (named["injection"], named["promise"])) not in row.tests:
                row.tests.append(test)
            row.outcomes.append(_outcome(case, row.reasons))
            row.seconds += [float(value) for name, value in found if name == "seconds_to_stop"]
            row.lost += [float(value) for name, value in found if name == "steps_lost"]
    return rows


def _outcome(case: ElementTree.Element, reasons: list[str]) -> str:
    if case.find("failure") is not None or case.find("error") is not None:
        return "broken"
    skipped = case.find("skipped")
    if skipped is not None:
        reasons.append(skipped.get("message", ""))
        return "not run"
    return "kept"


def page(rows: dict[int, Row]) -> str:
    """docs/faults.md."""
    kept = sum(row.result.startswith("kept") for row in rows.values())
    broken = sum(row.result == BROKEN for row in rows.values())
    seconds = [value for row in rows.values() for value in row.seconds]
    versions = ", ".join(f"{name} {version(name)}" for name in PACKAGES)
    lines = [
        HEAD,
        f"**{kept} of {len(ROWS)} kept, {broken} broken, {len(ROWS) - kept - broken} not run.** "
        f"Median time to stop {statistics.median(seconds) if seconds else 0:.1f} s.",
        f"{os.cpu_count()} CPU cores ({platform.machine()}), Python "
        f"{platform.python_version()}, {versions}.",
        "",
        "| " + " | ".join(HEADINGS) + " |",
        "| " + " | ".join(["---"] * len(HEADINGS)) + " |",
    ]
    return "\n".join([*lines, *(_line(n, rows.get(n, Row())) for n in ROWS)]) + "\n"


def _line(number: int, row: Row) -> str:
    cells = (
        number,
        _numbered([injection for injection, _ in row.tests]),
        _numbered([promise for _, promise in row.tests]),
        row.result,
        f"{max(row.seconds):.1f}" if row.seconds else "",
        f"{max(row.lost):g}" if row.lost else "",
    )
    return "| " + " | ".join(str(cell).replace("|", "\\|") for cell in cells) + " |"


def _numbered(words: list[str]) -> str:
    if len(words) < 2:
        return "".join(words)
    return " ".join(f"({number}) {text}" for number, text in enumerate(words, 1))


if __name__ == "__main__":
    *results, out = map(Path, sys.argv[1:])
    rows = read_rows(results)
    out.write_text(page(rows))
    print(out)
    sys.exit(any(row.result == BROKEN for row in rows.values()))
