"""Preset directories of KerasHub's DistilBertMaskedLM: from our config and parameters to theirs.

The files are those of keras-hub 0.32's `save_to_preset` for a model that was not trained there.
"""

import datetime
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import h5py
import numpy as np

from mlm.conversion.keras_names import HEAD, to_keras
from mlm.conversion.keras_preset import EPSILON, HEAD_EPSILON, OPTIMIZER, SETTINGS
from mlm.conversion.new_folder import new_folder
from mlm.errors import CheckpointError
from mlm.models.distilbert import DistilBertConfig
from mlm.models.masked_lm import Params, parameter_count

PACKAGE = "keras_hub.src.models.distil_bert"
SPECIAL_TOKENS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")  # what its tokenizer asks for
# Step and learning rate of its default optimizer; without them it warns while it loads.
FRESH_ADAM = (np.int32(0), np.float32(5e-5))
VERSIONS = {"keras_version": "3.15.1", "keras_hub_version": "0.32.0"}  # whose layout this is


def save_keras_preset(
    directory: str | Path,
    config: DistilBertConfig,
    params: Params,
    *,
    tokenizer_vocabulary: Sequence[str],
    lowercase: bool,
    strip_accents: bool,
    sequence_length: int,
    mask_selection_rate: float = 0.15,
    mask_selection_length: int = 96,
    truncate: str = "round_robin",
    mask_token_rate: float = 0.8,
    random_token_rate: float = 0.1,
    allow_epsilon_change: bool = False,
) -> tuple[str, ...]:
    """Writes a preset directory and returns notes on what is different there, a line each.

    An error or an interruption leaves no directory, only ever a whole one.

    Args:
      directory: does not exist yet, or is empty.
      config: the model's settings.
      params: its parameters, with the head.
      tokenizer_vocabulary: WordPiece pieces in the order of their ids.
      lowercase: what the preset's tokenizer does, which is not quite what BERT's does.
      strip_accents: the same.
      sequence_length: rows of the preset's preprocessor, as all that follows; the defaults are
        the original's.
      mask_selection_rate: what part of a row's tokens is selected.
      mask_selection_length: the most that are selected.
      truncate: how pairs are cut, 'round_robin' or 'waterfall'.
      mask_token_rate: what part of the selected is shown as [MASK].
      random_token_rate: what part is shown as a random token.
      allow_epsilon_change: write a model whose layer norms have other epsilons than the original,
        which has 1e-12, and 1e-5 in the head. Logits of a public checkpoint change by about 2e-4.

    Raises:
      CheckpointError: an epsilon is another, or the vocabulary cannot be one of the original's.
      OutputError: the directory holds something already, or cannot be written.
    """
    notes = _epsilon_notes(config, allow_epsilon_change)
    if config.attention_dropout != config.dropout:
        notes.append(
            f"KerasHub has one dropout rate: attention_dropout={config.attention_dropout} becomes "
            f"{config.dropout} there."
        )
    notes += _vocabulary_notes(tokenizer_vocabulary, config)
    tokenizer = _tokenizer(lowercase, strip_accents)
    preprocessor = _preprocessor(
        tokenizer,
        sequence_length=sequence_length,
        truncate=truncate,
        mask_selection_rate=mask_selection_rate,
        mask_selection_length=mask_selection_length,
        mask_token_rate=mask_token_rate,
        random_token_rate=random_token_rate,
    )
    with new_folder(Path(directory)) as folder:
        _write_weights(folder, to_keras(params, heads=config.heads))
        _write_json(folder / "config.json", _backbone(config))
        _write_json(folder / "task.json", _task(_backbone(config), preprocessor))
        _write_json(folder / "preprocessor.json", preprocessor)
        _write_json(folder / "tokenizer.json", tokenizer)
        _write_json(folder / "metadata.json", _metadata(params))
        assets = folder / "assets" / "tokenizer"
        assets.mkdir(parents=True)
        lines = "".join(f"{piece}\n" for piece in tokenizer_vocabulary)
        (assets / "vocabulary.txt").write_text(lines, encoding="utf-8", newline="\n")
    return tuple(notes)


def _epsilon_notes(config: DistilBertConfig, allowed: bool) -> list[str]:
    ours = {"epsilon": config.epsilon, "head_epsilon": config.head_epsilon}
    theirs = {"epsilon": EPSILON, "head_epsilon": HEAD_EPSILON}
    others = [f"{name}={value}" for name, value in ours.items() if value != theirs[name]]
    if not others:
        return []
    if not allowed:
        raise CheckpointError(
            f"a KerasHub preset cannot hold {' and '.join(others)}: there it is always {EPSILON}, "
            f"and {HEAD_EPSILON} in the head; pass allow_epsilon_change=True (convert: "
            "--allow_epsilon_change) to write one whose logits differ a little (by about 2e-4 for "
            "public checkpoints)"
        )
    fixed = " and ".join(f"{name}={value}" for name, value in theirs.items())
    return [f"KerasHub computes with {fixed}, not {' and '.join(others)}: logits differ a little."]


def _vocabulary_notes(pieces: Sequence[str], config: DistilBertConfig) -> list[str]:
    """Raises CheckpointError unless every piece keeps its id in a file that the original reads."""
    read = [piece.rstrip() for piece in pieces]  # as it does
    problems = [f"it lacks {token}" for token in SPECIAL_TOKENS if token not in read]
    if len(pieces) > config.vocabulary_size:
        problems.append(f"it has {len(pieces)} pieces, the model {config.vocabulary_size}")
    if repeated := len(read) - len(set(read)):
        problems.append(f"{repeated} of its pieces are there twice")
    if broken := [piece for piece in pieces if not piece.rstrip() or set(piece) & set("\0\n\r")]:
        problems.append(f"{broken[0]!r} is not a line of text")
    if problems:
        raise CheckpointError(
            f"the vocabulary cannot be that of a KerasHub preset: {'; '.join(problems)}; "
            "use the tokenizer that the model was trained with"
        )
    stripped = sum(a != b for a, b in zip(read, pieces, strict=True))
    return [f"KerasHub drops the white space at the end of {stripped} pieces."] if stripped else []


def _object(module: str, name: str, package: str | None, config: Mapping) -> dict:
    """An object as Keras serializes it."""
    return {
        "module": module,
        "class_name": name,
        "config": dict(config),
        "registered_name": package and f"{package}>{name}",
    }


def _layer(module: str, name: str, own_name: str, dtype: str, config: Mapping) -> dict:
    """A layer of KerasHub's DistilBERT with what every layer's config has."""
    policy = _object("keras", "DTypePolicy", None, {"name": dtype})
    common = {"name": own_name, "trainable": True, "dtype": policy}
    return _object(f"{PACKAGE}.{module}", name, "keras_hub", common | dict(config))


def _backbone(config: DistilBertConfig) -> dict:
    settings = {theirs: getattr(config, ours) for ours, theirs in SETTINGS.items()}
    return _layer(
        "distil_bert_backbone", "DistilBertBackbone", "distil_bert_backbone", "float32", settings
    )


def _tokenizer(lowercase: bool, strip_accents: bool) -> dict:
    settings = {
        "config_file": "tokenizer.json",
        "vocabulary": None,  # it is in the assets
        "sequence_length": None,
        "lowercase": lowercase,
        "strip_accents": strip_accents,
        "split": True,
        "suffix_indicator": "##",
        "oov_token": "[UNK]",
        "special_tokens": None,
        "special_tokens_in_strings": False,
    }
    return _layer(
        "distil_bert_tokenizer", "DistilBertTokenizer", "distil_bert_tokenizer", "int32", settings
    )


def _preprocessor(tokenizer: dict, **own: object) -> dict:
    settings = {"tokenizer": tokenizer, "config_file": "preprocessor.json", **own}
    name = "distil_bert_masked_lm_preprocessor"
    return _layer(name, "DistilBertMaskedLMPreprocessor", name, "float32", settings)


def _task(backbone: dict, preprocessor: dict) -> dict:
    settings = {"backbone": backbone, "preprocessor": preprocessor, "name": "distil_bert_masked_lm"}
    module = f"{PACKAGE}.distil_bert_masked_lm"
    return _object(module, "DistilBertMaskedLM", "keras_hub", settings)


def _metadata(params: Params) -> dict:
    return {
        **VERSIONS,
        "parameter_count": parameter_count(params["backbone"]),
        "date_saved": datetime.datetime.now().strftime("%Y-%m-%d@%H:%M:%S"),
        "tasks": ["MaskedLM", "TextClassifier"],
    }


def _write_json(path: Path, content: dict) -> None:
    path.write_text(json.dumps(content, indent=4), encoding="utf-8")


def _write_weights(folder: Path, arrays: Mapping[str, np.ndarray]) -> None:
    head = {name: array for name, array in arrays.items() if name.startswith(HEAD)}
    backbone = {name: array for name, array in arrays.items() if name not in head}
    optimizer = {f"{OPTIMIZER}vars/{n}": value for n, value in enumerate(FRESH_ADAM)}
    _write_hdf5(folder / "model.weights.h5", backbone)
    _write_hdf5(folder / "task.weights.h5", head | optimizer)


def _write_hdf5(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Made in memory first: writing to a full disk, HDF5's library ends the whole process."""
    buffer = io.BytesIO()
    with h5py.File(buffer, "w") as stream:
        for name, array in arrays.items():
            stream[name] = np.asarray(array)
    # No view may outlive this, not even in the traceback of an error (as that of Path.write_bytes
    # would): collected together with its buffer it crashes Python 3.12.1.
    with path.open("wb") as file, buffer.getbuffer() as content:
        file.write(content)
