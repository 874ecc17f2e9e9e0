"""Processes of this machine, by their numbers."""

import subprocess
from pathlib import Path


def children(process: subprocess.Popen) -> list[int]:
    """The processes that `launch` has started, in their order."""
    file = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    return sorted(map(int, file.read_text().split()))


def gone(pid: int) -> bool:
    """Whether a process has ended, or only waits to be noticed by its parent."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except (FileNotFoundError, ProcessLookupError):
        return True
