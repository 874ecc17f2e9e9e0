"""Sources that can be read only once, kept in files as long as a text is prepared.

Standard input and other pipes, the documents of a function, and those of a notebook.
"""

import contextlib
import dataclasses
import fcntl
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

from mlm.errors import DataError, OutputError
from mlm.preparing.documents import HELDOUT, TextSettings
from mlm.text import call_source, is_pipe, is_standard_input, spool_documents, spool_pipe

GIVEN = "documents"  # what documents from a notebook are called
PREFIX = ".own-"


@contextlib.contextmanager
def spooled(
    settings: TextSettings, documents: Iterable[str] | None, folder: Path
) -> Iterator[TextSettings]:
    """The settings with all that can be read only once kept in files, as long as the block runs.

    Args:
      settings: of which sources may be pipes or a function.
      documents: from a notebook; they take the place of the corpus.
      folder: where the files may lie.

    Raises:
      ConfigError: there is no such function.
      DataError: reading them fails.
      OutputError: `folder` cannot be written.
    """
    if isinstance(documents, str):
        raise DataError("documents is one str; give a list or anything else that yields texts")
    if documents is not None:
        settings = dataclasses.replace(settings, source=GIVEN)
    once = [key for key, name in _names(settings).items() if _is_read_once(settings, key, name)]
    if not once:
        yield settings
        return
    with own_folder(folder) as place:
        files = {}
        for key in once:
            own = place / str(len(files))
            with told_as_output(folder):
                own.mkdir()
                files[key] = _spool(settings, _names(settings)[key], documents, own)
        yield dataclasses.replace(settings, spooled=files)


def _names(settings: TextSettings) -> dict[tuple[str | None, int], str]:
    """The name of each source by side and number."""
    return {(side, number): name for side, number, name in settings.places()}


def _is_read_once(settings: TextSettings, key: tuple, name: str) -> bool:
    is_function = bool(settings.source) and key[0] != HELDOUT
    return is_function or is_standard_input(name) or is_pipe(name)


def _spool(
    settings: TextSettings, name: str, documents: Iterable[str] | None, folder: Path
) -> Path:
    if name != settings.source:
        return spool_pipe(name, folder)
    texts = call_source(name) if documents is None else documents
    return spool_documents(texts, name, settings.reading.fields[0], folder)


@contextlib.contextmanager
def own_folder(folder: Path) -> Iterator[Path]:
    """A folder of this process in `folder`, removed at the end; those of killed ones go as well."""
    with told_as_output(folder):
        folder.mkdir(parents=True, exist_ok=True)
        _sweep(folder)
        temporary = tempfile.TemporaryDirectory(dir=folder, prefix=PREFIX)
    with temporary as place, open(Path(place) / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield Path(place)


@contextlib.contextmanager
def told_as_output(folder: Path) -> Iterator[None]:
    """What cannot be written in the block is an OutputError about `folder`."""
    try:
        yield
    except OSError as error:
        raise OutputError(
            f"{folder} cannot be written ({error.strerror}); free some space, or choose another "
            "data.cache_dir"
        ) from error


def _sweep(folder: Path) -> None:
    for left in folder.glob(f"{PREFIX}*/lock"):
        with contextlib.suppress(OSError), open(left) as lock:  # locked: its process lives
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(left.parent, ignore_errors=True)
