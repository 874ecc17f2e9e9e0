"""The folder of a run: one owner at a time, one config for its whole life.

It holds `config.json`, `metrics.jsonl`, TensorBoard events, `checkpoints/`, `status.json`,
`tokenizer.json` and `eval.json`. It lies on this machine, or in a bucket as gs://bucket/folder:
what differs there is here, in `mlm.training.bucket_lock` and in the writer of metrics.
"""

import contextlib
import fcntl
import functools
import json
import os
import shutil
import socket
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from mlm.added_fields import with_added
from mlm.bucket import (
    absolute,
    bucket_folder,
    check_reachable,
    is_in_bucket,
    is_url,
    names_in,
    told_as,
)
from mlm.errors import CheckpointError, ConfigError, OutputError, WorkdirLockedError
from mlm.json_text import parse_json
from mlm.training.bucket_lock import bucket_lock, bucket_owner, end
from mlm.training.changes import Change, differences, is_of_data, refused
from mlm.whole_file import write_whole

# Fields that change nothing in the numbers of a run, so a resumed run may change them; of another
# mesh the losses agree to 1e-5. What the text fields stand for is compared by content, see
# `mlm.origin.keep_text`.
FREE_FIELDS = (
    "log. checkpoint. processes. eval.every_ eval.fill data.cache_dir data.corpus data.source "
    "data.heldout_corpus data.store data.tokenizer mesh. train.step_timeout_seconds "
    "train.max_nonfinite_in_a_row"
).split()
# How a run is computed, which another machine may do in another way.
MACHINE_FIELDS = ("model.attention", "train.remat", "deterministic")
COMMITTED = "commit_success.txt"  # of Orbax
# One of these is in every folder that Orbax has completed, whatever was lost of it since.
SIGNS = (COMMITTED, "_CHECKPOINT_METADATA", "params")
SPARE = 1_000_000  # bytes beside the arrays: metadata, metrics, status


def workdir_path(place: str | Path, *, named: str = "--workdir") -> Path:
    """The path of a folder on this machine, or of gs://bucket/folder: it has the same methods.

    Args:
      named: what it was given as, for errors.

    Raises:
      ConfigError: it is empty, or a URL that cannot be used.
    """
    if not str(place):
        raise ConfigError(f"{named} is empty; name the folder of the run, such as runs/mine")
    return bucket_folder(place, named=named) if is_url(place) else Path(place)


def found_workdir(place: str | Path, *, named: str = "--workdir") -> Path:
    """`workdir_path` for a command that reads; raises CheckpointError for a bucket that cannot."""
    path = workdir_path(place, named=named)
    if is_in_bucket(path):
        with told_as(CheckpointError, f"{named} {path}"):
            check_reachable(path)
    return path


@contextlib.contextmanager
def locked_workdir(
    path: str | Path, *, first: bool = True, lost: Callable[[WorkdirLockedError], None] = end
) -> Iterator[Path]:
    """The folder `path`, created if need be and locked against a second run.

    The kernel frees the lock with its owner, so a killed run leaves none behind; in a bucket it is
    free `bucket_lock.STALE_SECONDS` later.

    Args:
      first: of several processes that train as one the first locks it for all.
      lost: ends the process if another run took over a bucket's folder, see `bucket_lock`.

    Raises:
      ConfigError: `path` is empty, or a URL that cannot be used.
      OutputError: `path` is a file, or it cannot be written.
      WorkdirLockedError: another process holds it.
    """
    path = absolute(workdir_path(path))
    lock = functools.partial(bucket_lock, lost=lost) if is_in_bucket(path) else _flocked
    with (
        told_as(OutputError, f"--workdir {path}"),
        lock(path) if first else contextlib.nullcontext(),
    ):
        yield path


def lock_owner(workdir: Path) -> str | None:
    """Who has locked `workdir` now; None if no one has."""
    if is_in_bucket(workdir):
        return bucket_owner(workdir)
    with contextlib.suppress(OSError), open(workdir / ".lock") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return lock.read().strip() or "another process"
    return None


@contextlib.contextmanager
def _flocked(path: Path) -> Iterator[None]:
    with _writable(path):
        path.mkdir(parents=True, exist_ok=True)
        lock = open(path / ".lock", "a+")  # noqa: SIM115 (held open to the end of the run)
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.seek(0)
            raise WorkdirLockedError(
                f"--workdir {path} is in use by {lock.read().strip() or 'another process'}; "
                "wait for it, stop it, or choose another folder"
            ) from None
        except OSError as error:  # Lustre without its option, a server of NFS that has no locks
            raise OutputError(
                f"--workdir {path} lies on a disk that locks no files ({error.strerror}), so two "
                "runs could destroy it; choose another disk"
            ) from error
        with _writable(path):
            lock.truncate(0)
            lock.write(f"process {os.getpid()} on {socket.gethostname()}")
            lock.flush()
            folder = path / "checkpoints"
            probe = (folder if folder.exists() else path) / ".probe"
            write_whole(probe, "written before hours are spent\n")
            probe.unlink()
        yield


@contextlib.contextmanager
def _writable(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        file = f" at {error.filename}" if error.filename not in (None, str(path)) else ""
        raise OutputError(
            f"--workdir {path} cannot be written ({error.strerror}{file}); choose a folder that "
            "can, or free some space"
        ) from error


def free_space(folder: Path) -> int | None:
    """Bytes that are free where `folder` lies; None in a bucket, which holds any."""
    return None if is_in_bucket(folder) else shutil.disk_usage(folder).free


def check_space(folder: Path, size: int) -> None:
    """Raises OutputError unless one more checkpoint of `size` bytes fits."""
    free = free_space(folder)
    if free is not None and free < size + SPARE:
        raise OutputError(
            f"a checkpoint needs {amount(size + SPARE)}, {amount(free)} are free in {folder}; "
            "free some space, or choose another --workdir"
        )


def amount(size: int) -> str:
    return f"{size:,} bytes" if size < 10**7 else f"{size / 10**6:,.0f} MB"


def check_config(
    workdir: Path, fields: Mapping[str, object], *, allow_data_change: bool = False
) -> list[Change]:
    """Refuses to continue the checkpoints of a run with other settings.

    Args:
      allow_data_change: take another seed and other fields of the data; they are returned.

    Raises:
      ConfigError: fields differ; all of the data are named, and up to five others.
      CheckpointError: there are checkpoints, but no readable config.json.
    """
    steps = saved_steps(workdir / "checkpoints")
    if not steps:
        return []
    stored = read_json(workdir / "config.json")
    if stored is None:
        raise CheckpointError(
            f"{workdir} holds checkpoints up to step {steps[-1]} but no readable config.json that "
            "says what they belong to; choose another --workdir"
        )
    found = [
        change
        for change in differences(with_added(stored), with_added(fields))
        if change.field not in MACHINE_FIELDS and not change.field.startswith(tuple(FREE_FIELDS))
    ]
    data = [change for change in found if is_of_data(change)]
    if others := [change for change in found if not is_of_data(change)]:
        shown = ", ".join(f"{name} {then} -> {now}" for name, then, now in others[:5])
        more = f" and {len(others) - 5} more" if len(others) > 5 else ""
        raise ConfigError(
            *(map(str, data) if not allow_data_change else ()),
            f"--workdir {workdir} holds a run with another config ({shown}{more}); "
            "choose another folder, or set these fields back",
        )
    if data and not allow_data_change:
        raise ConfigError(*refused(workdir, data))
    return data


def saved_steps(folder: Path) -> list[int]:
    """The steps of the checkpoints in `folder`, oldest first; no folder holds none.

    Orbax renames a step's folder when it is complete; what is damaged later still counts, so that
    it is reported rather than passed over. A folder without any of `SIGNS` is no checkpoint. In a
    bucket there is no renaming: there Orbax writes `COMMITTED` into the folder as the last thing.
    """
    if is_in_bucket(folder):
        steps = [name for name in names_in(folder) if name.isdigit()]
        return sorted(int(name) for name in steps if COMMITTED in names_in(folder / name))
    if not folder.is_dir():
        return []
    steps = (path for path in folder.iterdir() if path.name.isdigit())
    return sorted(int(p.name) for p in steps if any((p / sign).exists() for sign in SIGNS))


def read_json(file: Path) -> dict | None:
    """The object in `file`; None if there is no such file, or it is torn or something else."""
    try:
        value = parse_json(file.read_bytes())
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return None
    return value if isinstance(value, dict) else None


def write_json(file: Path, value: object) -> None:
    """Writes `value` so that a reader, a crash or a power cut leaves the old file or the new one.

    Raises:
      OutputError: it cannot be written.
    """
    with told_as(OutputError, str(file)):
        try:
            write_whole(file, json.dumps(value, indent=2) + "\n")
        except OSError as error:
            if is_in_bucket(file):
                raise
            raise OutputError(
                f"{file} cannot be written ({error.strerror}); free some space or choose another "
                "folder"
            ) from error
