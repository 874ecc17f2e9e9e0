"""The rows that masks are looked at on: those that training begins with, or lines of a file.

B rows, L length.
"""

import dataclasses
import tempfile
from collections import Counter
from collections.abc import Callable
from itertools import islice
from pathlib import Path

import numpy as np
from ml_collections import ConfigDict

from mlm.data import (
    Rows,
    TokenStore,
    WordTable,
    collocation_starts,
    find_collocations,
    locate,
    make_rows,
    open_store,
    open_units,
    read_rows,
    save_units,
    write_store,
)
from mlm.errors import ConfigError, DataError
from mlm.input import batch_function, training_rows
from mlm.masking_rules import BITMAPS
from mlm.preparing import PreparedText
from mlm.text import Reading, continuations, stream_source, wordless

LARGEST = 512  # rows whose masks are drawn: some ten thousand tokens even where rows are short
Batch = dict[str, np.ndarray]


@dataclasses.dataclass(frozen=True, eq=False)
class Source:
    """Rows and what masks need to know of them.

    Attributes:
      batch: as `batch_at` gives it, or `read_rows` with example_ids and visits.
      documents, offsets: `int64[B, L]`, see `mlm.data.locate`.
      starts: `starts(config) -> bool[B, L]`, where units begin if a bitmap says so.
    """

    batch: Batch
    documents: np.ndarray
    offsets: np.ndarray
    starts: Callable[[ConfigDict], np.ndarray]

    def batch_for(self, config: ConfigDict) -> Batch:
        """The rows with the units that this config's strategy needs."""
        if config.masking.unit not in BITMAPS:
            return self.batch
        return self.batch | {"unit_starts": self.starts(config)}


def training_source(
    config: ConfigDict, text: PreparedText, rows: Rows, *, say: Callable = print
) -> Source:
    """The rows of the first batches of a run, at most `LARGEST`; those of batch 0 come first."""
    batch_at = batch_function(config, rows)
    size = min(LARGEST, len(rows))
    batches = [batch_at(k) for k in range(-(-size // config.train.batch_size))]
    batch = {name: np.concatenate([b[name] for b in batches])[:size] for name in batches[0]}

    def starts(other: ConfigDict) -> np.ndarray:
        with_units = training_rows(other, text, say=say)
        return read_rows(with_units, batch["example_ids"])["unit_starts"]

    return Source(batch, *locate(rows, batch["example_ids"]), starts)


def text_source(config: ConfigDict, text: PreparedText, file: str) -> Source:
    """The lines of a file (or the records of .jsonl), each in a row of its own; at most `LARGEST`.

    A line that is too long for a row goes on in the next one.

    Raises:
      DataError: the file cannot be read, or holds no word.
    """
    documents = _tokens(config, text, file)
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder) / "lines"
        store = _store(place, documents, text)
        rows = _line_rows(config, text, store)
        ids = np.arange(min(LARGEST, len(rows)), dtype=np.int32)
        batch = read_rows(rows, ids) | {"example_ids": ids, "visits": np.zeros_like(ids)}
        places = locate(rows, ids)
        # The tokens stay in memory when the folder is gone.
        kept = dataclasses.replace(store, tokens=np.array(store.tokens))
    return Source(batch, *places, lambda other: _line_starts(other, text, kept, ids))


def _tokens(config: ConfigDict, text: PreparedText, file: str) -> list[list[int]]:
    reading = Reading("line", config.data.field, config.data.on_bad_bytes)
    lines = list(islice(stream_source(file, reading, Counter(), {}), LARGEST))
    documents = [ids for ids in text.tokenizer.encode(lines) if ids]
    if not documents:
        raise DataError(f"--text {file} has no words, only white space; write a line of text in it")
    return documents


def _store(place: Path, documents: list[list[int]], text: PreparedText) -> TokenStore:
    write_store(
        place,
        documents,
        vocabulary_size=text.tokenizer.vocabulary_size,
        tokenizer_hash=text.tokenizer.hash,
        fingerprint="lines",
        source={},
    )
    return open_store(place, tokenizer_hash=text.tokenizer.hash)


def _line_rows(config: ConfigDict, text: PreparedText, store: TokenStore, units=None) -> Rows:
    special, length = text.tokenizer.special, config.data.length
    return make_rows(store, mode="document", length=length, special=special, units=units)


def _line_starts(
    config: ConfigDict, text: PreparedText, store: TokenStore, ids: np.ndarray
) -> np.ndarray:
    """Where units begin in the lines: the collocations are those of the text of training."""
    if config.masking.unit == "external":
        raise ConfigError(
            "masks of unit 'external' are bitmaps of the corpus, which hold no line of --text; "
            "leave out --text, or the unit"
        )
    table = WordTable(continuations(text.tokenizer), wordless(text.tokenizer))
    found = find_collocations(text.train, table, more_than=config.masking.pmi_count)
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder) / "units"
        save_units(store, collocation_starts(store, table, found), place, name="pmi")
        rows = _line_rows(config, text, store, open_units(place, store))
        return read_rows(rows, ids)["unit_starts"]
