"""A folder that appears whole or not at all: nobody finds half a model."""

import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from mlm.errors import OutputError


@contextlib.contextmanager
def whole_folder(directory: Path) -> Iterator[Path]:
    """A hidden folder beside `directory` that takes its place once the body is through.

    Raises:
      OutputError: there is something in `directory`, or it cannot be written.
    """
    if directory.exists() and not (directory.is_dir() and not any(directory.iterdir())):
        raise OutputError(f"{directory} is there already and not empty; choose another folder")
    directory = directory.absolute()
    partial = directory.with_name(f".{directory.name}.{os.getpid()}.partial")
    try:
        directory.parent.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir()
        yield partial
        partial.replace(directory)
    except OSError as error:
        raise OutputError(
            f"{directory} cannot be written ({error.strerror or error}); choose a place that can"
        ) from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
