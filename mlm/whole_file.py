"""A small file that is written whole: a reader or a power cut finds the old one or the new one."""

import os
from pathlib import Path

from mlm.bucket import is_in_bucket


def write_whole(file: Path, text: str) -> None:
    """Puts `text` in the place of `file`, as UTF-8; in a bucket every object is written whole.

    Raises:
      OSError: it cannot be written; `file` stays as it was and nothing lies beside it.
    """
    if is_in_bucket(file):
        file.write_bytes(text.encode())
        return
    temporary = file.with_name(file.name + ".tmp")
    try:
        with temporary.open("w", encoding="utf-8") as stream:
            stream.write(text)
            stream.flush()
            os.fsync(stream.fileno())
        temporary.replace(file)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise
