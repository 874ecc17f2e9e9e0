"""Ctrl-C in a process that goes on; `tests/faults` sends signals to runs."""

import signal
import threading

import pytest

from mlm.training.signals import stop_on_interrupt


def test_the_first_asks_and_the_second_interrupts(capfd):
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt), stop_on_interrupt() as stop:
        assert not stop.signum
        signal.raise_signal(signal.SIGINT)
        assert stop.signum == signal.SIGINT
        signal.raise_signal(signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is before
    assert capfd.readouterr().err == "\ninterrupted, stopping at the end of the step\n"


def test_outside_the_main_thread_nothing_is_asked():
    found = []

    def work():
        with stop_on_interrupt() as stop:
            found.append(stop.signum)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert found == [0]
