"""The documents of a config's text, each on its side: to train on, or held out for evaluation.

A small text is kept after the first pass; a large one is read anew, so it may exceed the memory.
"""

import dataclasses
import hashlib
from array import array
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from mlm.errors import DataError
from mlm.text import (
    Reading,
    add_to_fingerprint,
    corpus_names,
    is_held_out,
    no_document,
    stream_source,
)
from mlm.text.tokenizer import SPECIAL_TOKENS

TRAIN, HELDOUT = "train", "heldout"
KEPT = 50_000_000  # bytes of text that are kept in memory
OVERHEAD = 200  # bytes that a kept document takes besides


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
    source: str = ""  # module:function; its documents take the place of the corpus
    heldout_corpus: str = ""  # files of their own; empty: a fraction of the corpus
    drop_duplicates: bool = False  # of documents that are equal, keep the first
    tokenizer_sample: int = 50_000_000  # characters of documents that a tokenizer is trained on
    # Files that stand for sources that can be read only once, by side and number: see `once`.
    spooled: Mapping[tuple[str | None, int], Path] = dataclasses.field(default_factory=dict)

    @property
    def reading(self) -> Reading:
        return Reading(self.document, self.field, self.on_bad_bytes)

    @property
    def sources(self) -> list[str]:
        """The names of what is trained on, in order."""
        return [self.source] if self.source else corpus_names(self.corpus)

    @property
    def heldout_sources(self) -> list[str]:
        return corpus_names(self.heldout_corpus) if self.heldout_corpus else []

    @property
    def shown(self) -> str:
        """What the text is called."""
        return self.source or self.corpus

    def places(self) -> list[tuple[str | None, int, str]]:
        """(side, number, where it can be read) of each source, those that are held out first.

        None stands for both sides: then a hash of each document decides.
        """
        places = [(HELDOUT, i, name) for i, name in enumerate(self.heldout_sources)]
        side = TRAIN if places else None
        places += [(side, i, name) for i, name in enumerate(self.sources)]
        return [(side, i, str(self.spooled.get((side, i), name))) for side, i, name in places]


class Document(NamedTuple):
    """A text, whether it is trained on or held out, and the number of its source."""

    side: str
    source: int
    text: str


@dataclasses.dataclass(frozen=True)
class Scan:
    """What one pass over the documents has found.

    Attributes:
      documents, bytes: by side; bytes as UTF-8.
      train_documents: how many documents each source gives to train on.
      fingerprint: sha256 of the documents and their sides.
      facts: what a run records about its text.
      sample: documents to train a tokenizer on, all of the training side where they fit.
      kept: all documents, or None where there are too many.
    """

    documents: Mapping[str, int]
    bytes: Mapping[str, int]
    train_documents: list[int]
    fingerprint: str
    facts: dict
    sample: list[str] = dataclasses.field(default_factory=list)
    kept: list[Document] | None = None


def read_sides(settings: TextSettings, counts: Counter, origins: dict) -> Iterator[Document]:
    """All documents, the held-out files first; what these hold is not trained on.

    Args:
      settings: where from, and how it is shared.
      counts: grows by the documents left out as "duplicates" or because they are "held_out", and
        by the characters "replaced".
      origins: filled with what is known of each side's files by the time they have been read.
    """
    held_out: set[bytes] = set()
    seen: set[bytes] = set()
    for side, number, place in settings.places():
        origin = origins.setdefault(side or TRAIN, {})
        for text in _read_source(settings, (side, number), place, counts, origin):
            digest = _digest(text) if side or settings.drop_duplicates else b""
            if side == TRAIN and digest in held_out:
                counts["held_out"] += 1
                continue
            if settings.drop_duplicates and digest in seen:
                counts["duplicates"] += 1
                continue
            if settings.drop_duplicates:
                seen.add(digest)
            if side == HELDOUT:
                held_out.add(digest)
            held = not side and is_held_out(text, settings.heldout_fraction)
            yield Document(side or (HELDOUT if held else TRAIN), number, text)


def _digest(text: str) -> bytes:
    return hashlib.blake2b(text.encode(), digest_size=16).digest()


def _read_source(
    settings: TextSettings, key: tuple, place: str, counts: Counter, origin: dict
) -> Iterator[str]:
    """The documents of one source; of a spooled one, neither facts nor errors name the file."""
    if key not in settings.spooled:
        yield from stream_source(place, settings.reading, counts, origin)
        return
    try:
        yield from stream_source(place, settings.reading, counts, {})
    except DataError as error:
        name = (settings.heldout_sources if key[0] == HELDOUT else settings.sources)[key[1]]
        raise DataError(str(error).replace(place, name)) from error


def scan(settings: TextSettings) -> Scan:
    """One pass over the text, before it is tokenized in another.

    Raises:
      DataError: there is no document in it, or it cannot be read.
    """
    documents, size, counts, origins = Counter(), Counter(), Counter(), {}
    train_documents = [0] * len(settings.sources)
    sample, kept = Sample(settings.tokenizer_sample), []
    digest = hashlib.sha256()
    for document in read_sides(settings, counts, origins):
        side, number, text = document
        digest.update(side.encode() + b" ")
        add_to_fingerprint(digest, text)
        documents[side] += 1
        size[side] += utf8_size(text)
        counts["characters"] += len(text)
        if "[" in text:
            counts["special_names"] += sum(text.count(name) for name in SPECIAL_TOKENS)
        if side == TRAIN:
            train_documents[number] += 1
            if not settings.tokenizer:
                sample.add(text)
        if size.total() + OVERHEAD * documents.total() <= KEPT:
            kept.append(document)
        else:
            kept.clear()
    if not documents:
        raise no_document(settings.shown)
    fingerprint = digest.hexdigest()
    facts = {"corpus": settings.shown, "text": fingerprint, **origins[TRAIN]}
    if settings.heldout_corpus:
        facts["heldout_corpus"] = settings.heldout_corpus
        facts["heldout"] = origins[HELDOUT]
    facts |= {"documents": documents.total(), "characters": counts["characters"]}
    facts |= {"duplicates": counts["duplicates"], "held_out_too": counts["held_out"]}
    facts |= {"replaced_characters": counts["replaced"]}
    facts |= {"special_names": counts["special_names"]}
    sides = dict(documents), dict(size)
    return Scan(*sides, train_documents, fingerprint, facts, sample.texts, kept or None)


def utf8_size(text: str) -> int:
    """The bytes of a text in a file."""
    return len(text) if text.isascii() else len(text.encode())


class Sample:
    """Documents of up to `limit` characters in all, chosen by a hash: in any order the same ones.

    While there are too many, the half with the larger hashes goes, and what comes later must be as
    small. Where every document is longer than the limit, the one with the smallest hash stays.
    """

    def __init__(self, limit: int):
        self.limit, self.size, self.bound = limit, 0, 1 << 64
        self.texts: list[str] = []
        self.hashes = array("Q")

    def add(self, text: str) -> None:
        number = _sample_hash(text)
        if number >= self.bound and not (len(self.texts) == 1 and number < self.hashes[0]):
            return
        self.texts.append(text)
        self.hashes.append(number)
        self.size += len(text)
        while self.size > self.limit and len(self.texts) > 1:
            self.bound //= 2
            self._keep([i for i, n in enumerate(self.hashes) if n < self.bound])

    def _keep(self, chosen: list[int]) -> None:
        chosen = chosen or [min(range(len(self.hashes)), key=self.hashes.__getitem__)]
        self.texts = [self.texts[i] for i in chosen]
        self.hashes = array("Q", (self.hashes[i] for i in chosen))
        self.size = sum(map(len, self.texts))


def _sample_hash(text: str) -> int:
    digest = hashlib.blake2b(text.encode(), digest_size=8, person=b"tokenizer").digest()
    return int.from_bytes(digest, "big")
