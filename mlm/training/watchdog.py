"""A thread that ends a run whose step hangs, with what all its threads were doing.

A process that is alive but stuck is found by no heartbeat, as another thread goes on beating
(jax#38503 is open for this), and the others of its run wait for it in a collective, for ever.
"""

import contextlib
import faulthandler
import os
import statistics
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path

import jax

from mlm.bucket import is_in_bucket
from mlm.errors import HungError

LEAST_SECONDS = 60.0  # of a limit that nobody chose; a shared disk or a busy host may be that slow
MEDIANS = 10  # a step that takes so many times what steps take, hangs
COMPILING_SECONDS = 300.0  # more, for the first step of a process
OTHER_SECONDS = (
    3600.0  # without a sign of life, for what is no step: a batch of an evaluation, a save
)
REMEMBERED = 100  # steps that the median is of
CHECKS = 20  # in the time of a limit
WRITE_SECONDS = 5.0  # for the file of stacks: the disk may be what hangs


class Pulse:
    """Counts signs of life: what takes long beats it each time that it has come further."""

    beats = 0

    def beat(self) -> None:
        self.beats += 1


class Watchdog:
    """What the loop tells of its steps, and the limit that follows; made by `watched`.

    Args:
      pulse: beaten also by what is no step.
      step_seconds: the limit of a step; None: `MEDIANS` times the median, `LEAST_SECONDS` or more.
    """

    def __init__(self, pulse: Pulse, *, step_seconds: float | None = None):
        self._pulse, self._step_seconds = pulse, step_seconds
        self._took: deque[float] = deque(maxlen=REMEMBERED)
        self._began = 0.0
        self.step = self.last = 0  # the one that is waited for, and the last that is complete
        self.doing = "the start"  # what is no step

    def begin(self, step: int) -> None:
        """The steps after `step` begin; the next one compiles."""
        self.last, self.step, self._began, self.doing = step, step + 1, time.monotonic(), ""
        self._pulse.beat()

    def completed(self, step: int) -> None:
        """`step` is complete, and the next one goes on."""
        now = time.monotonic()
        self._took.append(now - self._began)
        self.last, self.step, self._began = step, step + 1, now
        self._pulse.beat()

    @contextlib.contextmanager
    def other(self, doing: str) -> Iterator[None]:
        """A block that is no step; its time counts to none."""
        self.doing = doing
        self._pulse.beat()
        try:
            yield
        finally:
            self.doing, self._began = "", time.monotonic()
            self._pulse.beat()

    @property
    def limit(self) -> float:
        """Seconds without a sign of life after which this process hangs."""
        if self.doing:
            return OTHER_SECONDS
        limit = self._step_seconds
        if limit is None:
            # The first one compiled, and counts as long as there is no other.
            took = list(self._took)
            limit = max(LEAST_SECONDS, MEDIANS * statistics.median(took[1:] or took or [0.0]))
        return limit if self._took else limit + COMPILING_SECONDS

    def wait(self, left: threading.Event) -> HungError | None:
        """Returns when `left` is set, or with an error when there is no sign of life any more.

        Only time that this thread has seen pass counts: a process that was frozen as a whole
        (SIGSTOP, a laptop's lid) hangs no more than its watchdog.
        """
        seen, silent = -1, 0.0
        while True:
            limit, beats = self.limit, self._pulse.beats
            silent, seen = (silent if beats == seen else 0.0), beats
            if silent >= limit:
                return self._error(silent, limit)
            pause = min(limit / CHECKS, 1.0)
            began = time.monotonic()
            if left.wait(pause):
                return None
            silent += min(time.monotonic() - began, 2 * pause)

    def _error(self, silent: float, limit: float) -> HungError:
        what = (
            f"step {self.step} has taken {silent:.1f} s, the limit is {limit:g} s "
            "(train.step_timeout_seconds)"
        )
        if self.doing:
            what = f"{self.doing} gave no sign of life for {silent:.1f} s"
        return HungError(
            f"{what}; last complete step {self.last}; stacks are above; the same command continues"
        )


@contextlib.contextmanager
def watched(
    pulse: Pulse,
    *,
    step_seconds: float | None,
    folder: Path,
    hung: Callable[[HungError], None] | None,
) -> Iterator[Watchdog]:
    """A watchdog that is told of the steps in the block.

    Args:
      pulse, step_seconds: see `Watchdog`.
      folder: gets `stacks-PROCESS.txt`, if it is on a disk.
      hung: called in a thread when nothing goes on any more; it ends the process. None: nobody
        watches, as in a notebook, which has more to lose than the run.
    """
    watchdog, left = Watchdog(pulse, step_seconds=step_seconds), threading.Event()
    if hung is None:
        yield watchdog
        return

    def watch() -> None:
        if error := watchdog.wait(left):
            dump_stacks(folder / f"stacks-{jax.process_index()}.txt")
            hung(error)

    thread = threading.Thread(target=watch, name="watchdog", daemon=True)
    thread.start()
    try:
        yield watchdog
    finally:
        left.set()
        thread.join()


def dump_stacks(file: Path) -> None:
    """Writes where every thread is to stderr and, on a disk that answers, to `file`."""
    faulthandler.dump_traceback(2)
    os.write(2, b"\n")
    if is_in_bucket(file):
        return

    def write() -> None:
        with contextlib.suppress(OSError), open(file, "w") as stacks:
            faulthandler.dump_traceback(stacks)

    thread = threading.Thread(target=write, daemon=True)
    thread.start()
    thread.join(WRITE_SECONDS)
