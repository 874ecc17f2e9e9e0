"""status.json: how far a run is, in a few words that a script can read."""

from pathlib import Path

from mlm.training.processes import is_first
from mlm.training.workdir import write_json


def write_status(workdir: Path, state: str, step: int, total: int, *, digest: str = "") -> None:
    """Says that the run is 'running', 'stopped', 'complete' or 'non-finite' at `step` of `total`.

    Args:
      digest: of the newest checkpoint, see `mlm.training.digests.total_of`.
    """
    digest = {"digest": digest} if digest else {}
    write_first(
        workdir / "status.json", {"state": state, "step": step, "total_steps": total, **digest}
    )


def write_first(file: Path, value: object) -> None:
    """Of several processes the first writes what only one can; all write checkpoints."""
    if is_first():
        write_json(file, value)
