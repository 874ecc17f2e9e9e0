"""What a tokenizer is and does, in lines for people."""

import unicodedata
from collections.abc import Sequence

from mlm.text.tokenizer import SPECIAL_TOKENS, Tokenizer

WORD_MARKS = ("Ġ", "▁")  # of a space in front, in byte-level BPE and in sentencepiece


def describe(tokenizer: Tokenizer) -> list[str]:
    """Lines on the size, the special ids, the normalisation and the pieces of a tokenizer."""
    ids = (tokenizer.backend.token_to_id(token) for token in SPECIAL_TOKENS)
    special = "   ".join(f"{token} {id}" for token, id in zip(SPECIAL_TOKENS, ids, strict=True))
    return [
        f"tokenizer {tokenizer.hash[:12]}, vocabulary {tokenizer.vocabulary_size:,}",
        f"special tokens: {special}",
        f"kind: {kind(tokenizer)}{_word_limit(tokenizer)}",
        f"pieces: {_pieces(tokenizer)}",
    ]


def kind(tokenizer: Tokenizer) -> str:
    """The model and what becomes of case and accents: 'WordPiece, lower-cases, keeps accents'."""
    model = type(tokenizer.backend.model).__name__
    # Tried out rather than read, as normalizers can be nested in many ways.
    seen = unicodedata.normalize("NFD", normalise(tokenizer, "É"))
    case = "keeps case" if seen != seen.lower() else "lower-cases"
    accents = "keeps accents" if any(map(unicodedata.combining, seen)) else "strips accents"
    return f"{model}, {case}, {accents}"


def normalise(tokenizer: Tokenizer, text: str) -> str:
    """The text as the tokenizer's model sees it."""
    normalizer = tokenizer.backend.normalizer
    return normalizer.normalize_str(text) if normalizer else text


def show_texts(tokenizer: Tokenizer, texts: Sequence[str]) -> list[str]:
    """Each text, and below it its pieces with their ids; "[MASK]" is the mask token in them."""
    lines = []
    for text in texts:
        ids = tokenizer.encode_prompt(text)
        pieces = "   ".join(f"{tokenizer.token(id)} {id}" for id in ids)
        lines += [text, f"    {pieces or 'no token'}"]
    return lines


def _word_limit(tokenizer: Tokenizer) -> str:
    limit = getattr(tokenizer.backend.model, "max_input_chars_per_word", None)
    return f"; a word of more than {limit} characters is [UNK]" if limit else ""


def _pieces(tokenizer: Tokenizer) -> str:
    vocabulary = tokenizer.backend.get_vocab(with_added_tokens=True)
    pieces = [piece for piece, id in vocabulary.items() if id not in tokenizer.special_ids]
    if mark := getattr(tokenizer.backend.model, "continuing_subword_prefix", None):
        inside = sum(piece.startswith(mark) for piece in pieces)
        return f"{len(pieces) - inside:,} begin a word, {inside:,} continue one ({mark})"
    for mark in WORD_MARKS:
        if begin := sum(piece.startswith(mark) for piece in pieces):
            return f"{begin:,} begin a word ({mark}), {len(pieces) - begin:,} continue one"
    return f"{len(pieces):,}, which do not tell where a word begins"
