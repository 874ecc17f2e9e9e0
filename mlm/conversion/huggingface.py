"""Public checkpoints: a Hugging Face folder in, our config and parameters out.

`settings.py` understands config.json, `tensor_files.py` finds the tensors and `names.py` knows
whose is which. Every tensor must find its place and every place its tensor, or be named in the
notes: a checkpoint that loads in part would train from random numbers without a word.
"""

import dataclasses
from collections import Counter
from pathlib import Path

import jax
import numpy as np

from mlm.conversion.huggingface_names import Family, modern, shapes
from mlm.conversion.huggingface_settings import Described, read_settings
from mlm.conversion.loaded import Loaded, refuse_misfits, shown
from mlm.conversion.tensor_files import FLOATS, StoredTensor, find_tensors
from mlm.errors import CheckpointError
from mlm.models.distilbert import DistilBertConfig
from mlm.models.masked_lm import Params, create_abstract, create_head


def load_huggingface(
    directory: str | Path, *, key: jax.Array | None = None, cast: bool = False
) -> Loaded:
    """The config, the parameters and notes on a DistilBERT or BERT in Hugging Face's format.

    Takes the masked language models of both with their heads (`BertForPreTraining` as well), and
    encoders that come alone or with another head, to which `key` gives a fresh MLM head. BERT's
    type-0 embedding is added to the position table, which makes it our architecture; its pooler
    and what belongs to other tasks is dropped and named in the notes.

    Args:
      directory: holds `config.json` and `model.safetensors`, or shards and their index.
      key: of the weights of a fresh head.
      cast: accept weights in float16, bfloat16 or float64, and give them as float32.

    Raises:
      CheckpointError: when a file is missing, damaged or a pickle, when a setting is one that our
        model does not have, when tensors are missing, unexpected or of another shape or dtype,
        when an output projection is not the word embedding, and when there is no head and no key.
    """
    directory = Path(directory)
    described = read_settings(directory / "config.json")
    contents = _sorted(find_tensors(directory), described.family)
    abstract = _needed(described.config, contents, directory)
    expected = shapes(abstract, contents.family) | _type_table(described, contents.family)
    refuse_misfits(directory, contents.weights, expected, tuple(FLOATS.values()))
    _refuse_untied(contents, directory)
    notes = [*described.notes, *_notes(contents), *_casts(contents, cast, directory)]
    head = {} if contents.has_head else _fresh_head(described.config, key, directory)
    params = jax.tree.map_with_path(lambda path, _: _read(path, contents), abstract)
    _add_type(params, contents)
    return Loaded(described.config, params | head, tuple(notes))


@dataclasses.dataclass(frozen=True)
class _Contents:
    """A checkpoint's tensors by what they are for, under the names that transformers has today."""

    family: Family
    has_head: bool
    weights: dict[str, StoredTensor]
    copies: dict[str, StoredTensor]  # of tensors that they are tied to
    extras: dict[str, StoredTensor]  # for which our model has no place


def _sorted(tensors: dict[str, StoredTensor], family: Family) -> _Contents:
    if not any(name.startswith(family.prefix) for name in tensors):
        family = family.bare()
    weights, copies, extras = {}, {}, {}
    for stored, tensor in tensors.items():
        # Under both names, the old one stays what it is: one too many.
        name = stored if modern(stored) in tensors else modern(stored)
        if name in family.tied:
            copies[name] = tensor
        elif family.extra(name):
            extras[name] = tensor
        elif name not in family.buffers:
            weights[name] = tensor
    return _Contents(family, any(map(family.in_head, tensors)), weights, copies, extras)


def _needed(config: DistilBertConfig, contents: _Contents, source: Path) -> Params:
    """The parameters that the checkpoint must give, as shapes in our tree."""
    if config.layers > len(contents.weights):  # before a model of that many layers is thought up
        raise CheckpointError(
            f"{source} has {len(contents.weights)} tensors for the {config.layers} layers that its "
            "config.json describes; copy or download it again"
        )
    params = create_abstract(config)[1]
    return params if contents.has_head else {"backbone": params["backbone"]}


def _type_table(described: Described, family: Family) -> dict[str, tuple[int, ...]]:
    if family.token_types is None:
        return {}
    return {family.token_types: (described.token_types, described.config.width)}


def _refuse_untied(contents: _Contents, source: Path) -> None:
    """A stored copy of a tied tensor is accepted if it is one."""
    for name, copy in contents.copies.items():
        original = contents.family.tied[name]
        if not _equal(copy, contents.weights[original]):
            raise CheckpointError(
                f"{source} has a {name} that is not its {original}, to which our model ties it; "
                "save its encoder with AutoModel of transformers, and load that with a fresh head"
            )


def _equal(copy: StoredTensor, original: StoredTensor) -> bool:
    if copy.shape != original.shape or copy.dtype not in FLOATS.values():
        return False
    return np.array_equal(copy.read(), original.read())


def _casts(contents: _Contents, cast: bool, source: Path) -> list[str]:
    """A note when weights are not float32. Raises CheckpointError unless that may be."""
    counts = Counter(tensor.dtype for tensor in contents.weights.values())
    others = [f"{n} in {dtype}" for dtype, n in counts.items() if dtype != "float32"]
    if not others:
        return []
    if not cast:
        raise CheckpointError(
            f"{source} has tensors that are not float32 ({', '.join(others)}); "
            "pass cast=True to load them as float32 (convert: --cast)"
        )
    return [f"Tensors that are not float32 were cast to it: {', '.join(others)}."]


def _notes(contents: _Contents) -> list[str]:
    notes, family = [], contents.family
    for what in sorted(set(map(family.extra, contents.extras))):
        names = sorted(name for name in contents.extras if family.extra(name) == what)
        notes.append(f"Dropped {what}: {', '.join(map(shown, names))}.")
    if family.token_types:
        rows = contents.weights[family.token_types].shape[0]
        notes.append(
            "BERT's type-0 embedding was added to the position table"
            + (f", the other {rows - 1} dropped: all text is of type 0." if rows > 1 else ".")
        )
    if not contents.has_head:
        notes.append("The checkpoint has no MLM head: the head is fresh and knows nothing yet.")
    return notes


def _read(path: tuple, contents: _Contents) -> np.ndarray:
    name, transposed = contents.family.place(path)
    tensor = contents.weights[name].read()
    return np.ascontiguousarray(tensor.T) if transposed else tensor


def _add_type(params: Params, contents: _Contents) -> None:
    if contents.family.token_types:
        embeddings = params["backbone"]["embeddings"]
        table = contents.weights[contents.family.token_types].read()
        embeddings["position"] = embeddings["position"] + table[0]


def _fresh_head(config: DistilBertConfig, key: jax.Array | None, source: Path) -> Params:
    if key is None:
        raise CheckpointError(
            f"{source} has no MLM head; pass a key, such as jax.random.key(0), for a fresh one"
        )
    return {"head": jax.tree.map(np.asarray, create_head(config, key))}
