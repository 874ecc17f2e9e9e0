"""Signals end training at the end of the step, with what was learnt until then.

Signals have one owner: Python in a process by itself, jax where several must stop at one step.

Python runs handlers in the main thread between two bytecodes: not while that compiles, writes, or
waits for others. Its C handler writes each signal into a pipe besides, from where a thread answers
at once.
"""

import contextlib
import os
import signal
import threading
from collections.abc import Callable, Iterator

import jax
from jax._src import distributed
from jax.experimental import multihost_utils


class StopRequest:
    """Which signal asked the run to stop; 0 as long as none did."""

    signum = 0

    @property
    def exit_code(self) -> int:
        """128 + signal, as shells report it: 130 for Ctrl-C, 143 for SIGTERM; 0 for none."""
        return 128 + self.signum if self.signum else 0

    def asked_at(self, step: int) -> bool:
        """Whether to stop at the end of `step`; to be asked at each."""
        return bool(self.signum)


class SharedStop(StopRequest):
    """A request to any of several processes: all of them are told the same step to stop at."""

    asked = 0

    def asked_at(self, step: int) -> bool:
        # Counted from 1: asked for before the first step, jax stops at 1, and a run that continues
        # at step 50 would never come to it.
        self.asked += 1
        if not multihost_utils.reached_preemption_sync_point(self.asked):
            return False
        self.signum = self.signum or signal.SIGTERM
        if jax.process_index() == 0:
            _say(f"all processes save at the end of step {step}")
        return True


@contextlib.contextmanager
def stop_on_signal() -> Iterator[StopRequest]:
    """A request that SIGTERM or SIGINT fills in; a second signal leaves at once.

    Outside the main thread (a notebook server's worker) Python allows no handlers; the request
    then stays empty. Of several processes it is enough that one gets the signal; of SIGTERM, which
    hosts get seconds apart, a second one changes nothing there.
    """
    if jax.process_count() > 1:
        with _stop_together() as request:
            yield request
        return
    request = StopRequest()

    def say(signum: int) -> None:
        _say(f"{signal.Signals(signum).name} received, saving at the end of the step")

    def note(signum: int, frame: object) -> None:
        request.signum = signum

    with _answered_by(say, note, signal.SIGTERM, signal.SIGINT):
        yield request


@contextlib.contextmanager
def _stop_together() -> Iterator[StopRequest]:
    """SIGTERM is jax's: its service tells all processes of it. Ctrl-C is passed on as SIGTERM."""
    request = SharedStop()
    # Public calls would take the signal when the processes join, long before it is asked for.
    jax.config.update("jax_enable_preemption_service", True)
    distributed.global_state.initialize_preemption_sync_manager()

    def pass_on(signum: int) -> None:
        request.signum = signum
        _say("SIGINT received, saving at the end of a step of all processes")
        os.kill(os.getpid(), signal.SIGTERM)

    try:
        with _answered_by(pass_on, lambda signum, frame: None, signal.SIGINT):
            yield request
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


@contextlib.contextmanager
def _answered_by(
    answer: Callable[[int], None], handle: Callable, *signals: signal.Signals
) -> Iterator[None]:
    """Calls `answer(signum)` in a thread, whatever the main thread does; a second signal ends all.

    Args:
      handle: called in the main thread, as soon as that can.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    reader, writer = os.pipe()
    os.set_blocking(writer, False)

    def listen() -> None:
        answered = False
        while read := os.read(reader, 1):
            if read[0] in signals:
                if answered:
                    os._exit(128 + read[0])
                answered = True
                answer(read[0])

    thread = threading.Thread(target=listen, name="signals", daemon=True)
    thread.start()
    before = signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    try:
        with _handled_by(handle, *signals):
            yield
    finally:
        signal.set_wakeup_fd(before)
        os.close(writer)  # which ends the thread, when it has answered all
        thread.join()
        os.close(reader)


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
