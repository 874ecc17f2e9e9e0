"""Text that can be read only once, kept in a file for the passes that it takes to prepare it.

Standard input, the documents of a function, and whatever else can be iterated: a Grain or
`datasets` pipeline, a generator over a database.
"""

import contextlib
import json
import os
import re
import shutil
import stat
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

from mlm.errors import DataError, MlmError
from mlm.own import load_function, reason

STANDARD_INPUT = re.compile(r"-(\.\w+)*")


def is_standard_input(name: str) -> bool:
    """Whether a source is standard input: `-`, or `-.jsonl`, `-.txt.gz`, ... by what comes in."""
    return bool(STANDARD_INPUT.fullmatch(name))


def is_pipe(name: str) -> bool:
    """Whether a source is a pipe of its own, as the shell's <(...) is: read once, it is empty."""
    return stat.S_ISFIFO(os.stat(name).st_mode) if os.path.exists(name) else False


def spool_pipe(name: str, folder: Path) -> Path:
    """A file in `folder` with all that comes out of standard input or a pipe, named by its kind.

    Raises:
      DataError: nothing is piped in, or nothing comes.
    """
    standard = is_standard_input(name)
    if standard and (sys.stdin is None or sys.stdin.isatty()):
        raise DataError(
            f"corpus {name!r} is standard input, and nothing is piped into it; write for example "
            "cat *.txt | python ..., or name a file"
        )
    kind = name[1:] if standard else "".join(Path(name).suffixes)
    path = folder / f"pipe{kind or '.txt'}"
    with path.open("wb") as file, contextlib.ExitStack() as opened:
        pipe = sys.stdin.buffer if standard else opened.enter_context(open(name, "rb"))
        shutil.copyfileobj(pipe, file, 1 << 20)
    if not path.stat().st_size:
        raise DataError(f"corpus {name!r} is a pipe, and nothing came out of it; pipe text into it")
    return path


def spool_documents(documents: Iterable[str], name: str, field: str, folder: Path) -> Path:
    """A `.jsonl` file in `folder` with a document a line, in `field`.

    Args:
      documents: read once, one at a time.
      name: what they are called in errors.

    Raises:
      DataError: one of them is no text, or reading them fails.
    """
    path = folder / "documents.jsonl"
    with path.open("w", encoding="utf-8") as file:
        for number, text in enumerate(_told(documents, name)):
            if not isinstance(text, str):
                raise DataError(
                    f"document {number} of {name} is {text!r:.60}, of type {type(text).__name__}; "
                    "give each document as a str"
                )
            file.write(json.dumps({field: text}) + "\n")
    return path


def _told(documents: Iterable[str], name: str) -> Iterator[str]:
    number = 0
    try:
        for text in documents:
            yield text
            number += 1
    except MlmError:
        raise
    except (Exception, SystemExit) as error:  # of code that is not ours: it may fail in any way
        raise DataError(
            f"{name} failed at document {number}: {reason(error)} (--verbose shows where)"
        ) from error


def call_source(name: str) -> Iterable[str]:
    """The documents of `module:function`, called without arguments.

    Raises:
      ConfigError: there is no such function.
      DataError: it fails.
    """
    function = load_function("data.source", name)
    try:
        documents = function()
        if isinstance(documents, str):
            raise TypeError("it returns one str; return a list, or yield")
        return iter(documents)
    except (Exception, SystemExit) as error:
        raise DataError(
            f"data.source {name} failed: {reason(error)}; it takes no arguments and returns or "
            "yields documents"
        ) from error
