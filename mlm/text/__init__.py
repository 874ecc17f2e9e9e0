"""Corpora and tokenizers: where text comes from and how it becomes ids.

`corpus` reads the sources that a config names and decides which documents are held out: `files`
and `tables` read what lies on disk, `python_docs` is the builtin, `spool` keeps what can be read
only once; `reading` says what counts as text. `tokenizer` encodes; `loading` reads one from disk,
`wordpiece` trains a new one, `extension` adds words to one, `keras_tokenizer` is KerasHub's, `show`
and `compare` look at them. `segments` packs pairs into rows, `words` tells which ids go on with a
word; these two need NumPy, and are imported when they are used.

    corpus = read_corpus("builtin:python_docs")
    tokenizer = train_tokenizer(corpus.documents, vocabulary_size=8192, lowercase=True)
    ids = tokenizer.encode(corpus.documents)
"""

from mlm.lazy import lazy_exports
from mlm.text.corpus import (
    Corpus,
    add_to_fingerprint,
    corpus_names,
    is_held_out,
    no_document,
    read_corpus,
    source_identity,
    stream_source,
)
from mlm.text.extension import extend_tokenizer
from mlm.text.keras_tokenizer import load_keras_tokenizer
from mlm.text.loading import load_tokenizer
from mlm.text.reading import Reading
from mlm.text.spool import call_source, is_pipe, is_standard_input, spool_documents, spool_pipe
from mlm.text.tokenizer import SpecialTokens, Tokenizer
from mlm.text.wordpiece import train_tokenizer

__all__ = [
    "Corpus",
    "Reading",
    "SpecialTokens",
    "Tokenizer",
    "add_to_fingerprint",
    "call_source",
    "continuations",
    "corpus_names",
    "extend_tokenizer",
    "is_held_out",
    "is_pipe",
    "is_standard_input",
    "load_keras_tokenizer",
    "load_tokenizer",
    "no_document",
    "pack_segments",
    "read_corpus",
    "source_identity",
    "spool_documents",
    "spool_pipe",
    "stream_source",
    "train_tokenizer",
    "wordless",
]

__getattr__ = lazy_exports(
    __name__, {"pack_segments": "segments", "continuations": "words", "wordless": "words"}
)
