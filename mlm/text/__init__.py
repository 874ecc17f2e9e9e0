"""Corpora and tokenizers: where text comes from and how it becomes ids.

`files` finds files and reads their documents; `corpus` gathers those or the builtin of
`python_docs`, and decides which of them are held out. `tokenizer` loads a tokenizer and encodes;
`wordpiece` trains a new one.

    corpus = read_corpus("builtin:python_docs")
    tokenizer = train_tokenizer(corpus.documents, vocabulary_size=8192, lowercase=True)
    ids = tokenizer.encode(corpus.documents)
"""

from mlm.text.corpus import (
    Corpus,
    add_to_fingerprint,
    corpus_identity,
    is_held_out,
    read_corpus,
    stream_corpus,
)
from mlm.text.files import Reading
from mlm.text.tokenizer import SpecialTokens, Tokenizer, load_tokenizer
from mlm.text.wordpiece import train_tokenizer

__all__ = [
    "Corpus",
    "Reading",
    "SpecialTokens",
    "Tokenizer",
    "add_to_fingerprint",
    "corpus_identity",
    "is_held_out",
    "load_tokenizer",
    "read_corpus",
    "stream_corpus",
    "train_tokenizer",
]
