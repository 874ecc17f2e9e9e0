"""From a corpus to token stores on disk: read, split, tokenized once, found again by the next run.

A prepared folder holds `tokenizer.json` and two token stores, `train/` and `heldout/`.
"""

import dataclasses
import hashlib
import json
import os
import re
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import tokenizers

from mlm.data.store import TokenStore, open_store, write_store
from mlm.errors import DataError, OutputError
from mlm.text import (
    Reading,
    Tokenizer,
    corpus_identity,
    is_held_out,
    load_tokenizer,
    read_corpus,
    train_tokenizer,
)

VERSION = 1  # of a prepared folder; part of its name in the cache
CHUNK = 1000  # documents encoded at a time
TOLD = {
    "duplicates": "documents left out that were there before",
    "replaced_characters": "characters stand for bytes that are no text",
}


@dataclasses.dataclass(frozen=True)
class TextSettings:
    """What decides the content of a prepared folder; the fields of `config.data`."""

    corpus: str
    document: str
    heldout_fraction: float
    tokenizer: str  # path; empty: trained on the corpus
    vocabulary_size: int
    lowercase: bool
    field: str = "text"
    on_bad_bytes: str = "error"
    heldout_corpus: str = ""  # files of their own; empty: a fraction of the corpus
    drop_duplicates: bool = False  # of documents that are equal, keep the first

    @property
    def reading(self) -> Reading:
        return Reading(self.document, self.field, self.on_bad_bytes)


@dataclasses.dataclass(frozen=True)
class PreparedText:
    """A tokenizer and the token stores that it made."""

    folder: Path
    tokenizer: Tokenizer
    train: TokenStore
    heldout: TokenStore


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
    train, heldout, source = _read(settings, say)
    if settings.tokenizer:
        tokenizer = load_tokenizer(settings.tokenizer, lowercase=settings.lowercase)
    else:
        say(f"training a WordPiece vocabulary of {settings.vocabulary_size}")
        tokenizer = train_tokenizer(
            train, vocabulary_size=settings.vocabulary_size, lowercase=settings.lowercase
        )
    say(f"tokenizing {len(train) + len(heldout):,} documents into {folder}")
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}-") as temporary:
            partial = Path(temporary) / folder.name
            partial.mkdir()
            tokenizer.save(partial / "tokenizer.json")
            for part, texts in (("train", train), ("heldout", heldout)):
                write_store(
                    partial / part,
                    _encoded(tokenizer, texts),
                    vocabulary_size=tokenizer.vocabulary_size,
                    tokenizer_hash=tokenizer.hash,
                    fingerprint=f"{source['text']}:{settings.heldout_fraction:g}:{part}",
                    source=source,
                )
            (partial / "prepared.json").write_text(json.dumps({"name": name, **source}, indent=2))
            _rename(partial, folder)
    except OutputError:
        raise  # the store's own, which says more
    except OSError as error:
        raise OutputError(
            f"{folder} cannot be written ({error.strerror}); free some space, or choose another "
            "data.cache_dir or --out"
        ) from error


def _read(settings: TextSettings, say: Callable) -> tuple[list[str], list[str], dict]:
    """The documents to train on, those to evaluate on, and what a run records about them."""
    say(f"reading {settings.corpus}")
    corpus = read_corpus(settings.corpus, settings.reading)
    source = {"corpus": settings.corpus, "text": corpus.fingerprint, **corpus.origin}
    if settings.heldout_corpus:
        own = read_corpus(settings.heldout_corpus, settings.reading)
        source |= {"heldout_corpus": settings.heldout_corpus, "heldout": own.origin}
        source["text"] = f"{corpus.fingerprint}:{own.fingerprint}"
        train, heldout = list(corpus.documents), list(own.documents)
    else:
        train, heldout = [], []
        for text in corpus.documents:
            (heldout if is_held_out(text, settings.heldout_fraction) else train).append(text)
    if settings.drop_duplicates:
        documents = len(train) + len(heldout)
        heldout = list(dict.fromkeys(heldout))
        seen = set(heldout)  # what is evaluated on is not trained on
        train = [text for text in dict.fromkeys(train) if text not in seen]
        source["duplicates"] = documents - len(train) - len(heldout)
        source["text"] += ":once"
    for name, words in TOLD.items():
        if source.get(name):
            say(f"{source[name]:,} {words}")
    if not train or not heldout:
        raise DataError(
            f"data.corpus {settings.corpus} has {len(corpus.documents)} documents, of which "
            f"data.heldout_fraction {settings.heldout_fraction} leaves {len(train)} to train on "
            f"and {len(heldout)} to evaluate on; give more text, change the fraction, name "
            "data.heldout_corpus, or make a document of every line with data.document=line"
        )
    return train, heldout, source


def _rename(partial: Path, folder: Path) -> None:
    try:
        partial.rename(folder)
    except OSError:
        if not folder.is_dir():  # else another process made the same meanwhile
            raise


def _encoded(tokenizer: Tokenizer, texts: Sequence[str]) -> Iterator[list[int]]:
    for start in range(0, len(texts), CHUNK):
        yield from tokenizer.encode(texts[start : start + CHUNK])


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
