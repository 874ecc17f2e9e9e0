"""A folder that is there as a whole or not at all."""

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

from mlm.errors import OutputError


@contextlib.contextmanager
def new_folder(path: str | Path) -> Iterator[Path]:
    """An empty folder to fill, which gets the name `path` when it is left without an error.

    Until then it lies beside `path` under a hidden name, so that an interruption leaves no half
    folder there.

    Raises:
      OutputError: `path` holds something already, or cannot be written.
    """
    path = Path(path).absolute()
    if path.is_file() or (path.is_dir() and any(path.iterdir())):
        raise OutputError(f"{path} exists already; choose a new folder, or remove it first")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(
            dir=path.parent, prefix=f".{path.name}-", ignore_cleanup_errors=True
        ) as temporary:
            folder = Path(temporary) / path.name
            folder.mkdir()
            yield folder
            for file in folder.rglob("*"):
                _flush(file)
            os.replace(folder, path)
    except OutputError as error:  # it names the folder that nobody knows of
        raise OutputError(str(error).replace(str(folder), str(path))) from error
    except OSError as error:
        raise OutputError(
            f"{path} cannot be written ({error.strerror or error}); free some space or choose "
            "another folder"
        ) from error


def _flush(file: Path) -> None:
    descriptor = os.open(file, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
