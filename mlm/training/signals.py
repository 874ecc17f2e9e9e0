"""SIGTERM and Ctrl-C end a run at the end of the step, with a checkpoint."""

import contextlib
import os
import signal
import threading
from collections.abc import Iterator


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
        name = signal.Signals(signum).name
        # os.write is safe inside a handler, print is not.
        os.write(2, f"\n{name} received, saving at the end of the step\n".encode())

    if threading.current_thread() is not threading.main_thread():
        yield request
        return
    previous = {s: signal.signal(s, handle) for s in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield request
    finally:
        for signum, handler in previous.items():
            signal.signal(signum, handler)
