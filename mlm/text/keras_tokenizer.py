"""KerasHub's DistilBertTokenizer, composed of the `tokenizers` library's parts.

It differs from BERT's own: text is split first and folded afterwards, word by word, with Unicode's
NFKC_Casefold, so that "…" is one word of three dots and "é" stays "é". Facts from keras-hub 0.32
(`WordPieceTokenizer`); what is left of differences stands in docs/kerashub_differences.md.

The library normalises before it splits. Here the normalizer marks where to split while it can still
see what was typed, and the pre-tokenizer cuts at the marks.
"""

import itertools
import json
from collections.abc import Mapping
from pathlib import Path

import tokenizers
from tokenizers import Regex, decoders, models, normalizers, pre_tokenizers

from mlm.errors import DataError
from mlm.json_text import parse_json
from mlm.text.tokenizer import SPECIAL_TOKENS, Tokenizer, with_bert_frame, with_special_tokens
from mlm.text.vocabulary import parse_vocabulary, read_text

VOCABULARY_FILE = Path("assets", "tokenizer", "vocabulary.txt")
CLASSES = ("keras_hub>DistilBertTokenizer", "keras_nlp>DistilBertTokenizer")

# Settings of the original and the values that ours has. `lowercase` and `strip_accents` are read;
# `encode` and `encode_prompt` are the two values of special_tokens_in_strings.
ANY = object()
SETTINGS = {
    "name": ANY,
    "trainable": ANY,
    "dtype": ANY,
    "config_file": ANY,
    "vocabulary": (None,),
    "sequence_length": (None,),
    "lowercase": (True, False),
    "strip_accents": (True, False),
    "split": (True,),
    "split_on_cjk": (True,),
    "suffix_indicator": ("##",),
    "oov_token": ("[UNK]",),
    "special_tokens": (None, []),
    "special_tokens_in_strings": (True, False),
}

# Control characters, so that no text can hold one by the time they are used.
MARK = "\x1f"  # here is a cut; one that Python's str.split takes for white space
FILLER = "\x1e"  # one more byte of the character before
NO_PIECE = "\U0010fffe"  # not a character, so in no vocabulary

# Only the ASCII space: U+00A0 and its like are part of words.
DROPPED = r"[ \p{Cc}\p{Cf}]"
# ASCII signs, punctuation and BERT's Chinese characters stand alone.
ALONE = (
    r"[!-/:-@\[-`{-~\p{P}\x{4e00}-\x{9fff}\x{3400}-\x{4dbf}\x{20000}-\x{2a6df}"
    r"\x{2a700}-\x{2ceaf}\x{f900}-\x{faff}\x{2f800}-\x{2fa1f}]"
)
# What case folding does to decomposed letters beyond their lower case.
FOLDS = {"ß": "ss", "ς": "σ", "\u0345": "ι"}
WORD_BYTES = 100  # a longer word is [UNK]
LONGER_THAN = (r"[\x{80}-\x{10ffff}]", r"[\x{800}-\x{10ffff}]", r"[\x{10000}-\x{10ffff}]")


def load_keras_tokenizer(directory: str | Path) -> Tokenizer:
    """Returns the tokenizer of a KerasHub preset directory.

    Reads `tokenizer.json`, which is not a file of the `tokenizers` library, and
    `assets/tokenizer/vocabulary.txt`. Raises DataError when one is missing or unreadable, or has
    settings that ours does not have.
    """
    directory = Path(directory)
    path, file = directory / "tokenizer.json", directory / VOCABULARY_FILE
    settings = _read_settings(path)
    # The original drops white space at the end of a line as well.
    lines = (line.rstrip() for line in read_text(file).rstrip("\n").split("\n"))
    return keras_tokenizer(
        parse_vocabulary("\n".join(lines), file),
        lowercase=settings.get("lowercase", False),
        strip_accents=settings.get("strip_accents", False),
        source=str(directory),
    )


def is_keras_tokenizer(content: str) -> bool:
    """Whether the text of a `tokenizer.json` is the original's, not the `tokenizers` library's."""
    if '"registered_name"' not in content:  # the library's file may hold a large vocabulary
        return False
    try:
        settings = parse_json(content)
    except ValueError:
        return False
    return isinstance(settings, dict) and "registered_name" in settings


def keras_tokenizer(
    vocabulary: Mapping[str, int], *, lowercase: bool, strip_accents: bool, source: str
) -> Tokenizer:
    """Returns the original's WordPiece tokenizer for a vocabulary; errors call it by its `source`.

    Unlike in BERT, accents stay when text is lower-cased unless `strip_accents` says otherwise.
    Raises DataError when one of the five special tokens is missing.
    """
    backend = tokenizers.Tokenizer(
        models.WordPiece(dict(vocabulary), unk_token="[UNK]", max_input_chars_per_word=WORD_BYTES)
    )
    backend.normalizer = normalizers.Sequence(
        [
            *(_stripping() if strip_accents else ()),
            *_cutting(),
            *(_folding() if lowercase else ()),
            *_limiting(),
        ]
    )
    backend.pre_tokenizer = pre_tokenizers.Split(MARK, "removed")
    backend.decoder = decoders.WordPiece()
    return with_bert_frame(with_special_tokens(backend, source=source))


def keras_settings(tokenizer: Tokenizer) -> dict[str, bool] | None:
    """`lowercase` and `strip_accents` of one that `keras_tokenizer` made; None for any other."""
    mine = _without_vocabulary(tokenizer)
    for lowercase, strip in itertools.product((True, False), repeat=2):
        settings = {"lowercase": lowercase, "strip_accents": strip}
        ids = {token: id for id, token in enumerate(SPECIAL_TOKENS)}
        if mine == _without_vocabulary(keras_tokenizer(ids, source="", **settings)):
            return settings
    return None


def _without_vocabulary(tokenizer: Tokenizer) -> list[object]:
    state = json.loads(tokenizer.backend.to_str())
    return [state["normalizer"], state["pre_tokenizer"], state["model"] | {"vocab": None}]


def _stripping() -> list[normalizers.Normalizer]:
    return [normalizers.NFD(), _replace(r"\p{Mn}", "")]


def _cutting() -> list[normalizers.Normalizer]:
    # At the start no mark is needed, and the library fails on an empty match there.
    return [_replace(DROPPED, MARK), _replace(rf"(?!\A)(?={ALONE})|(?<={ALONE})", MARK)]


def _folding() -> list[normalizers.Normalizer]:
    return [
        normalizers.NFKD(),
        normalizers.Lowercase(),
        *(normalizers.Replace(*fold) for fold in FOLDS.items()),
        normalizers.NFKC(),
        _replace(r"\p{Default_Ignorable_Code_Point}", ""),
    ]


def _limiting() -> list[normalizers.Normalizer]:
    """Makes words of too many bytes unreadable; the library itself counts characters."""
    fill = (_replace(rf"(?<={longer})", FILLER) for longer in LONGER_THAN)
    too_long = rf"[^{MARK}](?=[^{MARK}]{{{WORD_BYTES}}})"
    return [*fill, _replace(too_long, NO_PIECE), normalizers.Replace(FILLER, "")]


def _replace(pattern: str, content: str) -> normalizers.Normalizer:
    return normalizers.Replace(Regex(pattern), content)


def _read_settings(path: Path) -> dict[str, object]:
    """The settings in a preset's tokenizer.json, after a look at each of them."""
    way_out = "; use the tokenizer of another checkpoint, or train one"
    try:
        content = parse_json(read_text(path))
    except ValueError as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"{path} is not JSON ({error}){way_out}") from error
    if not isinstance(content, dict) or content.get("registered_name") not in CLASSES:
        name = content.get("registered_name") if isinstance(content, dict) else None
        raise DataError(f"{path} is of {name!r:.60}, but {CLASSES[0]!r} is what we have{way_out}")
    settings = content.get("config")
    if not isinstance(settings, dict):
        raise DataError(f"{path} has no config{way_out}")
    problems = [
        f"{name}={value!r:.60}" for name, value in settings.items() if not _is_known(name, value)
    ]
    if problems:
        raise DataError(
            f"{path} has settings that ours cannot follow: {', '.join(problems)}{way_out}"
        )
    return settings


def _is_known(name: str, value: object) -> bool:
    choices = SETTINGS.get(name, ())
    return choices is ANY or any(value == it and type(value) is type(it) for it in choices)
