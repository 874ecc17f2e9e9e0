"""A model in a folder of our own kind: every setting and every bit, and a checksum.

`config.json` holds the architecture under our names, `model.safetensors` the parameters by their
paths. Hugging Face's format cannot hold a head epsilon of its own, KerasHub's no other one.
"""

import dataclasses
import hashlib
import json
from pathlib import Path

import jax
import numpy as np

from mlm.conversion.loaded import Loaded, leaf_name, read_json, refuse_misfits, shown
from mlm.conversion.tensor_files import SINGLE, find_tensors, write_tensors
from mlm.errors import CheckpointError, OutputError
from mlm.models.distilbert import MACHINE, DistilBertConfig
from mlm.models.masked_lm import Params, create_abstract

VERSION = 1
MARK = "mlm_version"  # by which such a config.json is known


def save_own(directory: str | Path, config: DistilBertConfig, params: Params) -> None:
    """Writes `config.json` and `model.safetensors` into an existing folder.

    Raises OutputError when they cannot be written.
    """
    directory = Path(directory)
    write_tensors(directory / SINGLE, by_path(params))
    facts = {MARK: VERSION, "sha256": _sha256(directory / SINGLE)}
    model = {n: v for n, v in dataclasses.asdict(config).items() if n not in MACHINE}
    text = json.dumps(facts | {"model": model}, indent=2) + "\n"
    try:
        (directory / "config.json").write_text(text)
    except OSError as error:
        raise OutputError(
            f"{directory}/config.json cannot be written ({error.strerror})"
        ) from error


def load_own(directory: str | Path, *, key: jax.Array | None = None, cast: bool = False) -> Loaded:
    """What `save_own` wrote, bit for bit; `key` and `cast` are never needed.

    Raises CheckpointError when a file is missing, damaged or does not fit the other.
    """
    directory = Path(directory)
    config = read_own_config(directory)
    tensors = find_tensors(directory)
    abstract = create_abstract(config)[1]
    refuse_misfits(directory, tensors, {n: leaf.shape for n, leaf in by_path(abstract).items()})
    found, expected = _sha256(directory / SINGLE), read_json(directory / "config.json")["sha256"]
    if found != expected:
        raise CheckpointError(
            f"{directory / SINGLE} is damaged (sha256 {found[:12]}, config.json says "
            f"{str(expected)[:12]}); copy it again"
        )
    return Loaded(
        config, jax.tree.map_with_path(lambda at, _: tensors[leaf_name(at)].read(), abstract)
    )


def read_own_config(directory: str | Path) -> DistilBertConfig:
    """The architecture in a folder of ours; raises CheckpointError for one that we do not have."""
    file = Path(directory) / "config.json"
    facts = read_json(file)
    if facts.get(MARK) != VERSION or "sha256" not in facts:
        raise CheckpointError(
            f"{file} has {MARK} {shown(str(facts.get(MARK)))}, this version of mlm reads {VERSION}"
        )
    try:
        return DistilBertConfig(**facts["model"])
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError(
            f"{file} does not describe a model that we have: {shown(str(error))}; copy it again"
        ) from error


def by_path(params: Params) -> dict[str, np.ndarray]:
    """The leaves by name: `backbone/layers/0/attention/query/kernel`."""
    return {leaf_name(path): leaf for path, leaf in jax.tree.leaves_with_path(params)}


def _sha256(file: Path) -> str:
    with open(file, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
