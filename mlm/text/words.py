"""Which pieces of a vocabulary go on with a word, and which are no words: tables per token id.

Words are what the tokenizer's own splitter makes, so nothing of the text itself is needed later:
a row of ids and one table tell where its words begin.
"""

import unicodedata

import numpy as np
from tokenizers import pre_tokenizers

from mlm.errors import DataError
from mlm.text.show import WORD_MARKS, normalise
from mlm.text.tokenizer import Tokenizer

# V vocabulary

ASCII_SIGNS = "!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~"
NEED_NO_WORDS = "'token', 'external' or a function of your own"


def continuations(tokenizer: Tokenizer) -> np.ndarray:
    """bool[V]: True for the ids that go on with the word of the id before them.

    WordPiece marks them itself ("##ing"). Byte-level BPE and sentencepiece mark what begins a word
    ("Ġthe", "▁the"): what lacks the mark goes on, unless it is punctuation or white space only.

    - Punctuation: BERT's splitter makes a word of each sign, so "don't" is three words, don ' t.
      With a word mark a sign begins a word too, but an id alone does not tell what stands before
      it, so letters behind a sign belong to it: "(don't)," is "(don't" and "),".
    - Chinese, Japanese and Korean: BERT's splitter makes a word of each ideograph; kana and hangul
      are letters, so a run of them is one word. With `tokenize_chinese_chars` off, or a word mark,
      a whole run between signs or spaces is one.
    - Emoji and other symbols outside ASCII are no punctuation to BERT: one without a space beside
      it is part of the word there.
    - New tokens (`extend_tokenizer`) begin a word, and "##s" behind one goes on with it. So do
      special tokens, [UNK] among them.

    Raises:
      DataError: nothing tells where words begin, as in vocabularies of characters.
    """
    table = np.zeros(tokenizer.vocabulary_size, bool)
    prefix, mark = _prefix(tokenizer), _word_mark(tokenizer)
    if not prefix and not mark:
        kind = type(tokenizer.backend.model).__name__
        raise DataError(
            f"tokenizer {tokenizer.hash[:12]} ({kind}) does not tell where a word begins: it has "
            'no "##" and no mark of a space; use a WordPiece tokenizer, or a masking.unit that '
            f"needs no words: {NEED_NO_WORDS}"
        )
    signs = wordless(tokenizer)
    for piece, id in tokenizer.backend.get_vocab(with_added_tokens=False).items():
        table[id] = piece.startswith(prefix) if prefix else not piece.startswith(mark)
    table[_added(tokenizer)] = False
    return table if prefix else table & ~signs


def wordless(tokenizer: Tokenizer) -> np.ndarray:
    """bool[V]: True for special ids and for pieces of punctuation or white space alone.

    Punctuation is BERT's: the signs of ASCII, "$" and "+" among them, and Unicode's category P.
    """
    table = np.zeros(tokenizer.vocabulary_size, bool)
    read = _bytes_of_characters() if _word_mark(tokenizer) == "Ġ" else {}
    for piece, id in tokenizer.backend.get_vocab(with_added_tokens=False).items():
        table[id] = all(_is_sign(character) for character in _text(piece, read))
    table[list(tokenizer.special_ids)] = True
    return table


def _prefix(tokenizer: Tokenizer) -> str | None:
    """What pieces inside a word begin with."""
    return getattr(tokenizer.backend.model, "continuing_subword_prefix", None)


def _word_mark(tokenizer: Tokenizer) -> str | None:
    """What pieces at the beginning of a word begin with; tried out, as splitters can be nested."""
    splitter = tokenizer.backend.pre_tokenizer
    text = normalise(tokenizer, "a b")
    seen = [word for word, _ in splitter.pre_tokenize_str(text)] if splitter else [text]
    return next((mark for mark in WORD_MARKS if any(f"{mark}b" in word for word in seen)), None)


def _added(tokenizer: Tokenizer) -> list[int]:
    """The ids that are cut out of a text before it is split."""
    return list(tokenizer.backend.get_added_tokens_decoder())


def _text(piece: str, read: dict[str, int]) -> str:
    """What a piece stands for; what is no whole character is U+FFFD, which is no sign."""
    if all(character in read for character in piece):
        return bytes(read[character] for character in piece).decode("utf-8", "replace")
    return piece.replace("▁", " ")


def _bytes_of_characters() -> dict[str, int]:
    """The byte that each character of byte-level BPE stands for (GPT-2's table).

    Printable Latin-1 stands for itself; the other bytes got the characters from U+0100 on, in
    order.
    """
    own = {c for c in map(chr, range(256)) if c in pre_tokenizers.ByteLevel.alphabet()}
    others = (byte for byte in range(256) if chr(byte) not in own)
    return {c: ord(c) for c in own} | {chr(256 + n): byte for n, byte in enumerate(others)}


def _is_sign(character: str) -> bool:
    kind = unicodedata.category(character)
    return character in ASCII_SIGNS or character.isspace() or kind.startswith("P")
