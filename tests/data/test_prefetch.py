"""Prefetching changes when batches are made, nothing else, and leaves no thread behind."""

import ctypes
import sys
import threading
import time
from contextlib import closing

import pytest

from mlm.data import prefetch


@pytest.fixture(autouse=True)
def no_thread_left():
    before = set(threading.enumerate())
    yield
    assert set(threading.enumerate()) == before


def wait_for(made, count):
    deadline = time.monotonic() + 10
    while len(made) < count:
        assert time.monotonic() < deadline
        time.sleep(0.001)


@pytest.mark.parametrize("depth", [1, 2, 5])
def test_the_same_batches_in_order(depth):
    batches = prefetch(lambda k: k * k, start=3, stop=40, depth=depth)
    assert list(batches) == [k * k for k in range(3, 40)]


def test_nothing_to_make():
    assert list(prefetch(lambda k: 1 / 0, start=5, stop=5)) == []


def test_put_runs_in_the_one_thread():
    def name(_):
        return threading.current_thread().name

    assert set(prefetch(lambda k: k, start=0, stop=9, put=name)) == {"prefetch"}


@pytest.mark.parametrize("depth", [1, 3])
def test_at_most_depth_batches_ahead(depth):
    made = []
    with closing(prefetch(lambda k: made.append(k) or k, start=0, stop=50, depth=depth)) as batches:
        for taken in range(1, 6):
            next(batches)
            wait_for(made, taken + depth)
            time.sleep(0.01)  # time to make one too many
            assert len(made) == taken + depth


@pytest.mark.parametrize("where", ["batch_at", "put"])
def test_an_error_arrives_at_its_batch(where):
    def fail_at_3(k):
        if k == 3:
            raise OSError("disk gone")
        return k

    batches = prefetch(**{"batch_at": int, "put": int, where: fail_at_3}, start=0, stop=9)
    assert [next(batches) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(OSError, match="disk gone"):
        next(batches)
    assert list(batches) == []


def test_closing_early_ends_the_thread():
    batches = prefetch(lambda k: time.sleep(0.02) or k, start=0, stop=10**9)
    assert next(batches) == 0  # and the thread is busy with the next
    assert any(thread.name == "prefetch" and thread.daemon for thread in threading.enumerate())
    batches.close()


def test_a_break_ends_the_thread():
    for k in prefetch(lambda k: k, start=0, stop=10**9):
        if k == 5:
            break


def test_an_error_in_the_consumer_ends_the_thread():
    with pytest.raises(RuntimeError, match="step failed"):
        for _ in prefetch(lambda k: k, start=0, stop=10**9):
            raise RuntimeError("step failed")


def test_an_iterator_that_is_never_used_starts_no_thread():
    prefetch(lambda k: k, start=0, stop=10**9)


def test_a_thread_that_is_made_to_exit_says_so_at_its_batch():
    def exit_at_3(k):
        return sys.exit(0) if k == 3 else k

    batches = prefetch(exit_at_3, start=0, stop=9)
    assert [next(batches) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(RuntimeError, match=r"was ended at batch 3: SystemExit\(0\)"):
        next(batches)


def test_a_thread_that_is_ended_between_two_batches_is_not_waited_for():
    batches = prefetch(int, start=0, stop=10**9, depth=1)
    assert next(batches) == 0
    [thread] = [thread for thread in threading.enumerate() if thread.name == "prefetch"]
    raised = ctypes.pythonapi.PyThreadState_SetAsyncExc(
        ctypes.c_ulong(thread.ident), ctypes.py_object(SystemExit)
    )
    assert raised == 1
    with pytest.raises(RuntimeError, match="the thread that makes batches was ended"):
        for _ in range(9):
            next(batches)
