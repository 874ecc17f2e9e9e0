"""What the loaders of checkpoint folders share: their result, JSON, and refusals on one line."""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path

import jax

from mlm.errors import CheckpointError
from mlm.json_text import parse_json
from mlm.models.distilbert import DistilBertConfig
from mlm.models.masked_lm import Params

MOST_PROBLEMS = 10  # that one error names
LONGEST = 100  # characters of a name or value that somebody else's file brings into an error


@dataclasses.dataclass(frozen=True)
class Loaded:
    """A whole model: NumPy `float32` parameters in the nested dict that `create` gives."""

    config: DistilBertConfig
    params: Params
    notes: tuple[str, ...] = ()  # a sentence for each thing dropped, assumed or made fresh


def leaf_name(path: tuple) -> str:
    """Our name of a leaf, by its path in the tree: `backbone/layers/0/attention/query/kernel`."""
    return jax.tree_util.keystr(path, simple=True, separator="/")


def shown(text: str) -> str:
    """`text` as an error may hold it: on one line and not too long."""
    text = text if text.isprintable() else ascii(text)
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 3]}..."


def listed(problems: Sequence[str]) -> str:
    """All problems in one clause, or the first ten and how many there are beside them."""
    more = len(problems) - MOST_PROBLEMS
    return "; ".join(problems[:MOST_PROBLEMS]) + (f"; and {more} more" if more > 0 else "")


def read_json(path: Path) -> dict:
    """The object in a JSON file. Raises CheckpointError when there is no file or no object."""
    if not path.is_file():
        raise CheckpointError(f"{path.parent} has no {path.name}; it must be a folder with a model")
    try:
        content = parse_json(path.read_bytes())
    except (ValueError, OSError) as error:
        raise CheckpointError(
            f"{path} is not JSON ({shown(str(error))}); copy or download it again"
        ) from error
    if not isinstance(content, dict):
        raise CheckpointError(f"{path} holds no JSON object; copy or download it again")
    return content


def refuse_misfits(
    source: object,
    tensors: Mapping,
    expected: Mapping[str, tuple[int, ...]],
    dtypes: Sequence[str] = ("float32",),
) -> None:
    """Raises CheckpointError unless `tensors` have the names, shapes and dtypes of a whole model.

    `tensors` is anything by name that has a `shape` and a `dtype`; `expected` holds the shapes.
    """
    both = {name: tensors[name] for name in expected if name in tensors}
    problems = [f"missing {name}" for name in expected if name not in tensors]
    problems += [f"unexpected {shown(name)}" for name in tensors if name not in expected]
    problems += [
        f"{name} has shape {tensor.shape}, expected {expected[name]}"
        for name, tensor in both.items()
        if tensor.shape != expected[name]
    ]
    problems += [
        f"{name} has dtype {tensor.dtype}, expected {dtypes[0]}"
        for name, tensor in both.items()
        if tensor.dtype not in dtypes
    ]
    if problems:
        raise CheckpointError(
            f"{source} must hold the tensors that its config describes and no others; "
            f"{len(problems)} do not fit: {listed(problems)}"
        )
