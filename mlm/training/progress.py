"""What a person sees of a run: lines in a log, and a bar with the time left on a terminal."""

import importlib.util
import time
from collections.abc import Mapping

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn

from mlm.console import make_console


class ProgressDisplay:
    """Prints log lines; on a terminal or in a notebook a bar below shows step and time left."""

    def __init__(self, *, total: int, quiet: bool = False):
        self.total = total
        self.start_clock(0)
        self.console = make_console()
        self.console.quiet = quiet
        self.moves = not quiet and can_animate(self.console)
        columns = (
            BarColumn(bar_width=None),
            TextColumn("{task.completed}/{task.total}"),
            TextColumn("{task.fields[eta]}"),
        )
        self.bar = Progress(
            *columns,
            console=self.console,
            refresh_per_second=2,
            disable=not self.moves,
        )
        self.task = self.bar.add_task("", total=total, eta="compiling")

    def start_clock(self, step: int) -> None:
        """Time left is told from the speed since here."""
        self.first, self.began = step, time.monotonic()

    def __enter__(self):
        self.bar.start()
        return self

    def __exit__(self, *exception):
        self.bar.stop()

    def say(self, text: str) -> None:
        self.console.print(text)

    def advance(self, step: int) -> None:
        if self.moves:
            seconds = self.time_left(step).get("perf/eta_seconds")
            eta = "" if seconds is None else f"eta {clock(seconds)}"
            self.bar.update(self.task, completed=step, eta=eta)

    def time_left(self, step: int) -> dict[str, float]:
        """`{"perf/eta_seconds": seconds}` at the speed so far, evaluations included.

        Empty before there is a speed.
        """
        if step == self.first:
            return {}
        per_step = (time.monotonic() - self.began) / (step - self.first)
        return {"perf/eta_seconds": per_step * (self.total - step)}

    def log(self, step: int, line: Mapping[str, float]) -> None:
        at = f"step {step:>{len(str(self.total))}}/{self.total}"
        if "train/loss" not in line:
            self.say(f"{at}  no loss that is finite")
            return
        text = (
            f"{at}"
            f"  loss {line['train/loss']:.3f}  accuracy {line['train/accuracy']:.3f}"
            f"  lr {line['train/learning_rate']:.2e}"
            f"  grad {line['train/gradient_norm']:.2f}"
            f"  masked {line['masking/realised_rate']:.3f}"
        )
        if "perf/eta_seconds" in line:
            text += (
                f"  {si(line['perf/useful_tokens_per_second'])} tok/s"
                f"  eta {clock(line['perf/eta_seconds'])}"
            )
        self.say(text)


def can_animate(console: Console) -> bool:
    """Whether a bar can move there; in a notebook that takes ipywidgets."""
    in_notebook = console.is_jupyter and importlib.util.find_spec("ipywidgets") is not None
    return console.is_terminal or in_notebook


def clock(seconds: float) -> str:
    """`m:ss`, or `h:mm:ss` from an hour on."""
    minutes, seconds = divmod(int(seconds + 0.5), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"


def si(value: float) -> str:
    """Three digits and k, M or G: 41.2k."""
    for factor, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= factor:
            return f"{value / factor:.3g}{unit}"
    return f"{value:.3g}"
