"""Tokenizers from disk: a file, or the folder of a checkpoint, a run or prepared text.

A `tokenizer.json` says everything about a tokenizer, unless it is one of KerasHub's, whose pieces
are in another file. A `vocab.txt` holds the pieces alone: how text is normalised stands in the
`tokenizer_config.json` beside it, where there is one.
"""

from pathlib import Path

import tokenizers

from mlm.errors import DataError
from mlm.json_text import parse_json
from mlm.text.keras_tokenizer import is_keras_tokenizer, load_keras_tokenizer
from mlm.text.tokenizer import Tokenizer, bert_tokenizer, with_special_tokens
from mlm.text.vocabulary import parse_vocabulary, read_text

# What a tokenizer_config.json says about normalisation: our name of it, and what it may be.
NORMALISATION = {
    "do_lower_case": ("lowercase", (True, False)),
    "strip_accents": ("strip_accents", (True, False, None)),
    "tokenize_chinese_chars": ("handle_chinese_chars", (True, False)),
}


def load_tokenizer(path: str | Path, *, lowercase: bool | None = None) -> Tokenizer:
    """Returns the tokenizer of a `vocab.txt` (BERT WordPiece), a `tokenizer.json` or a folder.

    Of a folder the `tokenizer.json` is read, such as a run and prepared text have, else the
    `vocab.txt` with its `tokenizer_config.json`: a Hugging Face directory has either. A preset
    directory of KerasHub gives KerasHub's tokenizer.

    A `vocab.txt` does not say whether it was made from lower-cased text: `lowercase=None` means
    yes, as for the uncased public checkpoints. A `tokenizer.json` does, and so does a folder
    whose `tokenizer_config.json` has `do_lower_case`: there `lowercase` has no say. Truncation
    and padding set in a file are dropped.

    Raises DataError for a file that is missing, unreadable or of another kind, for a folder
    without one, and when one of [PAD], [UNK], [CLS], [SEP] and [MASK] is missing or two share an
    id.
    """
    path = Path(path) if isinstance(path, str) else path  # it may be one in a bucket
    if path.is_dir():
        return _load_folder(path, lowercase=lowercase)
    if path.suffix not in (".txt", ".json"):
        raise DataError(
            f"tokenizer {path} is neither a vocab.txt nor a tokenizer.json, nor a folder with one "
            "of them; correct the path"
        )
    content = read_text(path)
    if path.suffix == ".json":
        if is_keras_tokenizer(content):
            return load_keras_tokenizer(path.parent)
        return with_special_tokens(_parse_json(content, path), source=str(path))
    vocabulary = parse_vocabulary(content, path)
    return bert_tokenizer(vocabulary, lowercase=lowercase is not False, source=str(path))


def _load_folder(folder: Path, *, lowercase: bool | None) -> Tokenizer:
    if (folder / "tokenizer.json").is_file():
        return load_tokenizer(folder / "tokenizer.json")
    path = folder / "vocab.txt"
    if not path.is_file():
        raise DataError(
            f"tokenizer {folder} is a folder without tokenizer.json or vocab.txt; name a Hugging "
            "Face directory, a KerasHub preset, a workdir of train.py or a folder that prepare "
            "wrote"
        )
    vocabulary = parse_vocabulary(read_text(path), path)
    settings = {"lowercase": lowercase is not False}
    settings |= _normalisation(folder / "tokenizer_config.json")
    return bert_tokenizer(vocabulary, source=str(path), **settings)


def _normalisation(path: Path) -> dict[str, bool | None]:
    """What a `tokenizer_config.json` says about normalisation; nothing where there is none."""
    if not path.exists():
        return {}
    way_out = "; mend it, or use the tokenizer.json of the same checkpoint"
    try:
        config = parse_json(read_text(path))
    except ValueError as error:
        raise DataError(f"{path} is not JSON ({error}){way_out}") from error
    if not isinstance(config, dict):
        raise DataError(f"{path} is not a JSON object but {type(config).__name__}{way_out}")
    # A vocab.txt of Japanese BERT is cut into words by a program of its own.
    if (words := config.get("word_tokenizer_type", "basic")) != "basic":
        raise DataError(
            f"{path} splits words by {words!r}, which we cannot; use the tokenizer of another "
            "checkpoint, or train one"
        )
    settings = {}
    for name, (ours, choices) in NORMALISATION.items():
        if name not in config:
            continue
        if not any(config[name] is choice for choice in choices):
            raise DataError(
                f"{path} has {name} {config[name]!r}, which is not true or false{way_out}"
            )
        settings[ours] = config[name]
    return settings


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
