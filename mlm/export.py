"""Models taken away: to a Hugging Face directory, a KerasHub preset, or a preset of ours.

A folder appears whole or not at all. What a format cannot hold is refused, or noted where it was
asked for.
"""

import json
from pathlib import Path

from mlm import conversion
from mlm.conversion.new_folder import new_folder
from mlm.errors import CheckpointError
from mlm.model_card import model_card
from mlm.pretrained import Pretrained, need_tokenizer
from mlm.task.preprocessor import DistilBertMaskedLMPreprocessor
from mlm.text import Tokenizer
from mlm.text.keras_tokenizer import keras_settings
from mlm.text.tokenizer import SPECIAL_TOKENS

FORMATS = ("huggingface", "keras", "mlm")
# BERT's WordPiece as transformers builds it from a vocab.txt, with what that leaves open.
BERT_MODEL = {
    "type": "WordPiece",
    "unk_token": "[UNK]",
    "continuing_subword_prefix": "##",
    "max_input_chars_per_word": 100,
}
BERT_NORMALIZER = {"type": "BertNormalizer", "clean_text": True}


def export(
    source: Pretrained,
    directory: str | Path,
    *,
    to: str,
    allow_epsilon_change: bool = False,
    command: str = "",
) -> tuple[str, ...]:
    """Writes a model and its tokenizer as a folder; what had to be changed, a sentence each.

    Args:
      source: from `load_pretrained`.
      directory: must not exist, or be empty.
      to: 'huggingface', 'keras' or 'mlm'.
      allow_epsilon_change: whether a layer norm may get the epsilon that is fixed in the format.
      command: what a model card tells about how it was made.

    Raises:
      CheckpointError: the format cannot hold this model or tokenizer.
      OutputError: the folder is not empty, or cannot be written.
    """
    if to not in FORMATS:
        raise ValueError(f"to is {to!r}; choose one of {', '.join(FORMATS)}")
    need_tokenizer(source)
    with new_folder(Path(directory)) as folder:
        if to == "huggingface":
            notes = _write_huggingface(folder, source, allow_epsilon_change, command)
        elif to == "keras":
            notes = _write_keras(folder, source, allow_epsilon_change)
        else:
            notes = ()
            conversion.save_own(folder, source.config, source.params)
            _preprocessor(source).save(folder)
    return notes


def _write_huggingface(
    folder: Path, source: Pretrained, allow: bool, command: str
) -> tuple[str, ...]:
    tokenizer = source.tokenizer
    notes = conversion.save_huggingface(
        folder,
        source.config,
        source.params,
        pad_token_id=tokenizer.special.pad,
        allow_epsilon_change=allow,
    )
    tokenizer.save(folder / "tokenizer.json")
    settings = {f"{token[1:-1].lower()}_token": token for token in SPECIAL_TOKENS} | {
        "model_max_length": source.config.max_length,
        "model_input_names": ["input_ids", "attention_mask"],  # DistilBERT takes no token types
    }
    facts, pieces = wordpiece_facts(tokenizer), pieces_by_id(tokenizer)
    if facts is None or any(set(piece) & set("\r\n") for piece in pieces):
        settings["tokenizer_class"] = "PreTrainedTokenizerFast"
        notes += ("The tokenizer is not BERT's, so it is in tokenizer.json alone: no vocab.txt.",)
    else:
        settings |= {"tokenizer_class": "DistilBertTokenizer", **facts}
        _write(folder / "vocab.txt", "".join(f"{piece}\n" for piece in pieces))
    _write(folder / "tokenizer_config.json", json.dumps(settings, indent=2, sort_keys=True) + "\n")
    _write(folder / "README.md", model_card(source, command=command, notes=notes))
    return notes


def _write(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8", newline="\n")


def _write_keras(folder: Path, source: Pretrained, allow: bool) -> tuple[str, ...]:
    settings, notes = _keras_tokenizer(source)
    return notes + conversion.save_keras_preset(
        folder,
        source.config,
        source.params,
        tokenizer_vocabulary=pieces_by_id(source.tokenizer),
        allow_epsilon_change=allow,
        **settings,
        **_preprocessor(source).settings,
    )


def _preprocessor(source: Pretrained) -> DistilBertMaskedLMPreprocessor:
    """What makes rows of texts: as the source says, or by default."""
    try:
        return DistilBertMaskedLMPreprocessor.of(source)
    except CheckpointError:
        raise
    except (TypeError, ValueError) as error:
        raise CheckpointError(
            f"{source.folder}/preprocessor.json has a setting that cannot be ({error})"
        ) from error


def _keras_tokenizer(source: Pretrained) -> tuple[dict[str, bool], tuple[str, ...]]:
    """What KerasHub's tokenizer is told, and a note where it reads some texts otherwise."""
    if settings := keras_settings(source.tokenizer):
        return settings, ()
    facts = wordpiece_facts(source.tokenizer)
    if facts is None or not facts["tokenize_chinese_chars"]:
        raise CheckpointError(
            f"the tokenizer in {source.folder} is not BERT's WordPiece, and KerasHub's DistilBERT "
            "has no other; export to huggingface or mlm"
        )
    lowercase, strip = facts["do_lower_case"], facts["strip_accents"]
    note = (
        "KerasHub's tokenizer cuts rare text otherwise than BERT's: no-break spaces, control "
        "characters and words of more than 100 bytes."
    )
    strip = lowercase if strip is None else strip
    return {"lowercase": lowercase, "strip_accents": strip}, (note,)


def wordpiece_facts(tokenizer: Tokenizer) -> dict[str, bool | None] | None:
    """What `tokenizer_config.json` says of BERT's normalisation; None for another tokenizer."""
    state = json.loads(tokenizer.backend.to_str())
    model, normalizer = state["model"], state["normalizer"] or {}
    splitter = state["pre_tokenizer"] or {}
    if (
        splitter.get("type") != "BertPreTokenizer"
        or {name: model.get(name) for name in BERT_MODEL} != BERT_MODEL
        or {name: normalizer.get(name) for name in BERT_NORMALIZER} != BERT_NORMALIZER
    ):
        return None
    return {
        "do_lower_case": normalizer["lowercase"],
        "strip_accents": normalizer["strip_accents"],
        "tokenize_chinese_chars": normalizer["handle_chinese_chars"],
    }


def pieces_by_id(tokenizer: Tokenizer) -> list[str]:
    """The vocabulary as lines of a `vocab.txt`; ids without a piece get an unused name."""
    pieces = tokenizer.backend.get_vocab(with_added_tokens=True)
    by_id = {id: piece for piece, id in pieces.items()}
    return [by_id.get(id, f"[unused-{id}]") for id in range(tokenizer.vocabulary_size)]
