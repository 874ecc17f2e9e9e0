"""Commands that must refuse what they are given, in one line, and how long that took."""

import os
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from processes import last_error

ROOT = Path(__file__).parent.parent.parent
LONGEST = 200  # characters of a line, without the folder of the test in it


class Ended(NamedTuple):
    """A command that has ended; `peak` is the memory that it took at most, in bytes."""

    exit_code: int
    out: str
    error: str
    seconds: float
    peak: int


def ran(*arguments: str, fields: Mapping[str, object], environment: Mapping = {}) -> Ended:  # noqa: B006
    """`python ARGUMENTS --config=configs/default.py` with these fields, to its end."""
    given = [f"--config.{name}={value}" for name, value in fields.items()]
    given += ["--config=configs/default.py"] if given else []
    return ran_as_typed([*map(str, arguments), *given], environment)


def ran_as_typed(arguments: Sequence[str], environment: Mapping = {}) -> Ended:  # noqa: B006
    own = {name: value for name, value in os.environ.items() if name != "XLA_FLAGS"}
    own |= {"JAX_PLATFORMS": "cpu", "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0"}
    began = time.monotonic()
    process = subprocess.Popen(
        [sys.executable, *arguments],
        cwd=ROOT,
        env=own | dict(environment),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    timer = threading.Timer(120, process.kill)
    timer.start()
    with process.stdout, process.stderr:
        reader = threading.Thread(target=lambda: said.append(process.stderr.read()))
        said: list[str] = []
        reader.start()
        out = process.stdout.read()
        reader.join()
    _, status, used = os.wait4(process.pid, 0)
    timer.cancel()
    process.returncode = os.waitstatus_to_exitcode(status)
    seconds = time.monotonic() - began
    return Ended(process.returncode, out, said[0], seconds, used.ru_maxrss << 10)


def refused(ended: Ended, exit_code: int, *words: str, within: object = "") -> None:
    """The oracle 1L: the last line says what is wrong, where, and fits on two rows of a terminal.

    Args:
      within: the folder of the test, which does not count.
    """
    assert ended.exit_code == exit_code, ended
    line = last_error(ended.error)
    for word in words:
        assert word in line, line
    assert len(line.replace(str(within), "") if within else line) <= LONGEST, (len(line), line)
