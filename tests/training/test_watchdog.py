"""A limit that follows the steps, and a run that ends only when nothing goes on."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from mlm.errors import HungError
from mlm.training import watchdog
from mlm.training.watchdog import Pulse, Watchdog, dump_stacks, watched

ROOT = Path(__file__).parent.parent.parent


@pytest.fixture
def clock(monkeypatch):
    """`clock[0]` is the time; it stands still."""
    now = [0.0]
    monkeypatch.setattr(watchdog.time, "monotonic", lambda: now[0])
    return now


def stepped(clock, *seconds, **settings):
    watch = Watchdog(Pulse(), **settings)
    watch.begin(100)
    for step, took in enumerate(seconds, start=101):
        clock[0] += took
        watch.completed(step)
    return watch


def test_the_limit_follows_the_median_step(clock):
    assert Watchdog(Pulse()).limit == 3600  # the start is no step
    assert stepped(clock).limit == 60 + 300
    assert stepped(clock, 90).limit == 900  # there is nothing else to go by yet
    assert stepped(clock, 90, 2, 3, 4).limit == 60
    assert stepped(clock, 90, 20, 30, 40).limit == 300
    assert stepped(clock, 1, step_seconds=5).limit == 5
    assert stepped(clock, step_seconds=5).limit == 305


def test_what_is_no_step_has_another_limit_and_counts_to_none(clock):
    watch = stepped(clock, 1, 10, 10)
    with watch.other("an evaluation"):
        assert watch.limit == 3600
        clock[0] += 1000
    assert watch.limit == 100
    clock[0] += 10
    watch.completed(104)
    assert watch.limit == 100 and (watch.last, watch.step) == (104, 105)


def wait(watch):
    """What the watchdog finds within two seconds."""
    found, left = [], threading.Event()
    thread = threading.Thread(target=lambda: found.append(watch.wait(left)))
    thread.start()
    thread.join(2)
    left.set()
    thread.join()
    return found[0]


def test_a_step_that_hangs_is_told_with_the_last_complete_one():
    watch = Watchdog(Pulse(), step_seconds=0.2)
    watch.begin(0)
    watch.completed(1)
    began = time.monotonic()
    error = wait(watch)
    assert 0.1 < time.monotonic() - began < 1.5
    assert isinstance(error, HungError) and error.exit_code == 75
    assert str(error).startswith("step 2 has taken 0.2 s, the limit is 0.2 s")
    assert "last complete step 1;" in str(error) and len(str(error)) < 190


def test_an_evaluation_that_goes_on_is_never_ended(monkeypatch):
    monkeypatch.setattr(watchdog, "OTHER_SECONDS", 0.3)
    watch = Watchdog(pulse := Pulse())
    watch.begin(7)
    found, left = [], threading.Event()
    thread = threading.Thread(target=lambda: found.append(watch.wait(left)))
    with watch.other("an evaluation"):
        thread.start()
        for _ in range(10):
            time.sleep(0.1)
            pulse.beat()
        assert thread.is_alive()
        thread.join(5)  # and one that does not
    assert str(found[0]).startswith("an evaluation gave no sign of life for 0.3 s; last complete")


def test_a_process_that_was_frozen_as_a_whole_goes_on():
    script = """
import sys, threading, time
from mlm.training.watchdog import Pulse, Watchdog
watch = Watchdog(Pulse(), step_seconds=1.0)
watch.begin(0)
watch.completed(1)
thread = threading.Thread(target=watch.wait, args=(threading.Event(),), daemon=True)
thread.start()
print("ready", flush=True)
input()
print("alive" if thread.is_alive() else "ended", flush=True)
thread.join()
"""
    process = subprocess.Popen(
        [sys.executable, "-c", script],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout.readline() == "ready\n"
    process.send_signal(signal.SIGSTOP)
    time.sleep(1.5)
    process.send_signal(signal.SIGCONT)
    process.stdin.write("\n")
    process.stdin.flush()
    assert process.stdout.readline() == "alive\n"
    process.wait(timeout=10)  # it goes on watching


def test_in_a_notebook_nobody_watches(tmp_path):
    before = threading.active_count()
    with watched(Pulse(), step_seconds=0.01, folder=tmp_path, hung=None) as watch:
        watch.begin(0)
        assert threading.active_count() == before


def test_the_stacks_of_all_threads_are_kept(tmp_path, capfd):
    told = []
    with watched(Pulse(), step_seconds=0.1, folder=tmp_path, hung=told.append) as watch:
        watch.begin(0)
        watch.completed(1)
        for _ in range(100):
            time.sleep(0.02)
            if told:
                break
    [error] = told
    stacks = (tmp_path / "stacks-0.txt").read_text()
    for text in (stacks, capfd.readouterr().err):
        assert "in test_the_stacks_of_all_threads_are_kept" in text and "in watch" in text


def test_a_folder_that_cannot_be_written_changes_nothing(tmp_path, capfd):
    dump_stacks(tmp_path / "none/stacks-0.txt")
    assert "in dump_stacks" in capfd.readouterr().err
