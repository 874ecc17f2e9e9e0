"""Pieces of text with what became of each token, for people to read."""

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np

from mlm.inspection.measure import runs_of
from mlm.inspection.sample import NONE, Inspection, Masked
from mlm.text import Tokenizer

SHORTEST, LONGEST = 14, 40  # tokens of a sentence that is picked from a corpus


@dataclasses.dataclass(frozen=True)
class Stretch:
    """Tokens `begin` to `end` of a row, not counting copies."""

    row: int
    begin: int
    end: int


@dataclasses.dataclass(frozen=True)
class Piece:
    """A token as it is shown.

    Attributes:
      original: what stood there before, without the mark "##" of a word's inside.
      shown: the piece that stands there afterwards, as it is in the vocabulary.
      fate: see `sample`.
      glued: it goes on with the word of the piece before it.
      whole: nothing in its word is selected, so the word can be written as one.
      opens, closes: here begins and ends what is selected as one, of several tokens.
      predicted: it is among the labels.
    """

    original: str
    shown: str
    fate: int
    glued: bool
    whole: bool
    opens: bool
    closes: bool
    predicted: bool


def pick(inspection: Inspection, number: int) -> list[Stretch]:
    """The first stretches between special tokens that are long enough, not too long, and whole.

    If there are not so many, the first ones of any length, cut at LONGEST tokens.
    """
    masked = inspection.masked[0]
    ids = masked.token_ids[:: masked.copies]
    found = stretches(ids, inspection.tokenizer.special)
    table = inspection.continuations

    def begins_a_word(s: Stretch) -> bool:
        return table is None or not table[ids[s.row, s.begin]]

    fit = [s for s in found if SHORTEST <= s.end - s.begin <= LONGEST and begins_a_word(s)]
    if len(fit) < number:
        fit = [dataclasses.replace(s, end=min(s.end, s.begin + LONGEST)) for s in found]
    return fit[:number]


def lines(inspection: Inspection) -> list[Stretch]:
    """Every row as it is, between its special tokens."""
    masked = inspection.masked[0]
    return stretches(masked.token_ids[:: masked.copies], inspection.tokenizer.special)


def stretches(ids: np.ndarray, special) -> list[Stretch]:
    """What stands between [CLS], [SEP] and [PAD] in the rows of `int32[B, L]`."""
    inside = np.isin(ids, (special.cls, special.sep, special.pad), invert=True)
    places = (array.tolist() for array in runs_of(inside))
    return [Stretch(*place) for place in zip(*places, strict=True)]


def pieces(inspection: Inspection, masked: Masked, stretch: Stretch) -> list[Piece]:
    """The tokens of a stretch under a strategy; of several copies of a row, in the first."""
    row, place = stretch.row * masked.copies, slice(stretch.begin, stretch.end)
    ids, shown = masked.token_ids[row, place], masked.shown[row, place]
    fates, predicted = masked.fates[row, place], masked.predicted[row, place]
    goes_on = np.zeros(len(ids), bool)
    if inspection.continuations is not None:
        goes_on = inspection.continuations[ids]
    goes_on[:1] = False
    words = np.cumsum(~goes_on)
    touched = np.isin(words, words[fates != NONE])
    opens, closes = _brackets(fates, masked.leaders[row, place])
    text, token = _texts(inspection.tokenizer), inspection.tokenizer.token
    return [
        Piece(text(int(a)), token(int(b)), int(fate), *map(bool, flags))
        for a, b, fate, *flags in zip(
            ids, shown, fates, goes_on, ~touched, opens, closes, predicted, strict=True
        )
    ]


def _brackets(fates: np.ndarray, leaders: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Where units of several selected tokens begin and end: two `bool[N]`."""
    unit = np.where(fates != NONE, leaders, -1)
    same = (unit[1:] == unit[:-1]) & (unit[1:] >= 0)
    after, before = np.append(same, False), np.insert(same, 0, False)
    return after & ~before, before & ~after


def _texts(tokenizer: Tokenizer) -> Callable[[int], str]:
    """The text of an id: without the mark of a word's inside, or of a space in front of it."""
    prefix = getattr(tokenizer.backend.model, "continuing_subword_prefix", None)

    def text(id: int) -> str:
        piece = tokenizer.token(id)
        if id in tokenizer.special_ids:
            return piece
        if prefix:
            return piece.removeprefix(prefix)
        return tokenizer.decode([id]).strip() or piece

    return text


def words(pieces: Sequence[Piece]) -> list[list[Piece]]:
    """The pieces by word."""
    found: list[list[Piece]] = []
    for piece in pieces:
        if piece.glued and found:
            found[-1].append(piece)
        else:
            found.append([piece])
    return found
