"""What a person sees of a run: lines in a log, and a bar with the time left on a terminal."""

import time
from collections.abc import Mapping

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn


class ProgressDisplay:
    """Prints log lines; on a terminal a bar below them shows step and time left."""

    def __init__(self, *, start: int, total: int):
        self.first, self.total = start, total
        self.start_clock()
        self.console = Console(soft_wrap=True, highlight=False)
        columns = (
            BarColumn(bar_width=None),
            TextColumn("{task.completed}/{task.total}"),
            TextColumn("{task.fields[eta]}"),
        )
        self.bar = Progress(
            *columns,
            console=self.console,
            refresh_per_second=2,
            disable=not self.console.is_terminal,
        )
        self.task = self.bar.add_task("", completed=start, total=total, eta="compiling")

    def start_clock(self) -> None:
        self.began = time.monotonic()

    def __enter__(self):
        self.bar.start()
        return self

    def __exit__(self, *exception):
        self.bar.stop()

    def say(self, text: str) -> None:
        self.console.print(text, markup=False)

    def advance(self, step: int) -> None:
        if self.console.is_terminal:
            self.bar.update(self.task, completed=step, eta=f"eta {self.eta(step)}")

    def eta(self, step: int) -> str:
        """Time left as m:ss or h:mm:ss, from all seconds spent so far, evaluations included."""
        seconds = (time.monotonic() - self.began) / max(1, step - self.first)
        return clock(seconds * (self.total - step))

    def log(self, step: int, line: Mapping[str, float]) -> None:
        self.say(
            f"step {step:>{len(str(self.total))}}/{self.total}"
            f"  loss {line['train/loss']:.3f}  accuracy {line['train/accuracy']:.3f}"
            f"  lr {line['train/learning_rate']:.2e}"
            f"  grad {line['train/gradient_norm']:.2f}"
            f"  masked {line['masking/realised_rate']:.3f}"
            f"  {si(line.get('perf/useful_tokens_per_second', 0.0))} tok/s"
            f"  eta {self.eta(step)}"
        )


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
