"""Documents to token ids at the tokenizer's own speed, in bounded memory.

The tokenizers library shares a batch among all cores.
"""

import time
from array import array
from collections.abc import Callable, Iterable, Iterator
from itertools import islice

from mlm.preparing.documents import utf8_size
from mlm.text import Tokenizer
from mlm.text.pieces import pieces

CHUNK = 1 << 20  # characters encoded at a time; their encodings take a hundred times the memory


def encode(tokenizer: Tokenizer, texts: Iterable[str]) -> Iterator[array]:
    """The ids of each text, uint32; long ones are cut at white space, which changes nothing."""
    document = None
    for batch in _batches(texts):
        encoded = tokenizer.encode([piece for piece, _ in batch])
        for (_, begins), ids in zip(batch, encoded, strict=True):
            if begins:
                if document is not None:
                    yield document
                document = array("I")
            document.extend(ids)
    if document is not None:
        yield document


def _batches(texts: Iterable[str]) -> Iterator[list[tuple[str, bool]]]:
    """Pieces, and whether they begin a document, about `CHUNK` characters at a time."""
    batch, size = [], 0
    for text in texts:
        for number, piece in enumerate(pieces(text)):
            batch.append((piece, number == 0))
            size += len(piece)
            if size >= CHUNK:
                yield batch
                batch, size = [], 0
    if batch:
        yield batch


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
