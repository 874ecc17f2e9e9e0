"""Files that tokenizers are read from: their text, and one piece a line as a vocabulary."""

from pathlib import Path

from mlm.errors import DataError
from mlm.text.files import not_utf8


def read_text(path: Path) -> str:
    """Returns the text of a tokenizer's file, without byte order mark and with \\n as line ending.

    Raises DataError when the file cannot be read or is not UTF-8.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise DataError(
            f"tokenizer {path} cannot be read ({error.strerror}); correct the path, or train a "
            "tokenizer on the corpus"
        ) from error
    try:
        return content.decode("utf-8-sig").replace("\r\n", "\n")
    except UnicodeDecodeError as error:
        # `error.object` has no byte order mark in front, unlike `content`.
        line = error.object.count(b"\n", 0, error.start) + 1
        raise not_utf8(path, error, line) from error


def parse_vocabulary(content: str, path: Path) -> dict[str, int]:
    """Returns the pieces of a vocabulary file with their ids, which are their lines from 0.

    Raises DataError for a piece that is there twice.
    """
    vocabulary = {}
    for id, piece in enumerate(content.rstrip("\n").split("\n")):
        if piece in vocabulary:
            raise DataError(
                f"tokenizer {path}: line {id + 1} repeats {piece!r} of line "
                f"{vocabulary[piece] + 1}, and a piece has one id; repair the file or use the "
                "tokenizer.json of the same checkpoint"
            )
        vocabulary[piece] = id
    return vocabulary
