"""Tokenizers: text to ids and back, loaded by `loading` or trained by `wordpiece`.

A `Tokenizer` wraps one of the `tokenizers` library and adds what masked language modelling needs:
the five special ids by name, a hash that says whether two files mean the same ids, and text that
stays text. A literal "[MASK]" in a corpus is a word in brackets; only in a prompt that a person
writes is it the mask token.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import astuple, dataclass, fields
from functools import cached_property
from pathlib import Path

import tokenizers
from tokenizers import decoders, models, normalizers, pre_tokenizers, processors

from mlm.errors import DataError
from mlm.whole_file import write_whole


@dataclass(frozen=True)
class SpecialTokens:
    """The ids of [PAD], [UNK], [CLS], [SEP] and [MASK]."""

    pad: int
    unk: int
    cls: int
    sep: int
    mask: int


SPECIAL_TOKENS = tuple(f"[{field.name.upper()}]" for field in fields(SpecialTokens))
# A model that often reads [UNK] learns little about the text; the tokenizer does not suit it.
UNKNOWN_WARNING = 0.01
MOST_HOLES = 10  # ids up to the largest, for each piece


@dataclass(frozen=True, eq=False)
class Tokenizer:
    """A tokenizer of the `tokenizers` library with its special ids; safe to share by threads.

    Made by `load_tokenizer` and `train_tokenizer`, which check what is promised here.
    """

    backend: tokenizers.Tokenizer
    special: SpecialTokens

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        """Returns the ids of each text, without [CLS] and [SEP] and of any length.

        Text is text: "[MASK]" gives the ids of "[", "mask" and "]". Raises DataError for an item
        that is not a str of valid Unicode.
        """
        try:
            encodings = self.literal_backend.encode_batch_fast(texts, add_special_tokens=False)
        except TypeError as error:
            raise _not_texts(texts) from error
        except Exception as error:  # the library raises nothing more specific
            raise DataError(
                f"tokenizer {self.hash[:12]} fails on a text ({error!s:.100}); its file is "
                "damaged, use another"
            ) from error
        return [encoding.ids for encoding in encodings]

    def encode_prompt(self, text: str) -> list[int]:
        """Returns the ids of a text in which "[MASK]" is the mask token, without [CLS] and [SEP].

        Case matters: "[mask]" is ordinary text. The other special tokens are read the same way:
        "[SEP]" gives the id of [SEP].
        """
        try:
            return self.backend.encode(text, add_special_tokens=False).ids
        except TypeError as error:
            raise _not_texts([text]) from error

    def decode(self, ids: Sequence[int]) -> str:
        """Returns readable text; special tokens stay in it, as a masked text needs its masks."""
        return self.backend.decode(list(ids), skip_special_tokens=False)

    def token(self, id: int) -> str:
        """Returns the piece of one id, such as "##ing"; raises DataError for an unknown id."""
        known = 0 <= id < self.vocabulary_size
        piece = self.backend.id_to_token(int(id)) if known else None
        if piece is None:
            raise DataError(
                f"token id {id} is not in the vocabulary, whose ids are below "
                f"{self.vocabulary_size}; was this id made by another tokenizer?"
            )
        return piece

    def save(self, path: str | Path) -> None:
        """Writes a `tokenizer.json` that `load_tokenizer` and Hugging Face read.

        A crash leaves the old file or the new one, never half of it.
        """
        path = Path(path) if isinstance(path, str) else path
        write_whole(path, self.backend.to_str(pretty=True))

    @cached_property
    def vocabulary_size(self) -> int:
        """One more than the largest id: the rows that an embedding table needs."""
        return 1 + max(self.backend.get_vocab(with_added_tokens=True).values())

    @cached_property
    def hash(self) -> str:
        """sha256 of the tokenizer, whatever the layout of its file: `save` keeps it."""
        content = json.dumps(json.loads(self.backend.to_str()), sort_keys=True)
        return hashlib.sha256(content.encode("utf-8")).hexdigest()

    @property
    def special_ids(self) -> tuple[int, ...]:
        """The five special ids, ascending."""
        return tuple(sorted(astuple(self.special)))

    @cached_property
    def literal_backend(self) -> tokenizers.Tokenizer:
        """The backend for which "[MASK]" in a text is a word in brackets."""
        # The flag belongs to a backend, not to a call, so literal text has a backend of its own.
        literal = tokenizers.Tokenizer.from_str(self.backend.to_str())
        literal.encode_special_tokens = True
        return literal

    def __reduce__(self):
        # Pickling a backend loses its flag: another process makes its literal backend itself.
        return Tokenizer, (self.backend, self.special)


def bert_tokenizer(
    vocabulary: dict[str, int], *, lowercase: bool, source: str, **normalisation: bool | None
) -> Tokenizer:
    """Returns BERT's WordPiece tokenizer for a vocabulary; errors call it by its `source`.

    `normalisation` is more of what `BertNormalizer` takes.
    """
    backend = bert_backend(vocabulary, lowercase=lowercase, **normalisation)
    return with_bert_frame(with_special_tokens(backend, source=source))


def with_bert_frame(tokenizer: Tokenizer) -> Tokenizer:
    """Returns the tokenizer, saved with [CLS] and [SEP] around texts.

    `encode` never uses them, but those who read a saved tokenizer.json elsewhere expect them.
    """
    tokenizer.backend.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", tokenizer.special.cls), ("[SEP]", tokenizer.special.sep)],
    )
    return tokenizer


def bert_backend(
    vocabulary: dict[str, int], *, lowercase: bool, **normalisation: bool | None
) -> tokenizers.Tokenizer:
    """Returns BERT's normalisation, word splitting and WordPiece, without special tokens."""
    backend = tokenizers.Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    # Stripping accents follows lowercase unless it is said, as in the public checkpoints.
    backend.normalizer = normalizers.BertNormalizer(lowercase=lowercase, **normalisation)
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    backend.decoder = decoders.WordPiece()
    return backend


def with_special_tokens(backend: tokenizers.Tokenizer, *, source: str) -> Tokenizer:
    """Returns the backend as a Tokenizer; raises DataError unless it has five special ids."""
    _check_largest_id(backend, source)
    ids = {token: backend.token_to_id(token) for token in SPECIAL_TOKENS}
    if missing := [token for token, id in ids.items() if id is None]:
        raise DataError(
            f"tokenizer {source} lacks {', '.join(missing)}; use the tokenizer of a BERT or "
            "DistilBERT checkpoint, or train one"
        )
    if shared := [token for token, id in ids.items() if list(ids.values()).count(id) > 1]:
        raise DataError(
            f"tokenizer {source} gives {' and '.join(shared)} the same id {ids[shared[0]]}; each "
            "needs its own: use the tokenizer of a BERT or DistilBERT checkpoint, or train one"
        )
    known = {
        token.content for token in backend.get_added_tokens_decoder().values() if token.special
    }
    backend.add_special_tokens([token for token in SPECIAL_TOKENS if token not in known])
    return Tokenizer(backend, SpecialTokens(*ids.values()))


def _check_largest_id(backend: tokenizers.Tokenizer, source: str) -> None:
    """The library writes a table of all ids up to the largest, and a model has as many rows."""
    ids = backend.get_vocab(with_added_tokens=True).values()
    if (largest := max(ids, default=0)) >= MOST_HOLES * (len(ids) + 1000):
        raise DataError(
            f"tokenizer {source} has an id {largest} among {len(ids)} pieces; its file is damaged, "
            "use another"
        )


def _not_texts(texts: Sequence[str]) -> DataError:
    if isinstance(texts, str) or not isinstance(texts, Sequence):
        return DataError(f"encode takes a list of texts, not {texts!r:.40}; put the text in a list")
    for index, text in enumerate(texts):
        if not isinstance(text, str):
            return DataError(
                f"text {index} is {text!r:.40}, not a str; decode bytes as UTF-8 first"
            )
        if any("\ud800" <= character <= "\udfff" for character in text):
            break
    return DataError(
        f"text {index} ({text!r:.40}) has a lone surrogate, which is not Unicode text; repair it "
        "with text.encode('utf-8', 'replace').decode()"
    )
