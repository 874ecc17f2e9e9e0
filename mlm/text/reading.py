"""What counts as text: settings that hold for every kind of file, and documents of records."""

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from mlm.errors import DataError

REPLACEMENT = "\N{REPLACEMENT CHARACTER}"
# JSON can escape half of a character, which UTF-8 cannot hold.
LONE_SURROGATE = re.compile("[\ud800-\udfff]")


@dataclass(frozen=True)
class Reading:
    """How text is read.

    Attributes:
      document: of a text file, 'paragraph' (blank lines between them), 'line' or 'file'.
      field: of `.jsonl`, `.parquet` and datasets, where each record holds its document; of several
        between commas, the first that the record has.
      on_bad_bytes: 'error', or 'replace' by U+FFFD what is not text.
    """

    document: str = "paragraph"
    field: str = "text"
    on_bad_bytes: str = "error"

    @property
    def fields(self) -> list[str]:
        return [name.strip() for name in self.field.split(",")]


def record_text(record: Mapping, reading: Reading, counts: Counter, where: str) -> str:
    """The document of a record, white space around it included.

    Args:
      record: its fields.
      reading: names the field.
      counts: see `clean_text`.
      where: file and line, for errors.

    Raises:
      DataError: it has none of the fields, or something else than text in it.
    """
    name = next((name for name in reading.fields if name in record), None)
    if name is not None and not isinstance(record[name], str):
        raise DataError(
            f"{where} has no text in the field {name!r} but {type(record[name]).__name__}; mend "
            "it or leave it out"
        )
    if name is None:
        names = ", ".join(sorted(map(str, record))[:10])
        raise DataError(
            f"{where} has no text in the field {reading.field!r} (it has {names or 'no fields'}); "
            "name another with data.field"
        )
    return clean_text(record[name], reading, counts, where)


def clean_text(text: str, reading: Reading, counts: Counter, where: str) -> str:
    """The text without lone surrogates and NUL characters, or an error where there are any.

    `counts["replaced"]` grows by their number.
    """
    mended = LONE_SURROGATE.sub(REPLACEMENT, text).replace("\0", REPLACEMENT)
    if mended == text:
        return text
    if reading.on_bad_bytes == "error":
        found = "a NUL character" if "\0" in text else "a lone surrogate"
        raise DataError(f"{where} holds {found}; mend it or say data.on_bad_bytes=replace")
    counts["replaced"] += mended.count(REPLACEMENT) - text.count(REPLACEMENT)
    return mended
