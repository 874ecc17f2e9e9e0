"""Signals end training at the end of the step, with what was learnt until then."""

import contextlib
import os
import signal
import threading
from collections.abc import Callable, Iterator


class StopRequest:
    """Which signal asked the run to stop; 0 as long as none did."""

    signum = 0

    @property
    def exit_code(self) -> int:
        """128 + signal, as shells report it: 130 for Ctrl-C, 143 for SIGTERM; 0 for none."""
        return 128 + self.signum if self.signum else 0


@contextlib.contextmanager
def stop_on_signal() -> Iterator[StopRequest]:
    """A request that SIGTERM or SIGINT fills in; a second signal leaves at once.

    Outside the main thread (a notebook server's worker) Python allows no handlers; the request
    then stays empty.
    """
    request = StopRequest()

    def handle(signum, frame):
        if request.signum:
            os._exit(128 + signum)
        request.signum = signum
        _say(f"{signal.Signals(signum).name} received, saving at the end of the step")

    with _handled_by(handle, signal.SIGTERM, signal.SIGINT):
        yield request


@contextlib.contextmanager
def stop_on_interrupt() -> Iterator[StopRequest]:
    """A request that Ctrl-C fills in, for a process that goes on; a second one is Python's own.

    An exception between a step and the assignment of its result would lose the state that the step
    was given to reuse, so the first one only asks.
    """
    request = StopRequest()

    def handle(signum, frame):
        if request.signum:
            signal.default_int_handler(signum, frame)
        request.signum = signum
        _say("interrupted, stopping at the end of the step")

    with _handled_by(handle, signal.SIGINT):
        yield request


@contextlib.contextmanager
def _handled_by(handle: Callable, *signals: signal.Signals) -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    previous = {s: signal.signal(s, handle) for s in signals}
    try:
        yield
    finally:
        for signum, handler in previous.items():
            signal.signal(signum, handler)


def _say(text: str) -> None:
    os.write(2, f"\n{text}\n".encode())  # safe inside a handler, print is not
