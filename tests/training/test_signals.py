"""Who answers a signal, and when; `tests/faults` sends them to runs."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from jax.experimental import multihost_utils

from mlm.training.signals import SharedStop, stop_on_interrupt, stop_on_signal


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


SCRIPT = """
import hashlib, os, sys
from mlm.training.signals import stop_on_signal
with stop_on_signal() as stop:
    print("ready", flush=True)
    hashlib.pbkdf2_hmac("sha256", b"", b"", 10**9)  # in C, as a compiler is; Python handles nothing
"""


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
def test_an_answer_does_not_wait_for_the_main_thread(signum):
    process = subprocess.Popen(
        [sys.executable, "-c", SCRIPT],
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parent.parent.parent)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout.readline() == "ready\n"
    time.sleep(0.2)  # into the C function
    process.send_signal(signum)
    assert process.stderr.readline() == "\n"
    told = process.stderr.readline()
    assert told == f"{signum.name} received, saving at the end of the step\n"
    process.send_signal(signum)
    assert process.wait(timeout=20) == 128 + signum
    process.communicate()


def test_other_signals_and_what_was_there_before_are_left_alone():
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    before = signal.set_wakeup_fd(writer)
    counted = []
    handler = signal.signal(signal.SIGUSR1, lambda *args: counted.append(args))
    try:
        with stop_on_signal() as stop:
            signal.raise_signal(signal.SIGUSR1)
            threads = [thread.name for thread in threading.enumerate()]
        assert len(counted) == 1 and not stop.signum
        assert "signals" in threads
        assert "signals" not in [thread.name for thread in threading.enumerate()]
        assert signal.set_wakeup_fd(before) == writer
    finally:
        signal.set_wakeup_fd(before)
        signal.signal(signal.SIGUSR1, handler)
        os.close(reader)
        os.close(writer)
