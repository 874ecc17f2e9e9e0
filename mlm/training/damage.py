"""A checkpoint that is not what was saved: how that is told from other troubles, and to whom."""

import contextlib
import errno
import functools
import inspect
import logging
import os
import re
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path

from mlm.bucket import is_of_bucket
from mlm.errors import CheckpointError
from mlm.training.processes import worst_of_all

# Tensorstore tells them behind a long path, which a line has no room for.
CAUSES = (errno.ENOSPC, errno.EFBIG, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EIO)
LATE = "Event loop is closed"  # of a leaf that is read when another one has failed already
# Errors that say nothing about what is on the disk, as TensorStore tells them.
PASSING = re.compile(
    "RESOURCE_EXHAUSTED|UNAVAILABLE|DEADLINE_EXCEEDED|PERMISSION_DENIED|UNAUTH|ABORTED|"
    "Input/output error|Stale file handle"
)
# Errors that say that a file is not there, or is none.
ABSENT = (FileNotFoundError, NotADirectoryError, IsADirectoryError)


class DamagedError(CheckpointError):
    """A checkpoint that cannot be read, or whose arrays are not those that were saved.

    Attributes:
      reason: in a few words.
    """

    def __init__(self, checkpoint: Path, reason: str):
        super().__init__(
            f"checkpoint {checkpoint} is damaged ({reason}); python -m mlm doctor --repair "
            f"--workdir {checkpoint.parent.parent} sets it aside if another is good"
        )
        self.reason = reason


@contextlib.contextmanager
def reading(checkpoint: Path, name: str) -> Iterator[None]:
    """Tells damage from what a later attempt may be able to read."""
    hush()
    try:
        yield
    except Exception as error:
        no_access = isinstance(error, (OSError, MemoryError)) or is_of_bucket(error)
        if PASSING.search(str(error)) or (no_access and not isinstance(error, ABSENT)):
            raise CheckpointError(
                f"checkpoint {checkpoint} cannot be read now ({first_line(error)}); start the same "
                "command again, or move it away to go back to the one before"
            ) from error
        raise DamagedError(checkpoint, f"{name}: cannot be read") from error


def agree(checkpoint: Path, problem: CheckpointError | None) -> None:
    """Raises in every process if there is a problem in one; refusals come before damage."""
    weight = 0 if problem is None else 1 if isinstance(problem, DamagedError) else 2
    worst = worst_of_all(weight)
    if worst == 0:
        return
    if problem is not None and weight == worst:
        raise problem
    if worst == 1:
        raise DamagedError(checkpoint, "as another process has found")
    raise CheckpointError(f"checkpoint {checkpoint} cannot be read by another process")


def warn(text: str) -> None:
    """One line on stderr, at once."""
    sys.stderr.write(f"warning: {text}\n")
    sys.stderr.flush()


def first_line(error: BaseException) -> str:
    """What an error of Orbax says, in one line; its cause alone if the system has named it."""
    causes = (os.strerror(number) for number in CAUSES)
    if cause := next((cause for cause in causes if cause in str(error)), ""):
        return cause
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0][:120] if lines else 'no message'}"


@functools.cache
def hush() -> None:
    """Keeps quiet about the other leaves, which Orbax drops when one cannot be read or written.

    What they say comes from threads and helps nobody; the error itself is raised.
    """
    logging.getLogger("asyncio").setLevel(logging.CRITICAL)
    warnings.filterwarnings("ignore", "coroutine .* was never awaited")
    tell, tell_uncaught = sys.unraisablehook, sys.excepthook

    def others(found):
        if not inspect.iscoroutine(found.object) and str(found.exc_value) != LATE:
            tell(found)

    def uncaught(kind, error, trace):  # from threads of tensorstore, which are not Python's
        if str(error) != LATE:
            tell_uncaught(kind, error, trace)

    sys.unraisablehook, sys.excepthook = others, uncaught
