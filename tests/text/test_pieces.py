"""Pieces are the text, cut where no word is."""

import pytest

from mlm.text import pieces as module
from mlm.text.pieces import pieces


@pytest.mark.parametrize("text", ["", "short", "a b " * 50, "x" * 95, "ab\ncd " * 9 + "y" * 40])
def test_pieces_make_the_text_and_keep_its_words(text, monkeypatch):
    monkeypatch.setattr(module, "PIECE", 30)
    found = list(pieces(text))
    assert "".join(found) == text and all(len(piece) <= 30 for piece in found)
    words = [word for piece in found for word in piece.split()]
    if max(map(len, text.split()), default=0) < 30:
        assert words == text.split()


def test_a_short_text_is_itself():
    text = "a short text"
    assert next(pieces(text)) is text or list(pieces(text)) == [text]
