"""Long texts in pieces: a tokenizer takes many times the memory of what it is given at once."""

from collections.abc import Iterator

PIECE = 1 << 16  # characters


def pieces(text: str) -> Iterator[str]:
    """The text cut at white space, which changes no word, into at most `PIECE` characters each.

    A word that is longer is cut too: to a tokenizer it is [UNK] in any case.
    """
    start = 0
    while len(text) - start > PIECE:
        stop = start + PIECE
        cut = max(text.rfind(" ", start + 1, stop), text.rfind("\n", start + 1, stop))
        cut = stop if cut < 0 else cut
        yield text[start:cut]
        start = cut
    yield text[start:]
