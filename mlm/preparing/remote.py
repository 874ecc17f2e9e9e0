"""Prepared text in a bucket: copied once to this machine, because rows are read through mmap."""

import hashlib
import tempfile
from collections.abc import Callable
from pathlib import Path

import fsspec

from mlm.errors import DataError
from mlm.preparing.folder import open_prepared

FACTS = ("tokenizer.json", "train/meta.json", "heldout/meta.json")  # they hold all checksums


def local_folder(place: str, *, cache_dir: Path, say: Callable = print) -> Path:
    """The folder of prepared text that `place` names; of a URL, a copy in `cache_dir`.

    A URL is gs://bucket/stores/mine, or what else fsspec knows. It is copied and checked once;
    another content at the same URL is another copy.

    Raises:
      DataError: there is no prepared text, it cannot be reached, or it arrived damaged.
      OSError: the copy cannot be written.
    """
    return _copy(place, cache_dir, say) if "://" in place else Path(place)


def _copy(url: str, cache_dir: Path, say: Callable) -> Path:
    try:
        files, root = fsspec.core.url_to_fs(url)
        facts = b"".join(files.cat_file(f"{root}/{name}") for name in FACTS)
    except ImportError as error:
        raise DataError(f"data.store {url} needs another package: {error}") from error
    except FileNotFoundError as error:
        raise DataError(
            f"{url} holds no prepared text (no {error.args[-1]}); copy a folder there that "
            "python -m mlm prepare --out=... has made"
        ) from error
    except Exception as error:  # whatever a network and its credentials can do
        reason = " ".join(str(error).split())
        raise DataError(f"data.store {url} cannot be read: {reason:.200}") from error
    folder = cache_dir / f"remote-{hashlib.sha256(facts).hexdigest()[:16]}"
    if not folder.exists():
        say(f"copying {url} to {folder}")
        cache_dir.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=cache_dir, prefix=".remote-") as temporary:
            partial = Path(temporary) / folder.name
            files.get(f"{root.rstrip('/')}/", f"{partial}/", recursive=True)
            open_prepared(partial)  # reads all of it once
            partial.rename(folder)
    return folder
