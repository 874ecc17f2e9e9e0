"""One process at a time does what several want; the others wait for it and find it done."""

import contextlib
import fcntl
import os
from collections.abc import Callable, Iterator
from pathlib import Path


@contextlib.contextmanager
def one_at_a_time(file: Path, say: Callable) -> Iterator[None]:
    """Runs the block while no other process is in it; the kernel frees the lock of a killed one."""
    while True:
        with open(file, "w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                say("waiting for another process that prepares the same text")
                fcntl.flock(lock, fcntl.LOCK_EX)
            if not _is_open_file(file, lock.fileno()):
                continue  # whoever was first has removed it: this lock is on nothing
            try:
                yield
            finally:
                file.unlink(missing_ok=True)
            return


def _is_open_file(path: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(path.stat(), os.fstat(descriptor))
    except FileNotFoundError:
        return False
