"""From a corpus to token stores on disk: read, split, tokenized once, found again by the next run.

A prepared folder holds `tokenizer.json` and two token stores, `train/` and `heldout/`.
"""

import dataclasses
import hashlib
import json
import os
import re
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

import tokenizers

from mlm.data.documents import (
    HELDOUT,
    TRAIN,
    Scan,
    TextSettings,
    read_sides,
    scan,
    with_progress,
)
from mlm.data.store import TokenStore, open_store, write_store
from mlm.errors import DataError, OutputError
from mlm.text import (
    Tokenizer,
    corpus_identity,
    load_tokenizer,
    train_tokenizer,
)

VERSION = 2  # of a prepared folder; part of its name in the cache
CHUNK = 1 << 20  # characters encoded at a time; their encodings take a hundred times the memory
PIECE = 1 << 16  # characters that one core encodes at a time
TOLD = {
    "duplicates": "documents left out that were there before",
    "replaced_characters": "characters stand for bytes that are no text",
}


@dataclasses.dataclass(frozen=True)
class PreparedText:
    """A tokenizer and the token stores that it made."""

    folder: Path
    tokenizer: Tokenizer
    train: TokenStore
    heldout: TokenStore

    @property
    def stores(self) -> dict[str, TokenStore]:
        return {TRAIN: self.train, HELDOUT: self.heldout}


def default_cache_dir() -> Path:
    """The user's cache directory for this project (`XDG_CACHE_HOME`, else `~/.cache`)."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "mlm"


def prepare(
    settings: TextSettings, folder: Path | None = None, *, cache_dir: Path, say: Callable = print
) -> PreparedText:
    """The prepared text of `settings`, made now unless it is already there.

    Args:
      settings: corpus, split and tokenizer.
      folder: where it goes; by default a place in `cache_dir` named after all that decides it.
      cache_dir: see `default_cache_dir`.
      say: called with a line on what is being done, only when something is.

    Raises:
      DataError: the corpus or the tokenizer cannot be used.
      OutputError: `folder` holds other text already, or cannot be written.
    """
    name = _cache_name(settings)
    cached = folder is None
    folder = cache_dir / name if cached else folder
    if not folder.exists():
        _make(settings, folder, name, say)
    elif not cached and _name_of(folder) != name:
        raise OutputError(
            f"{folder} exists and was not made from this text and tokenizer; "
            "choose another --out or remove it"
        )
    return open_prepared(folder)


def open_prepared(folder: Path, *, tokenizer: Tokenizer | None = None) -> PreparedText:
    """The prepared text in `folder`.

    Raises:
      DataError: it is missing or damaged, or was made by another tokenizer than the one given.
    """
    if not (folder / "tokenizer.json").is_file():
        raise DataError(
            f"{folder} holds no prepared text; make it with python -m mlm prepare --out={folder}"
        )
    own = tokenizer or load_tokenizer(folder / "tokenizer.json")
    return PreparedText(
        folder=folder,
        tokenizer=own,
        train=open_store(folder / "train", tokenizer_hash=own.hash),
        heldout=open_store(folder / "heldout", tokenizer_hash=own.hash),
    )


def _make(settings: TextSettings, folder: Path, name: str, say: Callable) -> None:
    say(f"reading {settings.corpus}")
    found = scan(settings)
    for fact, words in TOLD.items():
        if found.source[fact]:
            say(f"{found.source[fact]:,} {words}")
    _check_sides(settings, found)
    if settings.tokenizer:
        tokenizer = load_tokenizer(settings.tokenizer, lowercase=settings.lowercase)
    else:
        say(f"training a WordPiece vocabulary of {settings.vocabulary_size}")
        tokenizer = train_tokenizer(
            found.sample, vocabulary_size=settings.vocabulary_size, lowercase=settings.lowercase
        )
    say(f"tokenizing {found.documents.total():,} documents into {folder}")
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}-") as temporary:
            partial = Path(temporary) / folder.name
            partial.mkdir()
            tokenizer.save(partial / "tokenizer.json")
            for side in (TRAIN, HELDOUT):
                _write_side(settings, side, found, tokenizer, partial / side, say)
            if not found.kept and _cache_name(settings) != name:
                raise DataError(
                    f"{settings.corpus} changed while it was read; start again when it is complete"
                )
            facts = {"name": name, **found.source}
            (partial / "prepared.json").write_text(json.dumps(facts, indent=2))
            _rename(partial, folder)
    except OutputError:
        raise  # the store's own, which says more
    except OSError as error:
        raise OutputError(
            f"{folder} cannot be written ({error.strerror}); free some space, or choose another "
            "data.cache_dir or --out"
        ) from error


def _check_sides(settings: TextSettings, found: Scan) -> None:
    train, heldout = found.documents[TRAIN], found.documents[HELDOUT]
    if not train or not heldout:
        raise DataError(
            f"data.corpus {settings.corpus} has {train + heldout} documents, of which "
            f"data.heldout_fraction {settings.heldout_fraction} leaves {train} to train on and "
            f"{heldout} to evaluate on; give more text, change the fraction, name "
            "data.heldout_corpus, or make a document of every line with data.document=line"
        )


def _write_side(settings, side, found: Scan, tokenizer: Tokenizer, path: Path, say) -> None:
    texts = (text for at, text in found.kept or read_sides(settings, Counter(), {}) if at == side)
    write_store(
        path,
        encode(tokenizer, with_progress(texts, found.characters[side], say)),
        vocabulary_size=tokenizer.vocabulary_size,
        tokenizer_hash=tokenizer.hash,
        fingerprint=f"{found.fingerprint}:{settings.heldout_fraction:g}:{side}",
        source=found.source,
    )


def _rename(partial: Path, folder: Path) -> None:
    try:
        partial.rename(folder)
    except OSError:
        if not folder.is_dir():  # else another process made the same meanwhile
            raise


def encode(tokenizer: Tokenizer, texts: Iterable[str]) -> Iterator[list[int]]:
    """The ids of each text; long ones are cut at white space, which changes nothing."""
    batch: list[list[str]] = []
    size = 0
    for text in texts:
        batch.append(_pieces(text))
        size += len(text)
        if size >= CHUNK:
            yield from _encode_batch(tokenizer, batch)
            batch, size = [], 0
    yield from _encode_batch(tokenizer, batch)


def _encode_batch(tokenizer: Tokenizer, batch: Sequence[list[str]]) -> Iterator[list[int]]:
    ids = iter(tokenizer.encode([piece for pieces in batch for piece in pieces]))
    for pieces in batch:
        document = next(ids)
        for _ in pieces[1:]:
            document += next(ids)
        yield document


def _pieces(text: str) -> list[str]:
    """A word of more than `PIECE` characters is cut too: to a tokenizer it is [UNK] in any case."""
    pieces = []
    while len(text) > PIECE:
        cut = max(text.rfind(" ", 1, PIECE), text.rfind("\n", 1, PIECE))
        cut = PIECE if cut < 0 else cut
        pieces.append(text[:cut])
        text = text[cut:]
    return [*pieces, text]


def _cache_name(settings: TextSettings) -> str:
    """A readable stem and a hash of everything that the prepared text follows from."""
    made_by = f"trained with tokenizers {tokenizers.__version__}"
    if settings.tokenizer:
        made_by = load_tokenizer(settings.tokenizer, lowercase=settings.lowercase).hash
    corpora = filter(None, (settings.corpus, settings.heldout_corpus))
    identity = [corpus_identity(corpus, settings.reading) for corpus in corpora]
    facts = json.dumps([VERSION, identity, made_by, dataclasses.astuple(settings)])
    stem = re.sub(r"[^a-z0-9]+", "-", Path(settings.corpus.split(",")[0]).stem.lower()).strip("-")
    return f"{stem}-{hashlib.sha256(facts.encode()).hexdigest()[:16]}"


def _name_of(folder: Path) -> str | None:
    try:
        return json.loads((folder / "prepared.json").read_text())["name"]
    except (OSError, ValueError, KeyError):
        return None
