"""Training a BERT WordPiece vocabulary that depends on the text alone.

The trainer of the `tokenizers` library numbers the pieces "##a", "##b", ... in the order of a
randomly seeded hash map and breaks ties between merges by those numbers, so two runs on one text
give two tokenizers (huggingface/tokenizers#1794). Here the characters are counted and numbered
first, which leaves the library nothing to draw.
"""

from collections import Counter
from collections.abc import Sequence
from itertools import accumulate

import tokenizers
from tokenizers.trainers import WordPieceTrainer

from mlm.errors import DataError
from mlm.text.pieces import pieces
from mlm.text.tokenizer import SPECIAL_TOKENS, Tokenizer, bert_backend, bert_tokenizer

# Characters must cover nearly all of the text, or words turn into [UNK]; sentencepiece asks for
# 0.9995. The long tail of rare characters gets pieces up to the alphabet size that Hugging Face's
# BERT trainer uses; scripts with more characters than that need, and get, more.
LEAST_COVERAGE = 0.9999
COMMON_ALPHABET = 1000


def train_tokenizer(
    documents: Sequence[str], *, vocabulary_size: int, lowercase: bool
) -> Tokenizer:
    """Returns a BERT WordPiece tokenizer with at most `vocabulary_size` pieces.

    The special tokens are [PAD] 0, [UNK] 1, [CLS] 2, [SEP] 3, [MASK] 4; where their names occur
    in the text they are ordinary words. `lowercase` also strips accents, as in BERT. The same
    documents in any order give the same tokenizer. Pieces are merged from pairs that occur at
    least twice, so a small text may fill less than `vocabulary_size`.

    Raises DataError when the documents hold no text, or the vocabulary not even its characters.
    """
    backend = bert_backend({}, lowercase=lowercase)
    # Words are counted, so cutting between them changes nothing but the memory it takes.
    documents = [piece for text in documents for piece in pieces(text)]
    alphabet = _alphabet(documents, backend, vocabulary_size=vocabulary_size)
    inside = [_inside(character) for character in alphabet if _continues_word(character, backend)]
    trainer = WordPieceTrainer(
        vocab_size=vocabulary_size,
        min_frequency=2,
        # Passed as special tokens, pieces get the next ids in this order.
        special_tokens=[*SPECIAL_TOKENS, *inside],
        initial_alphabet=alphabet,
        limit_alphabet=len(alphabet),
        show_progress=False,
    )
    backend.train_from_iterator(documents, trainer, length=len(documents))
    return bert_tokenizer(backend.get_vocab(), lowercase=lowercase, source="just trained")


def _alphabet(
    documents: Sequence[str], backend: tokenizers.Tokenizer, *, vocabulary_size: int
) -> list[str]:
    """The characters that become pieces, the most frequent first."""
    counts = _count_characters(documents, backend)
    alphabet = sorted(counts, key=lambda character: (-counts[character], character))
    covered = accumulate(counts[character] for character in alphabet)
    least = 1 + sum(count < LEAST_COVERAGE * counts.total() for count in covered)
    # A character that can continue a word is two pieces: "a" and "##a".
    costs = (1 + _continues_word(character, backend) for character in alphabet)
    sizes = list(accumulate(costs, initial=len(SPECIAL_TOKENS)))[1:]
    fitting = sum(size <= vocabulary_size for size in sizes)
    if fitting < least:
        raise DataError(
            f"vocabulary_size is {vocabulary_size}, but the special tokens and the characters of "
            f"this text alone are {sizes[least - 1]} pieces; use a larger vocabulary_size"
        )
    return alphabet[: min(fitting, max(least, COMMON_ALPHABET))]


def _count_characters(documents: Sequence[str], backend: tokenizers.Tokenizer) -> Counter[str]:
    counts = Counter()
    for text in documents:
        counts.update(backend.normalizer.normalize_str(text))
    counts = Counter({character: n for character, n in counts.items() if not character.isspace()})
    if not counts:
        raise DataError(
            f"no text to train a tokenizer on: {len(documents)} documents, all blank; give "
            "documents with words in them"
        )
    return counts


def _continues_word(character: str, backend: tokenizers.Tokenizer) -> bool:
    # False for punctuation and Chinese characters, which stand alone.
    text = backend.normalizer.normalize_str("a" + character)
    return len(backend.pre_tokenizer.pre_tokenize_str(text)) == 1


def _inside(character: str) -> str:
    return "##" + character
