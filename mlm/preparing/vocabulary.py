"""A tokenizer trained ahead of `prepare`: from the same documents, so with the same ids."""

import tempfile
from collections.abc import Callable
from pathlib import Path

from mlm.errors import ConfigError, OutputError
from mlm.preparing.documents import TRAIN, Scan, TextSettings, scan, utf8_size
from mlm.preparing.once import spooled
from mlm.text import Tokenizer, train_tokenizer


def train_vocabulary(
    settings: TextSettings, out: Path, *, cache_dir: Path, say: Callable = print
) -> Tokenizer:
    """The tokenizer that `prepare` would train on this text, written to `out`.

    Args:
      settings: corpus, split and vocabulary; nothing that is held out is trained on.
      out: a `.json` file that does not exist yet; it appears when it is complete.
      cache_dir: where text that can be read only once is kept meanwhile.
      say: called with a line on what is being done.

    Raises:
      ConfigError: the settings name a tokenizer, or `out` is no `.json` file.
      DataError: the text cannot be used.
      OutputError: `out` exists or cannot be written.
    """
    if settings.tokenizer:
        raise ConfigError(
            f"data.tokenizer is {settings.tokenizer}, so none would be trained; leave it empty"
        )
    if out.suffix != ".json":
        raise ConfigError(f"--out is {out}; a tokenizer is a .json file: name it so")
    if out.exists():
        raise OutputError(f"--out {out} exists; choose another name or remove it")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        # Made before the text is read: a place that cannot be written is told at once.
        with tempfile.TemporaryDirectory(dir=out.parent, prefix=f".{out.name}-"):
            with spooled(settings, None, cache_dir) as settings:
                say(f"reading {settings.shown}")
                tokenizer = train_on(scan(settings), settings, say=say)
            tokenizer.save(out)
    except OSError as error:
        raise OutputError(
            f"--out {out} cannot be written ({error.strerror}); free some space or choose another "
            "folder"
        ) from error
    return tokenizer


def train_on(found: Scan, settings: TextSettings, *, say: Callable = print) -> Tokenizer:
    """The tokenizer of a scanned text: trained on its sample, which is told in bytes."""
    size = sum(map(utf8_size, found.sample))
    say(
        f"training a WordPiece vocabulary of {settings.vocabulary_size:,} on {size:,} of "
        f"{found.bytes.get(TRAIN, 0):,} bytes that are not held out"
    )
    return train_tokenizer(
        found.sample, vocabulary_size=settings.vocabulary_size, lowercase=settings.lowercase
    )
