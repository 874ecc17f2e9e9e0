"""Models from wherever they lie: a built-in name, the Hub, or a folder of any known kind.

What a folder is follows from its files: a Hugging Face directory, a KerasHub preset, one that
`save_to_preset` wrote, or the workdir of a run, or one of its checkpoints. A run may lie in a
bucket.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import jax
import numpy as np

from mlm import conversion, models, saved
from mlm.bucket import absolute, is_in_bucket
from mlm.config import from_flat, model_fields
from mlm.conversion.builtin import PRESETS, download, repository_of
from mlm.conversion.huggingface_settings import read_settings
from mlm.conversion.keras_preset import read_keras_config
from mlm.conversion.loaded import read_json, shown
from mlm.conversion.own_folder import read_own_config
from mlm.errors import CheckpointError
from mlm.network import make_network
from mlm.text import Tokenizer, load_tokenizer
from mlm.training.workdir import found_workdir, saved_steps

READERS = {
    "huggingface": conversion.load_huggingface,
    "keras": conversion.load_keras_preset,
    "mlm": conversion.load_own,
}
CONFIG_READERS = {
    "huggingface": lambda folder: read_settings(folder / "config.json").config,
    "keras": lambda folder: read_keras_config(folder / "config.json")[0],
    "mlm": read_own_config,
}
# The entry of a config.json by which each kind is known; the first that is there decides.
MARKS = {"model_type": "huggingface", "registered_name": "keras", "mlm_version": "mlm"}
TOKENIZERS = ("tokenizer.json", "vocab.txt", "assets/tokenizer/vocabulary.txt")


@dataclass(frozen=True)
class Pretrained:
    """A model that was found, its tokenizer, and what happened on the way.

    Attributes:
      kind: 'huggingface', 'keras', 'mlm' (a preset of ours), 'run' (a workdir), or 'builtin' (the
        sizes of a built-in name, without any file).
      folder: where its files lie.
      revision: the commit of a download, the step of a run, else None.
      config: the architecture.
      params: nested dict, float32 NumPy.
      tokenizer: the one it was trained with; None where the folder holds none.
      notes: a sentence for each thing that was dropped, or is random because it was not there.
      place: what was asked for.
      custom: the model.custom of a run; the config is not an architecture then.
    """

    kind: str
    folder: Path
    revision: str | None
    config: models.DistilBertConfig
    params: dict
    tokenizer: Tokenizer | None
    notes: tuple[str, ...] = ()
    place: str = ""
    custom: str = ""


def load_pretrained(
    place: str | Path,
    *,
    load_weights: bool = True,
    key: jax.Array | None = None,
    cast: bool = False,
    local_files_only: bool = False,
    custom: bool = False,
    say: Callable[[str], None] = print,
) -> Pretrained:
    """The model at `place`: a name of `PRESETS`, `hf://org/name[@revision]`, or a folder.

    Args:
      load_weights: False for random weights from `key`; nothing but config and tokenizer is read.
        With `local_files_only` a built-in name then needs no file: its sizes are known.
      key: for weights that a checkpoint lacks, such as the head of a bare encoder.
      cast: whether weights that are not float32 may be turned into it.
      local_files_only: never ask the network.
      custom: whether it may be a run with a model of the user's own, `Pretrained.custom`.
      say: called with a line on what was downloaded, and with each note.

    Raises:
      CheckpointError: there is no such model, it is damaged, or not one that we have.
      DataError: its tokenizer cannot be used.
    """
    place = str(place)
    folder, revision = _fetch(place, load_weights, local_files_only, say)
    if folder is None:
        config, params = _random(PRESETS[place].config, key)
        return Pretrained("builtin", Path(place), None, config, params, None, place=place)
    kind = kind_of(folder)
    if kind == "run":
        return _load_run(folder, load_weights, key, place, custom)
    if is_in_bucket(folder):
        raise CheckpointError(
            f"{place} is no run of train.py, and other models are read from this machine; copy the "
            "folder here"
        )
    if load_weights:
        loaded = READERS[kind](folder, key=key, cast=cast)
    else:
        loaded = conversion.Loaded(*_random(CONFIG_READERS[kind](folder), key))
    tokenizer = load_tokenizer(folder) if _has_tokenizer(folder) else None
    notes = loaded.notes + _vocabulary_notes(tokenizer, loaded.config, folder)
    for note in notes:
        say(f"{place}: {note}")
    found = (loaded.config, loaded.params, tokenizer, notes, place)
    return Pretrained(kind, folder, revision, *found)


def need_tokenizer(found: Pretrained) -> Tokenizer:
    """The tokenizer of a model; raises CheckpointError where there is none."""
    if found.tokenizer is None:
        raise CheckpointError(
            f"{found.folder} holds no tokenizer; put the tokenizer.json or vocab.txt of this model "
            "there"
        )
    return found.tokenizer


def kind_of(folder: Path) -> str:
    """What a folder holds, by its files; raises CheckpointError where that is no model."""
    file = folder / "config.json"
    config = read_json(file) if file.is_file() else {}
    for mark, kind in MARKS.items():
        if mark in config:
            return kind
    if _is_checkpoint(folder) or (folder / "checkpoints").is_dir():
        return "run"
    found = "a config.json without" if config else "no config.json with"
    raise CheckpointError(
        f"{folder} holds no model: {found} the model_type of Hugging Face, the registered_name of "
        "a KerasHub preset or the mlm_version of ours, and no checkpoints of a run; correct the "
        "path"
    )


def _fetch(
    place: str, load_weights: bool, local_files_only: bool, say: Callable[[str], None]
) -> tuple[Path | None, str | None]:
    """The folder and the commit of a place; no folder where a built-in name needs none."""
    if place.startswith("gs:"):
        return found_workdir(place, named="model"), None
    repository = repository_of(place)
    if repository is None:
        return Path(place), None
    try:
        files = {"weights": load_weights, "local_files_only": local_files_only}
        folder, revision = download(*repository, **files)
    except CheckpointError:
        if place in PRESETS and local_files_only and not load_weights:
            return None, None
        raise
    say(f"{place}: {repository[0]} at {revision}")
    return folder, revision


def _is_checkpoint(folder: Path) -> bool:
    folder = absolute(folder)
    return folder.parent.name == "checkpoints" and folder.name.isdecimal()


def _random(config: models.DistilBertConfig, key: jax.Array | None):
    if key is None:
        raise ValueError("load_weights=False makes random weights; give a key, jax.random.key(0)")
    return config, jax.tree.map(np.asarray, models.create(config, key)[1])


def _load_run(
    folder: Path, load_weights: bool, key: jax.Array | None, place: str, custom: bool
) -> Pretrained:
    """A workdir at its newest checkpoint, or one checkpoint of it."""
    one = _is_checkpoint(folder)
    workdir = absolute(folder).parent.parent if one else folder
    steps = saved_steps(workdir / "checkpoints")
    step = int(absolute(folder).name) if one else max(steps, default=None)
    if step not in steps:
        raise CheckpointError(f"{folder} holds no checkpoint; name another, or train with train.py")
    tokenizer = saved.saved_tokenizer(workdir)
    config, function = _run_config(workdir, tokenizer)
    if function and not custom:
        raise CheckpointError(
            f"{place} has a model of its own, model.custom {function!r}, which no other format can "
            "hold and DistilBERT cannot start from; eval.py and fill-mask read it, training goes "
            "on in its workdir"
        )
    if load_weights:
        like = make_network(config, function).params
        params = jax.tree.map(np.asarray, saved.restore_params(like, workdir, step))
    else:
        params = _random(config, key)[1]
    found = (config, params, tokenizer)
    return Pretrained("run", workdir, str(step), *found, place=place, custom=function)


def _run_config(workdir: Path, tokenizer: Tokenizer) -> tuple[models.DistilBertConfig, str]:
    """The sizes in the config of a run, and its `model.custom`."""
    fields = read_json(workdir / "config.json")
    try:
        sizes = model_fields(from_flat(fields))
        config = models.DistilBertConfig(tokenizer.vocabulary_size, **sizes)
        return config, fields.get("model.custom", "")
    except (AttributeError, TypeError, ValueError) as error:
        raise CheckpointError(
            f"{workdir / 'config.json'} does not describe a model that we have "
            f"({shown(str(error))}); put the file of this run back"
        ) from error


def _has_tokenizer(folder: Path) -> bool:
    return any((folder / name).is_file() for name in TOKENIZERS)


def _vocabulary_notes(
    tokenizer: Tokenizer | None, config: models.DistilBertConfig, folder: Path
) -> tuple[str, ...]:
    """A note on embeddings that no text can reach: often they fill up a round number."""
    ids, rows = tokenizer and tokenizer.vocabulary_size, config.vocabulary_size
    if not tokenizer or ids == rows:
        return ()
    if ids > rows:
        raise CheckpointError(
            f"the tokenizer in {folder} has {ids} ids, its model {rows}; one of them belongs to "
            "another checkpoint"
        )
    return (f"The tokenizer has {ids} ids, the model {rows} embeddings: the last are unused.",)
