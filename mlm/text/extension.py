"""Whole words that a WordPiece vocabulary gets in addition.

They become ordinary entries of the vocabulary, after all others, so that every reader of the saved
tokenizer.json or of a vocab.txt cuts text alike. As WordPiece takes the longest piece that fits, a
longer word that begins with a new one is cut behind it: with "transformer", "transformers" becomes
"transformer ##s". All other words keep their ids.
"""

import json
from collections.abc import Iterator, Sequence

import tokenizers

from mlm.errors import DataError
from mlm.text.tokenizer import Tokenizer

SHOWN = 5  # words that an error names


def extend_tokenizer(
    tokenizer: Tokenizer, tokens: Sequence[str]
) -> tuple[Tokenizer, list[list[int]]]:
    """The tokenizer with `tokens` as the next ids, in order, and the ids that each was before.

    Raises:
      DataError: the tokenizer is no WordPiece one, or a token is no new word: in the vocabulary
        already, given twice, changed by normalisation, or cut before WordPiece sees it.
    """
    if not tokens:
        return tokenizer, []
    specification = json.loads(tokenizer.backend.to_str())
    if (kind := specification["model"]["type"]) != "WordPiece":
        raise DataError(
            f"new tokens can be added to WordPiece vocabularies, and this tokenizer is {kind}; use "
            "the tokenizer of a BERT or DistilBERT checkpoint, or leave data.new_tokens empty"
        )
    longest = specification["model"]["max_input_chars_per_word"]
    if problems := list(_problems(tokenizer, tokens, longest=longest)):
        more = f"; and {len(problems) - SHOWN} more" if len(problems) > SHOWN else ""
        raise DataError(
            f"{len(problems)} of {len(tokens)} new tokens cannot be added: "
            f"{'; '.join(problems[:SHOWN])}{more}"
        )
    first = tokenizer.vocabulary_size
    specification["model"]["vocab"] |= {token: first + i for i, token in enumerate(tokens)}
    backend = tokenizers.Tokenizer.from_str(json.dumps(specification))
    return Tokenizer(backend, tokenizer.special), tokenizer.encode(tokens)


def _problems(tokenizer: Tokenizer, tokens: Sequence[str], *, longest: int) -> Iterator[str]:
    seen: set[str] = set()
    for token in tokens:
        words = _words(tokenizer, token)
        if (id := tokenizer.backend.token_to_id(token)) is not None:
            yield f"{token!r} is in the vocabulary already, as id {id}: leave it out"
        elif token in seen:
            yield f"{token!r} is given twice: leave one out"
        elif len(words) != 1:
            yield f"{token!r} is read as {len(words)} words, {' '.join(words)!r}: give one word"
        elif words != [token]:
            yield f"{token!r} is read as {words[0]!r}: write it so"
        elif len(token) > longest:
            yield f"{token[:20]!r}... has {len(token)} characters: give words of up to {longest}"
        seen.add(token)


def _words(tokenizer: Tokenizer, text: str) -> list[str]:
    """What WordPiece gets to see of a text."""
    normalizer, splitter = tokenizer.backend.normalizer, tokenizer.backend.pre_tokenizer
    text = normalizer.normalize_str(text) if normalizer else text
    return [word for word, _ in splitter.pre_tokenize_str(text)] if splitter else [text]
