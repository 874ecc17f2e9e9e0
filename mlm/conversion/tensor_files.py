"""The safetensors files of a folder: what they hold by name, before any number is read.

The safetensors library refuses by itself what is cut short, has bytes to spare, an overlap, a hole
or an offset outside, a shape that does not fit, a type it does not know, and a header that is no
JSON, longer than the file or above 100 MB. Here it gets the file's name in front, on one line. It
knows no checksum: changed bytes inside a tensor load. Nothing is ever unpickled.
"""

import contextlib
import dataclasses
import json
import shlex
from collections.abc import Iterator, Mapping
from pathlib import Path

import ml_dtypes  # noqa: F401  (tells NumPy of bfloat16, for which safetensors asks by name)
import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from mlm.conversion.loaded import listed, read_json, shown
from mlm.errors import CheckpointError, OutputError

SINGLE = "model.safetensors"
INDEX = "model.safetensors.index.json"
PICKLES = ("pytorch_model.bin", "pytorch_model.bin.index.json")
FLOATS = {"F32": "float32", "F16": "float16", "BF16": "bfloat16", "F64": "float64"}


@dataclasses.dataclass(frozen=True)
class StoredTensor:
    """Where a tensor is and what its file says of it."""

    file: Path
    name: str
    shape: tuple[int, ...]
    dtype: str  # as NumPy calls it if it is a float that can be read, otherwise as safetensors does

    def read(self) -> np.ndarray:
        """The numbers: `float32[*shape]`. Raises CheckpointError when they do not fit in that."""
        with _opened(self.file) as file, np.errstate(over="raise"):
            try:
                return file.get_tensor(self.name).astype(np.float32, copy=False)
            except FloatingPointError as error:
                raise CheckpointError(
                    f"{shown(self.name)} in {self.file} has values that float32 cannot hold"
                ) from error


def find_tensors(directory: Path) -> dict[str, StoredTensor]:
    """The tensors by name in `model.safetensors`, or in the shards that an index names.

    Raises:
      CheckpointError: when there is neither, when a file is damaged, or when the index and its
        shards do not agree or lie outside the folder.
    """
    if (directory / SINGLE).is_file():
        return _tensors_in(directory / SINGLE)
    if (directory / INDEX).is_file():
        return _sharded(directory)
    if any((directory / name).is_file() for name in PICKLES):
        raise CheckpointError(_conversion(directory))
    raise CheckpointError(f"{directory} has no {SINGLE}; write it with save_pretrained")


def write_tensors(path: Path, tensors: Mapping[str, np.ndarray]) -> None:
    """Writes a file that transformers loads: the same bytes for the same tensors in any order.

    Raises OutputError when it cannot be written.
    """
    # A view that is not contiguous would be written as it lies in memory, without a word (0.8.0).
    whole = {name: np.ascontiguousarray(tensors[name]) for name in sorted(tensors)}
    try:
        path.touch()
        mode = path.stat().st_mode  # the user's; 0.8.0 makes files that nobody else may read
        save_file(whole, path, metadata={"format": "pt"})
        path.chmod(mode)
    except (SafetensorError, OSError) as error:
        raise OutputError(
            f"{path} cannot be written ({shown(str(error))}); free some space or choose another "
            "folder"
        ) from error


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[safe_open]:
    try:
        with safe_open(path, framework="np") as file:
            yield file
    except (SafetensorError, OSError) as error:
        raise CheckpointError(
            f"{path} cannot be read as safetensors ({shown(str(error))}); copy or download it again"
        ) from error


def _tensors_in(path: Path) -> dict[str, StoredTensor]:
    tensors = {}
    with _opened(path) as file:
        for name in sorted(file.keys()):
            header = file.get_slice(name)
            dtype = header.get_dtype()
            shape = tuple(header.get_shape())
            tensors[name] = StoredTensor(path, name, shape, FLOATS.get(dtype, dtype))
    return tensors


def _sharded(directory: Path) -> dict[str, StoredTensor]:
    index = directory / INDEX
    shard_of = read_json(index).get("weight_map")
    if not isinstance(shard_of, dict) or not all(isinstance(v, str) for v in shard_of.values()):
        raise CheckpointError(f"{index} has no weight_map of tensor names and files")
    files = {shard: _inside(directory, shard) for shard in sorted(set(shard_of.values()))}
    tensors, problems = {}, []
    for shard, path in files.items():
        held, said = _tensors_in(path), {name for name in shard_of if shard_of[name] == shard}
        problems += [f"{shown(name)} is not in {shard}" for name in sorted(said - held.keys())]
        problems += [f"{shard} holds {shown(name)} as well" for name in sorted(held.keys() - said)]
        tensors |= held
    if problems:
        problem = f"does not fit its files ({len(problems)}): {listed(problems)}"
        raise CheckpointError(f"{index} {problem}; copy or download all of them again")
    return tensors


def _inside(directory: Path, shard: str) -> Path:
    """The file of that name in the folder. An index comes from elsewhere: it may say anything."""
    index, path = directory / INDEX, directory / shard
    if Path(shard).is_absolute() or ".." in Path(shard).parts:
        raise CheckpointError(
            f"{index} names {shown(shard)}, which is outside its folder; do not use it"
        )
    if not _is_file(path):
        raise CheckpointError(f"{index} names {shown(shard)}, which is not there; add that file")
    if not any(path.resolve().is_relative_to(root) for root in _roots(directory.resolve())):
        raise CheckpointError(
            f"{index} names {shown(shard)}, a link that leads out of its folder; copy the file"
        )
    return path


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # a name that is too long
        return False


def _roots(directory: Path) -> list[Path]:
    """Where shards may lie: the folder, and for a snapshot in huggingface_hub's cache its blobs.

    There `snapshots/REVISION/` consists of links into `blobs/`, which is beside `snapshots/`.
    """
    in_cache = directory.parent.name == "snapshots"
    return [directory] + [directory.parent.parent / "blobs"] * in_cache


def _conversion(directory: Path) -> str:
    name = next(name for name in PICKLES if (directory / name).is_file())
    architectures = read_json(directory / "config.json").get("architectures")
    known = isinstance(architectures, list) and [a for a in architectures if _is_class(a)]
    model = known[0] if known else "AutoModelForMaskedLM"
    code = (
        f"from transformers import {model} as M; d = {json.dumps(str(directory))}; "
        "M.from_pretrained(d).save_pretrained(d, safe_serialization=True)"
    )
    return (
        f"{directory} has {name} but no {SINGLE}, and pickles are never opened here; if you trust "
        f"it, convert it where torch and transformers are: python -c {shlex.quote(code)}"
    )


def _is_class(name: object) -> bool:
    return isinstance(name, str) and name.isascii() and name.isidentifier()
