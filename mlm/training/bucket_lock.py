"""One owner of a folder in a bucket at a time: an object that the owner renews.

Object stores have no locks that end with their owner. This one is an object that is created on the
condition that there is none, and written again every `RENEW_SECONDS`; if it was not for
`STALE_SECONDS`, its owner is dead and the next one replaces it. All times are by the clock of the
store, and every request is conditional, so of two that try only one succeeds.
"""

import contextlib
import os
import secrets
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NoReturn

from mlm.bucket import NONE, Stamped, read_object, remove_object, write_object
from mlm.errors import WorkdirLockedError

RENEW_SECONDS = 15.0
STALE_SECONDS = 60.0  # longer than a few requests that fail, shorter than a machine needs to start


def end(error: WorkdirLockedError) -> NoReturn:
    """Ends this process, from whichever of its threads, with one line."""
    os.write(2, f"error: {error}\n".encode())
    os._exit(error.exit_code)


@contextlib.contextmanager
def bucket_lock(
    folder: Path, *, say: Callable = print, lost: Callable[[WorkdirLockedError], None] = end
) -> Iterator[None]:
    """Owns `folder` during the block.

    Args:
      folder: in a bucket; its `.lock` is the object.
      say: called with a line if it must be found out whether the last owner is still there.
      lost: called in a thread should another run own it by then, as after minutes in which this
        process was stopped or without network; it ends the process.

    Raises:
      WorkdirLockedError: another process holds it.
    """
    file = folder / ".lock"
    owner = f"process {os.getpid()} on {socket.gethostname()}\n{secrets.token_hex(8)}\n".encode()
    lock = _Lock(file, owner, _acquire(file, owner, say), lost)
    thread = threading.Thread(target=lock.renew_always, daemon=True)
    thread.start()
    try:
        yield
    finally:
        lock.left.set()
        thread.join()
        with contextlib.suppress(Exception):  # it would be stale soon in any case
            remove_object(file, generation=lock.generation)


def bucket_owner(folder: Path) -> str | None:
    """Who has locked `folder`, as far as that can be told without waiting; None if no one has."""
    found = read_object(folder / ".lock")
    return _name(found) if found and found.age < STALE_SECONDS else None


class _Lock:
    """The object while this process owns it."""

    def __init__(self, file: Path, owner: bytes, generation: str, lost: Callable):
        self.file, self.owner, self.generation, self.lost = file, owner, generation, lost
        self.left = threading.Event()

    def renew_always(self) -> None:
        while not self.left.wait(RENEW_SECONDS):
            with contextlib.suppress(Exception):  # the network may be back the next time
                self._renew()

    def _renew(self) -> None:
        try:
            self.generation = write_object(self.file, self.owner, generation=self.generation)
        except FileExistsError:
            found = read_object(self.file)
            if found and found.content == self.owner:  # written, but the answer was lost
                self.generation = found.generation
                return
            by = _name(found) if found else "someone who removed its .lock"
            self.lost(
                WorkdirLockedError(
                    f"{self.file.parent} was taken over by {by} while this run was away"
                )
            )


def _acquire(file: Path, owner: bytes, say: Callable) -> str:
    """The generation of the lock that this process now owns."""
    seen: Stamped | None = None
    while True:
        with contextlib.suppress(FileExistsError):
            return write_object(file, owner, generation=NONE)
        found = read_object(file)
        if found is None:  # given back this moment
            continue
        if found.content == owner:  # the request came through, its answer did not
            return found.generation
        if seen and found.generation != seen.generation:
            raise WorkdirLockedError(
                f"--workdir {file.parent} is in use by {_name(found)}; wait for it, stop it, or "
                "choose another folder"
            )
        left = STALE_SECONDS - found.age
        if left <= 0:
            with contextlib.suppress(FileExistsError):  # if another one was quicker, `seen` tells
                return write_object(file, owner, generation=found.generation)
        elif not seen:
            say(
                f"{file.parent} was in use by {_name(found)} {max(found.age, 0):.0f} s ago; "
                f"waiting up to {left:.0f} s to see whether it still is"
            )
        seen = found
        time.sleep(min(1.0, max(left, 0.0)))


def _name(found: Stamped) -> str:
    return found.content.decode(errors="replace").partition("\n")[0].strip() or "another process"
