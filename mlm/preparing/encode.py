"""Documents to token ids at the tokenizer's own speed, in bounded memory.

The tokenizers library shares a batch among all cores.
"""

import time
from collections.abc import Callable, Iterable, Iterator
from itertools import islice

from mlm.preparing.documents import utf8_size
from mlm.text import Tokenizer

CHUNK = 1 << 20  # characters encoded at a time; their encodings take a hundred times the memory
PIECE = 1 << 16  # characters that one core encodes at a time


def encode(tokenizer: Tokenizer, texts: Iterable[str]) -> Iterator[list[int]]:
    """The ids of each text; long ones are cut at white space, which changes nothing."""
    for batch in _chunks(texts):
        ids = iter(tokenizer.encode([piece for pieces in batch for piece in pieces]))
        for pieces in batch:
            document = next(ids)
            for _ in pieces[1:]:
                document += next(ids)
            yield document


def _chunks(texts: Iterable[str]) -> Iterator[list[list[str]]]:
    """Documents as their pieces, about `CHUNK` characters at a time."""
    batch: list[list[str]] = []
    size = 0
    for text in texts:
        batch.append(_pieces(text))
        size += len(text)
        if size >= CHUNK:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def _pieces(text: str) -> list[str]:
    """A word of more than `PIECE` characters is cut too: to a tokenizer it is [UNK] in any case."""
    pieces = []
    while len(text) > PIECE:
        cut = max(text.rfind(" ", 1, PIECE), text.rfind("\n", 1, PIECE))
        cut = PIECE if cut < 0 else cut
        pieces.append(text[:cut])
        text = text[cut:]
    return [*pieces, text]


def with_progress(
    texts: Iterator[str],
    total: int,
    say: Callable[[str], None],
    *,
    start: int = 0,
    every: float = 10.0,
) -> Iterator[str]:
    """The texts from number `start` on, and a line on how far they are of `total` bytes at times.

    Args:
      every: seconds between two lines.
    """
    before = sum(utf8_size(text) for text in islice(texts, start))
    done, began = before, time.monotonic()
    told = began
    for text in texts:
        yield text
        done += utf8_size(text)
        now = time.monotonic()
        if now - told >= every:
            speed = (done - before) / (now - began)
            say(
                f"  {done / 1e6:,.0f} of {total / 1e6:,.0f} MB, {speed / 1e6:.1f} MB/s, "
                f"{(total - done) / speed:,.0f} s left"
            )
            told = now
