"""status.json: how far a run is, in a few words that a script can read."""

from pathlib import Path

from mlm.training.damage import warn
from mlm.training.processes import is_first
from mlm.training.workdir import read_json, saved_steps, write_json


def write_status(workdir: Path, state: str, step: int, total: int, *, digest: str = "") -> None:
    """Says that the run is 'running', 'stopped', 'complete' or 'non-finite' at `step` of `total`.

    Args:
      digest: of the newest checkpoint, see `mlm.training.digests.total_of`.
    """
    digest = {"digest": digest} if digest else {}
    write_first(
        workdir / "status.json", {"state": state, "step": step, "total_steps": total, **digest}
    )


def step_without_checkpoint(workdir: Path) -> int:
    """The step that status.json calls saved although no checkpoint is there; 0 if all is well.

    A kill during the first save leaves it so, and so does who removes or loses the checkpoints.
    Only the first of several processes is told.
    """
    status = read_json(workdir / "status.json") or {}
    step, known = status.get("step"), status.get("state") in ("running", "stopped", "complete")
    lost = (
        is_first() and known and isinstance(step, int) and not saved_steps(workdir / "checkpoints")
    )
    return step if lost else 0


def warn_of_lost(workdir: Path) -> None:
    """Says on stderr that a run begins at step 0 although it has saved, as far as can be told."""
    if lost := step_without_checkpoint(workdir):
        warn(f"status.json says step {lost}, but no checkpoint is there; beginning at step 0")


def write_first(file: Path, value: object) -> None:
    """Of several processes the first writes what only one can; all write checkpoints."""
    if is_first():
        write_json(file, value)
