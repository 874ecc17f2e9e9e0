"""Tokenizers: text to ids and back, read from a file or trained on a corpus.

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
from mlm.text.files import not_utf8


@dataclass(frozen=True)
class SpecialTokens:
    """The ids of [PAD], [UNK], [CLS], [SEP] and [MASK]."""

    pad: int
    unk: int
    cls: int
    sep: int
    mask: int


SPECIAL_TOKENS = tuple(f"[{field.name.upper()}]" for field in fields(SpecialTokens))


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
            encodings = self._literal_backend.encode_batch_fast(texts, add_special_tokens=False)
        except TypeError as error:
            raise _not_texts(texts) from error
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
        """Writes a `tokenizer.json` that `load_tokenizer` and Hugging Face read."""
        Path(path).write_text(self.backend.to_str(pretty=True), encoding="utf-8")

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
    def _literal_backend(self) -> tokenizers.Tokenizer:
        # The flag belongs to a backend, not to a call, so literal text has a backend of its own.
        literal = tokenizers.Tokenizer.from_str(self.backend.to_str())
        literal.encode_special_tokens = True
        return literal

    def __reduce__(self):
        # Pickling a backend loses its flag: another process makes its literal backend itself.
        return Tokenizer, (self.backend, self.special)


def load_tokenizer(path: str | Path, *, lowercase: bool | None = None) -> Tokenizer:
    """Returns the tokenizer of a `vocab.txt` (BERT WordPiece) or of a `tokenizer.json`.

    A `vocab.txt` does not say whether it was made from lower-cased text: `lowercase=None` means
    yes, as for the uncased public checkpoints. A `tokenizer.json` does, and `lowercase` has no
    say there. Truncation and padding set in it are dropped.

    Raises DataError for a file that is missing, unreadable or of another kind, and when one of
    [PAD], [UNK], [CLS], [SEP] and [MASK] is missing or two share an id.
    """
    path = Path(path)
    if path.suffix not in (".txt", ".json"):
        raise DataError(f"tokenizer {path} is neither a vocab.txt nor a tokenizer.json; name one")
    try:
        content = _decode_utf8(path.read_bytes(), path)
    except OSError as error:
        raise DataError(
            f"tokenizer {path} cannot be read ({error.strerror}); correct the path, or train a "
            "tokenizer on the corpus"
        ) from error
    if path.suffix == ".json":
        return with_special_tokens(_parse_json(content, path), source=str(path))
    vocabulary = _parse_vocabulary(content, path)
    return bert_tokenizer(vocabulary, lowercase=lowercase is not False, source=str(path))


def bert_tokenizer(vocabulary: dict[str, int], *, lowercase: bool, source: str) -> Tokenizer:
    """Returns BERT's WordPiece tokenizer for a vocabulary; errors call it by its `source`."""
    tokenizer = with_special_tokens(bert_backend(vocabulary, lowercase=lowercase), source=source)
    # `encode` never uses this, but those who read a saved tokenizer.json elsewhere expect it.
    tokenizer.backend.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", tokenizer.special.cls), ("[SEP]", tokenizer.special.sep)],
    )
    return tokenizer


def bert_backend(vocabulary: dict[str, int], *, lowercase: bool) -> tokenizers.Tokenizer:
    """Returns BERT's normalisation, word splitting and WordPiece, without special tokens."""
    backend = tokenizers.Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    # strip_accents=None follows lowercase, as in the uncased and cased public checkpoints.
    backend.normalizer = normalizers.BertNormalizer(lowercase=lowercase, strip_accents=None)
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    backend.decoder = decoders.WordPiece()
    return backend


def with_special_tokens(backend: tokenizers.Tokenizer, *, source: str) -> Tokenizer:
    """Returns the backend as a Tokenizer; raises DataError unless it has five special ids."""
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


def _parse_vocabulary(content: str, path: Path) -> dict[str, int]:
    vocabulary = {}
    for id, piece in enumerate(content.rstrip("\n").split("\n")):
        if piece in vocabulary:
            raise DataError(
                f"tokenizer {path}: line {id + 1} repeats {piece!r} of line "
                f"{vocabulary[piece] + 1}, and a piece has one id; repair the file or use the "
                "tokenizer.json of the same checkpoint"
            )
        vocabulary[piece] = id
    return vocabulary


def _parse_json(content: str, path: Path) -> tokenizers.Tokenizer:
    try:
        backend = tokenizers.Tokenizer.from_str(content)
    except Exception as error:  # the library raises nothing more specific
        raise DataError(
            f"tokenizer {path} is not a file of the tokenizers library ({error}); use the "
            "tokenizer.json that its save() wrote, or a vocab.txt"
        ) from error
    backend.no_truncation()
    backend.no_padding()
    return backend


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


def _decode_utf8(content: bytes, path: Path) -> str:
    """Returns the text of a file, without byte order mark and with \\n as its line ending.

    Raises DataError that names the file and the line which is not UTF-8.
    """
    try:
        return content.decode("utf-8-sig").replace("\r\n", "\n")
    except UnicodeDecodeError as error:
        # `error.object` has no byte order mark in front, unlike `content`.
        line = error.object.count(b"\n", 0, error.start) + 1
        raise not_utf8(path, error, line) from error
