"""The documents of a config's text, each on its side: to train on, or held out for evaluation.

A small text is kept after the first pass; a large one is read anew, so it may exceed the memory.
"""

import contextlib
import dataclasses
import hashlib
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from mlm.text import (
    Reading,
    add_to_fingerprint,
    call_source,
    corpus_names,
    is_held_out,
    is_standard_input,
    spool_documents,
    spool_standard_input,
    stream_source,
)

TRAIN, HELDOUT = "train", "heldout"
KEPT = 50_000_000  # bytes of text that are kept in memory
GIVEN = "documents"  # what documents from a notebook are called


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
    # Files that stand for sources that can be read only once, by the source's name: see `spooled`.
    spooled: Mapping[str, Path] = dataclasses.field(default_factory=dict)

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

    def place(self, name: str) -> str:
        """Where the source of this name can be read."""
        return str(self.spooled.get(name, name))


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
      sources: how many documents each source gives to train on.
      sample: documents to train a tokenizer on, all of the training side where they fit.
      kept: all documents, or None where there are too many.
      fingerprint: sha256 of the documents and their sides.
      source: what a run records about its text.
    """

    documents: Mapping[str, int]
    bytes: Mapping[str, int]
    sources: list[int]
    fingerprint: str
    source: dict
    sample: list[str] = dataclasses.field(default_factory=list)
    kept: list[Document] | None = None


@contextlib.contextmanager
def spooled(
    settings: TextSettings, documents: Iterable[str] | None, folder: Path
) -> Iterator[TextSettings]:
    """The settings with all that can be read only once kept in files, as long as the block runs.

    Args:
      settings: of which sources may be standard input or a function.
      documents: from a notebook; they take the place of the corpus.
      folder: where the files may lie.

    Raises:
      DataError: reading them fails.
    """
    if documents is not None:
        settings = dataclasses.replace(settings, source=GIVEN)
    names = dict.fromkeys([*settings.sources, *settings.heldout_sources])
    once = [name for name in names if name == settings.source or is_standard_input(name)]
    if not once:
        yield settings
        return
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder, prefix=".spool-") as place:
        files = {}
        for name in once:
            if is_standard_input(name):
                files[name] = spool_standard_input(name, Path(place))
                continue
            texts = call_source(name) if documents is None else documents
            field = settings.reading.fields[0]
            files[name] = spool_documents(texts, name, field, Path(place))
        yield dataclasses.replace(settings, spooled=files)


def read_sides(settings: TextSettings, counts: Counter, origins: dict) -> Iterator[Document]:
    """All documents, the held-out files first.

    Args:
      settings: where from, and how it is shared.
      counts: grows by the "duplicates" left out and the characters "replaced".
      origins: filled with what is known of each side's files by the time they have been read.
    """
    seen: set[bytes] = set()
    # Held-out files come first, so that no equal document is trained on.
    held_out = [(name, number, HELDOUT) for number, name in enumerate(settings.heldout_sources)]
    rest = TRAIN if held_out else None
    for name, number, side in held_out + [(n, i, rest) for i, n in enumerate(settings.sources)]:
        origin = origins.setdefault(side or TRAIN, {})
        origin = {} if name in settings.spooled else origin
        for text in stream_source(settings.place(name), settings.reading, counts, origin):
            if settings.drop_duplicates:
                digest = hashlib.blake2b(text.encode(), digest_size=16).digest()
                if digest in seen:
                    counts["duplicates"] += 1
                    continue
                seen.add(digest)
            held = not side and is_held_out(text, settings.heldout_fraction)
            yield Document(side or (HELDOUT if held else TRAIN), number, text)


def scan(settings: TextSettings) -> Scan:
    """One pass over the text, before it is tokenized in another."""
    documents, size, counts, origins = Counter(), Counter(), Counter(), {}
    sources = [0] * len(settings.sources)
    sample, kept = _Sample(settings.tokenizer_sample), []
    digest = hashlib.sha256()
    for document in read_sides(settings, counts, origins):
        side, number, text = document
        digest.update(side.encode() + b" ")
        add_to_fingerprint(digest, text)
        documents[side] += 1
        size[side] += utf8_size(text)
        counts["characters"] += len(text)
        if side == TRAIN:
            sources[number] += 1
            if not settings.tokenizer:
                sample.add(text)
        if size.total() <= KEPT:
            kept.append(document)
        else:
            kept.clear()
    fingerprint = digest.hexdigest()
    source = {"corpus": settings.source or settings.corpus, "text": fingerprint, **origins[TRAIN]}
    if settings.heldout_corpus:
        source["heldout_corpus"] = settings.heldout_corpus
        source["heldout"] = origins[HELDOUT]
    source |= {"documents": documents.total(), "characters": counts["characters"]}
    source |= {"duplicates": counts["duplicates"], "replaced_characters": counts["replaced"]}
    return Scan(
        dict(documents), dict(size), sources, fingerprint, source, sample.texts, kept or None
    )


def utf8_size(text: str) -> int:
    """The bytes of a text in a file."""
    return len(text) if text.isascii() else len(text.encode())


class _Sample:
    """Documents of up to `limit` characters in all, chosen by a hash: in any order the same ones.

    While there are too many, the half with the larger hashes goes, and what comes later must be as
    small.
    """

    def __init__(self, limit: int):
        self.limit, self.size, self.bound = limit, 0, 1 << 64
        self.hashed: list[tuple[int, str]] = []

    @property
    def texts(self) -> list[str]:
        return [text for _, text in self.hashed]

    def add(self, text: str) -> None:
        number = _sample_hash(text)
        if number >= self.bound:
            return
        self.hashed.append((number, text))
        self.size += len(text)
        while self.size > self.limit and len(self.hashed) > 1:
            self.bound //= 2
            self.hashed = [(n, t) for n, t in self.hashed if n < self.bound]
            self.size = sum(len(t) for _, t in self.hashed)


def _sample_hash(text: str) -> int:
    digest = hashlib.blake2b(text.encode(), digest_size=8, person=b"tokenizer").digest()
    return int.from_bytes(digest, "big")
