"""Tokenizers side by side: what they make of texts, and what their vocabularies share."""

import os
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import astuple, dataclass
from pathlib import Path

import tokenizers
from rich.box import SIMPLE_HEAD
from rich.table import Table

from mlm.errors import DataError
from mlm.text.corpus import corpus_names, stream_source
from mlm.text.files import find_files, read_documents
from mlm.text.pieces import pieces
from mlm.text.reading import Reading
from mlm.text.show import normalise
from mlm.text.tables import DATASETS
from mlm.text.tokenizer import UNKNOWN_WARNING, Tokenizer

BATCH = 1 << 20  # characters encoded at a time; their encodings take a hundred times the memory
COLUMNS = ("text", "words", "by", "tokens/word", "chars/token", "[UNK]", "unread", "dropped")
NOTES = (
    "chars: all but white space   unread: share of them in words that are [UNK]",
    "dropped: share of letters, accents and vowel signs, each by itself, that normalisation drops;",
    "  lower-casing drops accents, and with them vowels of Thai and Indic scripts, tones of",
    "  Vietnamese and the voicing of kana; data.lowercase=False keeps them",
)


@dataclass(frozen=True)
class Measure:
    """What one tokenizer makes of a text; those of several texts can be added.

    Attributes:
      words: parts between white space; one beyond 65,536 characters counts as several.
      characters: all but white space.
      tokens: pieces, without [CLS] and [SEP].
      unknown: tokens that are [UNK].
      unread: characters in them.
      signs: characters with accents and vowel signs taken off and counted by themselves.
      dropped: signs that normalisation drops.
    """

    words: int = 0
    characters: int = 0
    tokens: int = 0
    unknown: int = 0
    unread: int = 0
    signs: int = 0
    dropped: int = 0

    def __add__(self, other: "Measure") -> "Measure":
        return Measure(*(a + b for a, b in zip(astuple(self), astuple(other), strict=True)))

    @property
    def unknown_share(self) -> float:
        return self.unknown / max(1, self.tokens)

    @property
    def unread_share(self) -> float:
        return self.unread / max(1, self.characters)

    @property
    def dropped_share(self) -> float:
        return self.dropped / max(1, self.signs)


def compare_texts(
    source: str, tokenizers: Sequence[Tokenizer], reading: Reading
) -> dict[str, list[Measure]]:
    """The measures of each tokenizer by file, and "in all" where there are several files.

    Args:
      source: files, folders, globs and other names of text, as in `data.corpus`.
      tokenizers: at least one.
      reading: what text is in the files.

    Raises:
      DataError: a text cannot be read, or there is no word in any.
    """
    measures = {name: measure(texts, tokenizers) for name, texts in _texts(source, reading)}
    total = [sum(column, Measure()) for column in zip(*measures.values(), strict=True)]
    if not total[0].words:
        raise DataError(f"the text {source} has no words, only white space; name another")
    return measures | ({"in all": total} if len(measures) > 1 else {})


def measure(documents: Iterable[str], tokenizers: Sequence[Tokenizer]) -> list[Measure]:
    """What each tokenizer makes of the documents, which are read once."""
    totals = [Measure()] * len(tokenizers)
    for batch in _batches(documents):
        found = (_measure(batch, tokenizer) for tokenizer in tokenizers)
        totals = [total + more for total, more in zip(totals, found, strict=True)]
    return totals


def _texts(source: str, reading: Reading) -> Iterator[tuple[str, Iterator[str]]]:
    """Every file with its documents, by its path below the folder that all of them are in."""
    found: list[tuple[str | Path, Iterator[str]]] = []
    for name in corpus_names(source):
        if name.startswith(("builtin:", DATASETS)):
            found.append((name, stream_source(name, reading, Counter(), {})))
            continue
        found += [(path, read_documents(path, reading, Counter())) for path in find_files(name)]
    paths = [path.absolute() for path, _ in found if isinstance(path, Path)]
    root = os.path.commonpath([path.parent for path in paths]) if paths else ""
    for path, texts in found:
        yield os.path.relpath(path, root) if isinstance(path, Path) else path, texts


def _batches(documents: Iterable[str]) -> Iterator[list[str]]:
    batch, size = [], 0
    for text in documents:
        for piece in pieces(text):
            batch.append(piece)
            size += len(piece)
            if size >= BATCH:
                yield batch
                batch, size = [], 0
    if batch:
        yield batch


def _measure(texts: Sequence[str], tokenizer: Tokenizer) -> Measure:
    encodings = tokenizer.literal_backend.encode_batch(texts, add_special_tokens=False)
    unknown = [span for encoding in encodings for span in _unknown_spans(encoding, tokenizer)]
    signs = sum(map(_signs, texts))
    left = sum(_signs(normalise(tokenizer, text)) for text in texts)
    return Measure(
        words=sum(len(text.split()) for text in texts),
        characters=sum(map(_size, texts)),
        tokens=sum(map(len, encodings)),
        unknown=len(unknown),
        unread=sum(end - start for start, end in unknown),
        signs=signs,
        dropped=max(0, signs - left),  # a normaliser may write more than was there
    )


def _unknown_spans(encoding: tokenizers.Encoding, tokenizer: Tokenizer) -> list[tuple[int, int]]:
    ids, unknown = encoding.ids, tokenizer.special.unk
    if unknown not in ids:  # offsets take longer than all the rest
        return []
    return [span for id, span in zip(ids, encoding.offsets, strict=True) if id == unknown]


def _size(text: str) -> int:
    return sum(map(len, text.split()))


def _signs(text: str) -> int:
    return _size(unicodedata.normalize("NFD", text))


def comparison_table(measures: dict[str, list[Measure]]) -> Table:
    """A row for each text and tokenizer, which is called A, B, ..."""
    table = Table(box=SIMPLE_HEAD)
    for name in COLUMNS:
        table.add_column(name, justify="left" if name in ("text", "by") else "right")
    for name, found in measures.items():
        for i, m in enumerate(found):
            lengths = (m.tokens / max(1, m.words), m.characters / max(1, m.tokens))
            shares = (m.unknown_share, m.unread_share, m.dropped_share)
            text = (name, f"{m.words:,}") if i == 0 else ("", "")
            numbers = (*(f"{n:.2f}" for n in lengths), *(f"{share:.2%}" for share in shares))
            table.add_row(*text, letter(i), *numbers)
    return table


def warnings(measures: dict[str, list[Measure]]) -> list[str]:
    """A line for each text and tokenizer that leaves more than 1 % of tokens or text unknown."""
    return [
        f"warning: {name}: {letter(i)} reads {m.unread_share:.1%} of the text as [UNK], which is "
        f"{m.unknown_share:.1%} of its tokens"
        for name, found in measures.items()
        for i, m in enumerate(found)
        if max(m.unknown_share, m.unread_share) > UNKNOWN_WARNING
    ]


def letter(index: int) -> str:
    """What a tokenizer is called in a table: A, B, ..."""
    return chr(ord("A") + index)


def shared_pieces(tokenizers: Sequence[Tokenizer]) -> list[str]:
    """Lines on the sizes of vocabularies, their common pieces, and those of one alone."""
    vocabularies = [t.backend.get_vocab(with_added_tokens=True) for t in tokenizers]
    common = set.intersection(*map(set, vocabularies))
    counts = Counter(piece for vocabulary in vocabularies for piece in vocabulary)
    same = sum(len({vocabulary[piece] for vocabulary in vocabularies}) == 1 for piece in common)
    lines = []
    for i, vocabulary in enumerate(vocabularies):
        alone = sum(counts[piece] == 1 for piece in vocabulary)
        lines.append(f"{letter(i)}: {len(vocabulary):,} pieces, {alone:,} of them in no other")
    return [*lines, f"common to all: {len(common):,} pieces, {same:,} of them with the same id"]
