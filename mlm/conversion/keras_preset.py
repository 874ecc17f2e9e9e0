"""Preset directories of KerasHub's DistilBERT: from theirs to our config and parameters.

What is in such a directory was measured on keras-hub 0.32: `config.json` (the backbone),
`model.weights.h5` or its shards, and, when a DistilBertMaskedLM was saved, `task.json` and
`task.weights.h5` with the MLM head. `keras_export` writes one.
"""

import functools
import json
import re
from pathlib import Path

import jax
import numpy as np

from mlm.conversion.hdf5 import TO_FLOAT32, StoredArray, open_hdf5
from mlm.conversion.keras_names import LAYER, from_keras, to_keras
from mlm.conversion.loaded import Loaded, listed, read_json, refuse_misfits, shown
from mlm.errors import CheckpointError
from mlm.models.distilbert import DistilBertConfig
from mlm.models.masked_lm import Params, create_abstract, create_head

BACKBONES = ("keras_hub>DistilBertBackbone", "keras_nlp>DistilBertBackbone")
TASKS = ("keras_hub>DistilBertMaskedLM", "keras_nlp>DistilBertMaskedLM")

SETTINGS = {
    "vocabulary_size": "vocabulary_size",
    "layers": "num_layers",
    "heads": "num_heads",
    "width": "hidden_dim",
    "hidden": "intermediate_dim",
    "dropout": "dropout",
    "max_length": "max_sequence_length",
}
WITHOUT_EFFECT = ("name", "trainable", "dtype")  # on the numbers; dtype is looked at besides

# Fixed in the original's code, not in its files.
EPSILON = 1e-12
HEAD_EPSILON = 1e-5

SHARD = re.compile(r"model_[0-9]{5}\.weights\.h5")
OPTIMIZER = "optimizer/"  # saved with a task, and not read back by the original either


def load_keras_preset(
    directory: str | Path, *, key: jax.Array | None = None, cast: bool = False
) -> Loaded:
    """The config, the parameters and notes on a KerasHub preset directory.

    The original has one dropout rate, which becomes both of ours, and an epsilon of 1e-5 in its
    head, which the config carries.

    Args:
      directory: holds `config.json` and `model.weights.h5`, or shards and `model.weights.json`.
      key: of the weights of a fresh head, where the preset has none.
      cast: accept weights in float16, bfloat16 or float64, and give them as float32.

    Raises:
      CheckpointError: a file is missing or damaged, reaches beyond itself, or holds something else
        than this model; a setting is one that our model does not have; arrays are missing,
        unexpected, or of another shape or dtype; or there is no head and no key.
    """
    directory = Path(directory)
    config, notes = read_keras_config(directory / "config.json")
    lack = _lacks_head(directory, config)
    if lack and key is None:
        raise CheckpointError(
            f"{directory} has no MLM head ({lack}); pass a key, such as jax.random.key(0), for a "
            "fresh one"
        )
    files, parts = _backbone_files(directory), ["backbone"]
    if not lack:
        files, parts = [*files, directory / "task.weights.h5"], [*parts, "head"]
    params, more = _read(files, parts, config, cast=cast)
    if lack:
        params["head"] = jax.tree.map(np.asarray, create_head(config, key))
        notes.append(f"The head is fresh and knows nothing yet: {lack}.")
    return Loaded(config, params, (*notes, *more))


def read_keras_config(path: Path) -> tuple[DistilBertConfig, list[str]]:
    """Our settings from a preset's `config.json`, and what there is to say about them.

    Raises CheckpointError for another class, for settings that are missing or that we do not know,
    and for quantized weights.
    """
    theirs = _settings(read_json(path), BACKBONES, path)
    unknown = [name for name in theirs if name not in (*SETTINGS.values(), *WITHOUT_EFFECT)]
    problems = [f"no {name}" for name in SETTINGS.values() if name not in theirs]
    problems += [f"{shown(name)}, which may change the numbers" for name in unknown]
    problems += [
        f"{name}={shown(repr(theirs[name]))}, which is no number"
        for name in SETTINGS.values()
        if name in theirs and type(theirs[name]) not in (int, float)
    ]
    if problems:
        raise CheckpointError(f"{path} does not describe a model we have: {listed(problems)}")
    notes = _dtype_notes(theirs.get("dtype"), path)
    try:
        config = DistilBertConfig(
            **{ours: theirs[name] for ours, name in SETTINGS.items()},
            attention_dropout=theirs["dropout"],
            epsilon=EPSILON,
            head_epsilon=HEAD_EPSILON,
        )
    except ValueError as error:
        raise CheckpointError(
            f"{path} does not describe a model we have: {shown(str(error))}"
        ) from error
    if config.dropout:
        notes.append("The original drops out the attention's output as well; here it stays whole.")
    return config, notes


def _settings(content: dict, classes: tuple[str, ...], path: Path) -> dict:
    """What a serialized object of one of `classes` was made with."""
    if (name := content.get("registered_name")) not in classes:
        raise CheckpointError(
            f"{path} is of {shown(repr(name))}, but {classes[0]!r} is what can be loaded; name a "
            "preset of DistilBERT"
        )
    if not isinstance(settings := content.get("config"), dict):
        raise CheckpointError(f"{path} has no config; copy or download it again")
    return settings


def _dtype_notes(dtype: object, path: Path) -> list[str]:
    """A note for a model that computed in another type; like the original we do not follow it."""
    policy = dtype if isinstance(dtype, dict) else {"class_name": "DTypePolicy", "config": dtype}
    inner = policy.get("config")
    name = inner.get("name") if isinstance(inner, dict) else inner
    kinds = (None, "float32", "float16", "bfloat16", "float64", "mixed_float16", "mixed_bfloat16")
    if policy.get("class_name") != "DTypePolicy" or name not in kinds:
        raise CheckpointError(
            f"{path} asks for {shown(json.dumps(dtype))}; quantized weights cannot be loaded, save "
            "the model before it was quantized"
        )
    if name in kinds[:2]:
        return []
    return [f"It was saved to compute in {name}; the config here says float32."]


def _lacks_head(directory: Path, config: DistilBertConfig) -> str:
    """Why the preset has no MLM head; empty when it has one."""
    task, weights = directory / "task.json", directory / "task.weights.h5"
    for path in (task, weights):
        if not path.is_file():
            return f"there is no {path.name}"
    content = read_json(task)
    if (name := content.get("registered_name")) not in TASKS:
        return f"task.json is of {shown(repr(name))}"
    backbone = _settings(content, TASKS, task).get("backbone")
    inner = _settings(backbone if isinstance(backbone, dict) else {}, BACKBONES, task)
    for ours, name in SETTINGS.items():
        if inner.get(name) != getattr(config, ours):
            raise CheckpointError(
                f"{task} has {name}={shown(repr(inner.get(name)))} and config.json "
                f"{getattr(config, ours)}; they must agree, save the model again"
            )
    return ""


def _backbone_files(directory: Path) -> list[Path]:
    """The backbone's file, or all of its shards."""
    whole, index = directory / "model.weights.h5", directory / "model.weights.json"
    if whole.is_file() or not index.is_file():
        return [whole]
    places = read_json(index).get("weight_map")
    places = places.values() if isinstance(places, dict) else ()
    names = [name for place in places for name in (place if isinstance(place, list) else [place])]
    strange = [n for n in names if not (isinstance(n, str) and SHARD.fullmatch(n))]
    if strange or not names:
        raise CheckpointError(
            f"{index} names {shown(repr(strange))} as its shards, which must be files like "
            "model_00000.weights.h5 beside it; copy or download the preset again"
        )
    return [directory / name for name in sorted(set(names))]


def _read(
    files: list[Path], parts: list[str], config: DistilBertConfig, *, cast: bool
) -> tuple[Params, list[str]]:
    """Those parts of our parameters from the files together, and notes on what was in them."""
    source = files[0].parent
    with open_hdf5(files) as found:
        stored = {name: array for name, array in found.items() if not name.startswith(OPTIMIZER)}
        _compare_layers(config, stored, source)
        _, abstract = create_abstract(config)
        wanted = {part: abstract[part] for part in parts}
        theirs = jax.eval_shape(functools.partial(to_keras, heads=config.heads), wanted)
        refuse_misfits(source, stored, {n: spec.shape for n, spec in theirs.items()}, TO_FLOAT32)
        notes = _cast_notes(stored, cast, source)
        params = from_keras({name: stored[name].read() for name in theirs}, wanted)
    if left := len(found) - len(stored):
        notes.append(f"{left} arrays of the optimizer's state were left out.")
    return params, notes


def _cast_notes(stored: dict[str, StoredArray], cast: bool, source: Path) -> list[str]:
    others = sorted({array.dtype for array in stored.values()} - {"float32"})
    if others and not cast:
        raise CheckpointError(
            f"{source} has weights in {' and '.join(others)}; pass cast=True to get them as "
            "float32 (convert: --cast)"
        )
    return [f"Weights in {' and '.join(others)} became float32."] if others else []


def _compare_layers(config: DistilBertConfig, stored: dict[str, StoredArray], source: Path) -> None:
    """Raises CheckpointError before a model of a million layers is laid out to be compared."""
    layers = len({name.split("/")[1] for name in stored if name.startswith(LAYER[:-1])})
    if layers != config.layers:
        raise CheckpointError(
            f"{source} has num_layers={config.layers} in its config.json and {layers} layers in "
            "its weights; copy or download it again"
        )
