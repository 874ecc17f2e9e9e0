"""Prepared text in a bucket: copied once to this machine, because rows are read through mmap."""

import contextlib
import errno
import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path

import fsspec

from mlm.errors import DataError
from mlm.preparing.folder import open_prepared
from mlm.preparing.once import own_folder, told_as_output

FACTS = ("tokenizer.json", "train/meta.json", "heldout/meta.json")  # they hold all checksums


def local_folder(place: str, *, cache_dir: Path, say: Callable = print) -> Path:
    """The folder of prepared text that `place` names; of a URL, a copy in `cache_dir`.

    A URL is gs://bucket/stores/mine, or what else fsspec knows. It is copied and checked once;
    another content at the same URL is another copy.

    Raises:
      DataError: there is no prepared text, it cannot be reached, or it arrived damaged.
      OutputError: the copy cannot be written.
    """
    return _copy(place, cache_dir, say) if "://" in place else Path(place)


def _copy(url: str, cache_dir: Path, say: Callable) -> Path:
    with _told(url):
        files, root = fsspec.core.url_to_fs(url)
        facts = b"".join(files.cat_file(f"{root.rstrip('/')}/{name}") for name in FACTS)
    folder = cache_dir / f"remote-{hashlib.sha256(facts).hexdigest()[:16]}"
    if folder.exists():
        return folder
    say(f"copying {url} to {folder}")
    with own_folder(cache_dir) as place, told_as_output(cache_dir):
        partial = place / folder.name
        with _told(url):
            files.get(f"{root.rstrip('/')}/", f"{partial}/", recursive=True)
        try:
            open_prepared(partial)  # reads all of it once
        except DataError as error:
            raise DataError(str(error).replace(str(partial), url)) from error
        with contextlib.suppress(OSError):  # another process was quicker
            partial.rename(folder)
    return folder


@contextlib.contextmanager
def _told(url: str) -> Iterator[None]:
    """Whatever a network, its credentials and its packages do in the block, in one line."""
    try:
        yield
    except ImportError as error:
        raise DataError(f"data.store {url} needs another package: {error}") from error
    except FileNotFoundError as error:
        raise DataError(
            f"{url} holds no prepared text ({', '.join(FACTS)}); copy a folder there that "
            "python -m mlm prepare --out=... has made"
        ) from error
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):  # here, not there
            raise
        raise _unreadable(url, error) from error
    except Exception as error:
        raise _unreadable(url, error) from error


def _unreadable(url: str, error: Exception) -> DataError:
    reason = " ".join(str(error).split()) or type(error).__name__
    return DataError(f"data.store {url} cannot be read: {reason:.200}")
