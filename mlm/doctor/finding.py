"""A verdict on one thing, and what it rests on."""

import dataclasses
from collections import Counter
from collections.abc import Iterable
from typing import Literal

import numpy as np
from rich.console import Console
from rich.text import Text

Verdict = Literal["ok", "warning", "bad"]
STYLES = {"ok": "green", "warning": "yellow", "bad": "bold red"}
SUMMARY = {"ok": "all is well", "warning": "nothing is bad", "bad": "not all is well"}
DEVIATIONS = 5.0  # a normal number is further off once in 1.7 million times


@dataclasses.dataclass(frozen=True)
class Finding:
    """What a check says.

    Attributes:
      verdict: 'ok', 'warning' (all works, but it costs something) or 'bad'.
      name: of what was looked at.
      words: what was found, and what to do unless it is ok; a line.
    """

    verdict: Verdict
    name: str
    words: str


def print_findings(console: Console, findings: Iterable[Finding]) -> Verdict:
    """Prints a line each as it is found, coloured in a terminal; the worst verdict."""
    seen = Counter()
    for finding in findings:
        seen[finding.verdict] += 1
        verdict = (f"{finding.verdict:<9}", STYLES[finding.verdict])
        console.print(Text.assemble(verdict, (f"{finding.name}: ", "bold"), finding.words))
    told = ", ".join(f"{seen[v]} {v}" for v in STYLES if seen[v])
    worst = next((v for v in ("bad", "warning") if seen[v]), "ok")
    console.print(f"{told}: {SUMMARY[worst]}")
    return worst


def tolerance(residuals: np.ndarray) -> float:
    """How far a sum of independent `float64[R]` with mean 0 may be off: 5 deviations and 1."""
    return DEVIATIONS * float(np.std(residuals)) * np.sqrt(len(residuals)) + 1
