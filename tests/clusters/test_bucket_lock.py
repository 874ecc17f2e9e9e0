"""The lock of a folder in a bucket: one owner, also where several come at once."""

import os
import subprocess
import sys
import threading
import time

import pytest

from mlm.bucket import NONE, bucket_folder, read_object, remove_object, write_object
from mlm.errors import WorkdirLockedError
from mlm.training import bucket_lock


@pytest.fixture(scope="module")
def bucket(store):
    """The environment of this process, until the module ends."""
    before = dict(os.environ)
    os.environ.update(store.environment)
    yield bucket_folder("gs://runs/locks", named="--workdir")
    os.environ.clear()
    os.environ.update(before)


@pytest.fixture
def folder(bucket, request, monkeypatch):
    monkeypatch.setattr(bucket_lock, "RENEW_SECONDS", 0.3)
    monkeypatch.setattr(bucket_lock, "STALE_SECONDS", 3.0)
    return bucket / request.node.name


def test_an_object_is_written_only_in_place_of_the_generation_that_was_seen(folder):
    file = folder / "object"
    assert read_object(file) is None
    first = write_object(file, b"1", generation=NONE)
    with pytest.raises(FileExistsError):
        write_object(file, b"2", generation=NONE)
    second = write_object(file, b"2", generation=first)
    with pytest.raises(FileExistsError):
        remove_object(file, generation=first)
    found = read_object(file)
    assert found.content == b"2" and found.generation == second and -1 <= found.age < 5
    remove_object(file, generation=second)
    assert read_object(file) is None


def test_the_owner_keeps_it_for_longer_than_a_lock_is_stale(folder):
    said = []
    with bucket_lock.bucket_lock(folder):
        time.sleep(3.5)
        with pytest.raises(WorkdirLockedError, match=f"in use by process {os.getpid()} on "):
            with bucket_lock.bucket_lock(folder, say=said.append):
                pass
    assert len(said) == 1 and f"was in use by process {os.getpid()} on " in said[0]
    assert read_object(folder / ".lock") is None
    with bucket_lock.bucket_lock(folder, say=said.append):
        pass
    assert len(said) == 1


def test_of_two_that_find_a_dead_owner_one_replaces_it(folder):
    write_object(folder / ".lock", b"process 1 on a machine that is off\nabc\n", generation=NONE)
    got, refused, leave = [], [], threading.Event()

    def take(name):
        try:
            with bucket_lock.bucket_lock(folder, say=lambda line: None):
                got.append(name)
                leave.wait(20)
        except WorkdirLockedError:
            refused.append(name)

    began = time.monotonic()
    threads = [threading.Thread(target=take, args=(name,)) for name in "ab"]
    for thread in threads:
        thread.start()
    while time.monotonic() - began < 20 and not (got and refused):
        time.sleep(0.05)
    leave.set()
    for thread in threads:
        thread.join()
    assert len(got) == len(refused) == 1
    assert time.monotonic() - began > 1.5  # it was waited for


def test_an_owner_that_was_away_ends_when_another_has_taken_over(folder, store):
    code = (
        "import sys, time; from mlm.bucket import bucket_folder\n"
        "from mlm.training import bucket_lock; bucket_lock.RENEW_SECONDS = 0.3\n"
        "with bucket_lock.bucket_lock(bucket_folder(sys.argv[1], named='x')):\n"
        "    print('mine', flush=True); time.sleep(30)"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(folder)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout.readline() == "mine\n"
    write_object(folder / ".lock", b"process 7 on mars\nabc\n", generation=_now(folder))
    assert process.wait(timeout=20) == 6
    assert process.stderr.read() == (
        f"error: {folder} was taken over by process 7 on mars while this run was away\n"
    )


def _now(folder) -> str:
    """The generation of the lock, between two renewals."""
    seen = read_object(folder / ".lock").generation
    while (found := read_object(folder / ".lock").generation) == seen:
        time.sleep(0.01)
    return found
