"""What lies in `checkpoints/` beside good checkpoints: damaged, unfinished and stray folders.

A damaged checkpoint N is kept as `N.bad`, out of the way of a new one; nothing here removes it. A
save that a kill interrupts leaves `N.orbax-checkpoint-tmp` (what a run may remove), in a bucket a
folder N without the marker that Orbax writes last (which may as well be a copy that lost it).
"""

import contextlib
import re
import shutil
from pathlib import Path

from mlm.bucket import is_in_bucket, move_folder, names_in
from mlm.errors import CheckpointError, OutputError
from mlm.training.workdir import saved_steps

BAD = re.compile(r"\d+\.bad(-\d+)?")
UNFINISHED = ".orbax-checkpoint-tmp"  # of Orbax, with or without a time after it


def bad_names(folder: Path) -> list[str]:
    """Checkpoints that were set aside."""
    return sorted(name for name in _names(folder) if BAD.fullmatch(name))


def unfinished_names(folder: Path) -> list[str]:
    """What saves left that did not end."""
    names = {name for name in _names(folder) if UNFINISHED in name}
    if is_in_bucket(folder):
        names |= {name for name in _names(folder) if name.isdigit()} - _saved(folder)
    return sorted(names)


def stray_names(folder: Path) -> list[str]:
    """What is no checkpoint, nor from one."""
    known = {*bad_names(folder), *unfinished_names(folder), *_saved(folder)}
    return sorted(name for name in _names(folder) if name not in known and name[0] != ".")


def set_aside(folder: Path, step: int) -> str:
    """Renames what is called `step` to N.bad, N.bad-2, ...; returns that name.

    Raises:
      OutputError: it cannot be renamed.
    """
    taken, name, number = _names(folder), f"{step}.bad", 1
    while name in taken:
        number += 1
        name = f"{step}.bad-{number}"
    try:
        if is_in_bucket(folder):
            move_folder(folder / str(step), folder / name)
        else:
            (folder / str(step)).rename(folder / name)
    except OSError as error:
        raise OutputError(
            f"{folder / str(step)} cannot be renamed to {name} ({error.strerror or error}); "
            "move it away yourself"
        ) from error
    return name


def clear_way(folder: Path, step: int) -> None:
    """Sets aside what is called `step` but is no checkpoint, for one that is about to be saved."""
    if str(step) in _names(folder) - _saved(folder):
        set_aside(folder, step)


def remove_unfinished(folder: Path) -> list[str]:
    """Removes what killed or failed saves left on this machine, as far as it can; their names."""
    if is_in_bucket(folder):
        return []
    names = unfinished_names(folder)
    for name in names:
        shutil.rmtree(folder / name, ignore_errors=True)
    return [name for name in names if not (folder / name).exists()]


def remove_loss(checkpoint: Path) -> None:
    """Removes the evaluation loss that Orbax has kept with a checkpoint."""
    if is_in_bucket(checkpoint):
        (checkpoint / "metrics" / "metrics").unlink()
    else:
        shutil.rmtree(checkpoint / "metrics")


def check_some_left(folder: Path) -> None:
    """Raises CheckpointError if all checkpoints were set aside: a run never begins anew unasked."""
    bad = bad_names(folder)
    if bad and not saved_steps(folder):
        raise CheckpointError(
            f"all checkpoints in {folder} are damaged and set aside ({', '.join(bad)}); put a copy "
            "back, or remove these folders to begin again at step 0"
        )


def _saved(folder: Path) -> set[str]:
    return {str(step) for step in saved_steps(folder)}


def _names(folder: Path) -> set[str]:
    if is_in_bucket(folder):
        return names_in(folder)
    with contextlib.suppress(FileNotFoundError, NotADirectoryError):
        return {path.name for path in folder.iterdir()}
    return set()
