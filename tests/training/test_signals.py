"""Ctrl-C in a process that goes on; `tests/faults` sends signals to runs."""

import signal
import threading

import pytest
from jax.experimental import multihost_utils

from mlm.training.signals import SharedStop, stop_on_interrupt


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


def test_several_processes_stop_where_a_run_continues_if_asked_before_its_first_step(monkeypatch):
    monkeypatch.setattr(multihost_utils, "reached_preemption_sync_point", [1].__contains__)
    stop = SharedStop()
    assert stop.asked_at(51) and stop.exit_code == 143
    assert not stop.asked_at(52)
