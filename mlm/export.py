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
from mlm.text import Tokenizer
from mlm.text.tokenizer import SPECIAL_TOKENS

FORMATS = ("huggingface", "keras", "mlm")


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
    with new_folder(Path(directory)) as folder:
        if to == "huggingface":
            notes = _write_huggingface(folder, source, allow_epsilon_change, command)
        elif to == "keras":
            notes = _write_keras(folder, source, allow_epsilon_change)
        else:
            notes = ()
            conversion.save_own(folder, source.config, source.params)
            need_tokenizer(source).save(folder / "tokenizer.json")
    return notes


def _write_huggingface(
    folder: Path, source: Pretrained, allow: bool, command: str
) -> tuple[str, ...]:
    tokenizer = need_tokenizer(source)
    notes = conversion.save_huggingface(
        folder,
        source.config,
        source.params,
        pad_token_id=tokenizer.special.pad,
        allow_epsilon_change=allow,
    )
    tokenizer.save(folder / "tokenizer.json")
    facts = wordpiece_facts(tokenizer)
    settings = {f"{token[1:-1].lower()}_token": token for token in SPECIAL_TOKENS} | {
        "model_max_length": source.config.max_length
    }
    if facts is None:
        settings["tokenizer_class"] = "PreTrainedTokenizerFast"
    else:
        settings |= {"tokenizer_class": "DistilBertTokenizer", **facts}
        vocabulary = "".join(f"{piece}\n" for piece in pieces_by_id(tokenizer))
        (folder / "vocab.txt").write_text(vocabulary, encoding="utf-8")
    text = json.dumps(settings, indent=2, sort_keys=True) + "\n"
    (folder / "tokenizer_config.json").write_text(text)
    card = model_card(source, command=command, notes=notes)
    (folder / "README.md").write_text(card, encoding="utf-8")
    return notes


def _write_keras(folder: Path, source: Pretrained, allow: bool) -> tuple[str, ...]:
    tokenizer = need_tokenizer(source)
    facts = wordpiece_facts(tokenizer)
    if facts is None:
        raise CheckpointError(
            f"the tokenizer in {source.folder} is not BERT's WordPiece, and KerasHub's DistilBERT "
            "has no other; export to huggingface or mlm"
        )
    lowercase = facts["do_lower_case"]
    strip = facts["strip_accents"]
    return conversion.save_keras_preset(
        folder,
        source.config,
        source.params,
        tokenizer_vocabulary=pieces_by_id(tokenizer),
        lowercase=lowercase,
        strip_accents=lowercase if strip is None else strip,
        sequence_length=source.config.max_length,
        allow_epsilon_change=allow,
    )


def wordpiece_facts(tokenizer: Tokenizer) -> dict[str, bool | None] | None:
    """What `tokenizer_config.json` says of BERT's normalisation; None for another tokenizer."""
    state = json.loads(tokenizer.backend.to_str())
    normalizer, splitter = state["normalizer"] or {}, state["pre_tokenizer"] or {}
    kinds = (state["model"]["type"], normalizer.get("type"), splitter.get("type"))
    if kinds != ("WordPiece", "BertNormalizer", "BertPreTokenizer"):
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
