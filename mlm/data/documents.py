"""The documents of a config's text, each on its side: to train on, or held out for evaluation.

A small text is kept after the first pass; a large one is read anew, so it may exceed the memory.
"""

import hashlib
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from mlm.text import Reading, add_to_fingerprint, is_held_out, stream_corpus

TRAIN, HELDOUT = "train", "heldout"
KEPT = 50_000_000  # characters of text that are kept in memory


@dataclass(frozen=True)
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
    tokenizer_sample: int = 50_000_000  # characters of documents that a tokenizer is trained on

    @property
    def reading(self) -> Reading:
        return Reading(self.document, self.field, self.on_bad_bytes)


@dataclass(frozen=True)
class Scan:
    """What one pass over the documents has found.

    Attributes:
      documents, characters: by side.
      sample: documents to train a tokenizer on, all of the training side where they fit.
      kept: (side, document) of all text, or None where there is too much of it.
      fingerprint: sha256 of the documents and their sides.
      source: what a run records about its text.
    """

    documents: Counter
    characters: Counter
    sample: list[str]
    kept: list[tuple[str, str]] | None
    fingerprint: str
    source: dict


def read_sides(settings: TextSettings, counts: Counter, origins: dict) -> Iterator[tuple[str, str]]:
    """(side, document) of all text, the held-out files first.

    Args:
      settings: where from, and how it is shared.
      counts: grows by the "duplicates" left out and the characters "replaced".
      origins: filled with what is known of each corpus by the time it has been read.
    """
    seen: set[bytes] = set()
    corpora = [(settings.corpus, None)]
    if settings.heldout_corpus:  # first, so that no equal document is trained on
        corpora = [(settings.heldout_corpus, HELDOUT), (settings.corpus, TRAIN)]
    for corpus, side in corpora:
        origins[corpus] = {}
        for text in stream_corpus(corpus, settings.reading, counts, origins[corpus]):
            if settings.drop_duplicates:
                digest = hashlib.blake2b(text.encode(), digest_size=16).digest()
                if digest in seen:
                    counts["duplicates"] += 1
                    continue
                seen.add(digest)
            held_out = not side and is_held_out(text, settings.heldout_fraction)
            yield side or (HELDOUT if held_out else TRAIN), text


def scan(settings: TextSettings) -> Scan:
    """One pass over the text, before it is tokenized in another."""
    documents, characters, counts, origins = Counter(), Counter(), Counter(), {}
    sample, kept = _Sample(settings.tokenizer_sample), []
    digest = hashlib.sha256()
    for side, text in read_sides(settings, counts, origins):
        digest.update(side.encode() + b" ")
        add_to_fingerprint(digest, text)
        documents[side] += 1
        characters[side] += len(text)
        if side == TRAIN and not settings.tokenizer:
            sample.add(text)
        if characters.total() <= KEPT:
            kept.append((side, text))
        else:
            kept.clear()
    fingerprint = digest.hexdigest()
    source = {"corpus": settings.corpus, "text": fingerprint, **origins[settings.corpus]}
    if settings.heldout_corpus:
        source["heldout_corpus"] = settings.heldout_corpus
        source["heldout"] = origins[settings.heldout_corpus]
    source |= {"documents": documents.total(), "characters": characters.total()}
    source |= {"duplicates": counts["duplicates"], "replaced_characters": counts["replaced"]}
    return Scan(documents, characters, sample.texts, kept or None, fingerprint, source)


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


def with_progress(
    texts: Iterator[str], total: int, say: Callable[[str], None], *, every: float = 10.0
) -> Iterator[str]:
    """The same texts, and a line on how far they are of `total` characters now and then."""
    began = told = time.monotonic()
    done = 0
    for text in texts:
        yield text
        done += len(text)
        now = time.monotonic()
        if now - told >= every:
            speed = done / (now - began)
            left = (total - done) / speed
            say(
                f"  {done / 1e6:,.0f} of {total / 1e6:,.0f} million characters, "
                f"{speed / 1e6:.1f} million a second, {left:,.0f} s left"
            )
            told = now
