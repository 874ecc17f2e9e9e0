"""Folders in a bucket of Google Cloud Storage: gs://bucket/folder as a path, and single objects.

Paths are those of etils.epath, as in Orbax, and requests go through gcsfs. An object is written
whole or not at all, and may be written on the condition that nobody else has written it since.
"""

import contextlib
import importlib.util
import json
import logging
import re
import traceback
from collections.abc import Iterator
from datetime import datetime
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from mlm.errors import ConfigError, MlmError

if TYPE_CHECKING:
    from gcsfs import GCSFileSystem

URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:/")
FOLDER = re.compile(r"gs://[a-z0-9][-a-z0-9._]+[a-z0-9](/[^/]+)+/?")
UNUSABLE = re.compile(r"[*?#\[\]\\\s]|/\.{1,2}(/|$)")  # gcsfs and Orbax take them for patterns
SECONDS = 20  # that one request may take, repeated or not
NONE = "0"  # the generation of an object that is not there


class Stamped(NamedTuple):
    """An object as it was at one time.

    Attributes:
      generation: another one each time that it is written.
      age: seconds since then, both by the clock of the store.
    """

    content: bytes
    generation: str
    age: float


def is_url(place: str | Path) -> bool:
    """Whether `place` is meant as a URL, of whatever kind, rather than as a path."""
    return bool(URL.match(str(place)))


def bucket_folder(place: str | Path, *, named: str) -> Path:
    """The folder gs://bucket/folder as a path with the methods of pathlib's.

    Args:
      named: what it was given as, for errors.

    Raises:
      ConfigError: it is another kind of URL, no folder of a bucket, or gcsfs is not installed.
    """
    url = str(place)
    if not FOLDER.fullmatch(url) or UNUSABLE.search(url):
        raise ConfigError(
            f"{named} is {url!r}; give a folder of this machine, or gs://BUCKET/FOLDER (no other "
            "kind of URL; no spaces or *?#[])"
        )
    if importlib.util.find_spec("gcsfs") is None:
        raise ConfigError(f"{named} {url} needs another package; pip install gcsfs")
    import fsspec
    from etils import epath

    logging.getLogger("gcsfs").setLevel(logging.CRITICAL)  # it logs each error that it raises
    # What another process, or Orbax, has written since would not be seen in a listing that is kept.
    fsspec.config.conf.setdefault("gcs", {})["use_listings_cache"] = False
    return epath.Path(url)


def is_in_bucket(path: Path) -> bool:
    """Whether `path` is from `bucket_folder`."""
    return not isinstance(path, Path)


def absolute(path: Path) -> Path:
    """`path.absolute()`; etils 1.15 would put the current folder before a URL."""
    return path if is_in_bucket(path) else path.absolute()


@contextlib.contextmanager
def told_as(error: type[MlmError], name: str) -> Iterator[None]:
    """Whatever a bucket, the network and credentials do in the block, in one line."""
    try:
        yield
    except Exception as reason:
        if isinstance(reason, MlmError) or not is_of_bucket(reason):
            raise
        raise error(f"{name} cannot be used ({told(reason)})") from reason


def is_of_bucket(error: BaseException) -> bool:
    """Whether an error came up in a request to a bucket."""
    frames = traceback.walk_tb(error.__traceback__)
    return any(
        f.f_globals.get("__name__", "").startswith(("gcsfs", "fsspec.asyn")) for f, _ in frames
    )


def told(error: BaseException) -> str:
    """What went wrong with a request, in a few words."""
    if isinstance(error, TimeoutError):
        return f"no answer in {SECONDS} s; is there a network?"
    if isinstance(error, FileNotFoundError):
        return "there is no such bucket, or an object is gone"
    words = f"{' '.join(str(error).split())[:160] or type(error).__name__}"
    refused = re.search(r"Forbidden|denied|permission|credential|40[13]\b", words, re.IGNORECASE)
    return words + ("; may this account use the bucket?" if refused else "")


def check_reachable(folder: Path) -> None:
    """Asks for the first object of a folder; raises whatever comes of it in `SECONDS`."""
    bucket, key = _split(folder)
    _call(folder, "GET", "b/{}/o", bucket, prefix=f"{key}/", maxResults=1)


def names_in(folder: Path) -> set[str]:
    """What lies in a folder, without what lies deeper; empty if there is no such folder.

    Raises where the methods of the path would say that nothing is there: without a network.
    """
    bucket, key = _split(folder)
    names, page = set(), {}
    while page is not None:
        _, content = _call(folder, "GET", "b/{}/o", bucket, prefix=f"{key}/", delimiter="/", **page)
        found = json.loads(content)
        names.update(item["name"] for item in found.get("items", ()))
        names.update(found.get("prefixes", ()))
        page = {"pageToken": found["nextPageToken"]} if "nextPageToken" in found else None
    return {name.removeprefix(f"{key}/").rstrip("/") for name in names}


def read_object(file: Path) -> Stamped | None:
    """A small object; None if it is not there."""
    try:
        headers, facts = _call(file, "GET", "b/{}/o/{}", *_split(file))
        _, content = _call(file, "GET", "b/{}/o/{}", *_split(file), alt="media")
    except FileNotFoundError:
        return None
    facts = json.loads(facts)
    age = parsedate_to_datetime(headers["Date"]) - datetime.fromisoformat(facts["updated"])
    return Stamped(content, facts["generation"], age.total_seconds())


def write_object(file: Path, content: bytes, *, generation: str) -> str:
    """Writes a small object in the place of one generation of it; returns the new generation.

    Raises FileExistsError if another generation is there, `NONE` being none at all.
    """
    bucket, key = _split(file)
    place = f"{_files(file)._location}/upload/storage/v1/b/{bucket}/o"
    condition = {"uploadType": "media", "name": key, "ifGenerationMatch": generation}
    return json.loads(_call(file, "POST", place, data=content, **condition)[1])["generation"]


def remove_object(file: Path, *, generation: str) -> None:
    """Removes one generation of an object; raises FileExistsError if it is another by now."""
    _call(file, "DELETE", "b/{}/o/{}", *_split(file), ifGenerationMatch=generation)


def move_folder(folder: Path, target: Path) -> None:
    """Copies all objects of a folder within the store, then removes them where they were."""
    files = _files(folder)
    _, key = _split(folder)
    names = files.find(str(folder))
    for name in names:  # not `mv`: it asks for what not every store has
        files.cp_file(f"gs://{name}", f"{target}/{name.partition(f'{key}/')[2]}")
    for name in names:
        files.rm_file(f"gs://{name}")


def _call(path: Path, *args, **params) -> tuple:
    import fsspec.asyn

    files = _files(path)
    return fsspec.asyn.sync(files.loop, files._call, *args, timeout=SECONDS, **params)


def _files(path: Path) -> "GCSFileSystem":
    """The one that `path` itself uses."""
    from etils.epath.backend import fsspec_backend

    return fsspec_backend.fs(path)


def _split(path: Path) -> tuple[str, str]:
    bucket, _, key = str(path).removeprefix("gs://").partition("/")
    return bucket, key
