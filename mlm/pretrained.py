"""Pretrained weights by the name of a place (provisional: local folders only)."""

import dataclasses
from collections.abc import Callable
from pathlib import Path

import jax
import numpy as np

from mlm.config import from_flat, model_fields
from mlm.errors import CheckpointError
from mlm.models import DistilBertConfig, load_huggingface
from mlm.saved import restore_params, saved_tokenizer
from mlm.text import Tokenizer, load_tokenizer
from mlm.training.workdir import read_json, saved_steps


@dataclasses.dataclass(frozen=True)
class Pretrained:
    """A whole model from a place: weights, architecture, tokenizer and where they come from."""

    kind: str
    folder: Path
    revision: str | None
    config: DistilBertConfig
    params: dict
    tokenizer: Tokenizer
    notes: tuple[str, ...]


def load_pretrained(
    place: str, *, key=None, cast=False, local_files_only=False, say: Callable = print
) -> Pretrained:
    """The model in a workdir of train.py or a Hugging Face directory."""
    folder = Path(place)
    if steps := saved_steps(folder / "checkpoints"):
        tokenizer = saved_tokenizer(folder)
        stored = from_flat(read_json(folder / "config.json"))
        config = DistilBertConfig(tokenizer.vocabulary_size, **model_fields(stored))
        params = jax.tree.map(np.asarray, restore_params(config, folder, steps[-1]))
        return Pretrained("mlm", folder, f"step {steps[-1]}", config, params, tokenizer, ())
    if not (folder / "config.json").is_file():
        raise CheckpointError(f"{place} is neither a Hugging Face directory nor a workdir")
    config, params = load_huggingface(folder)
    return Pretrained("huggingface", folder, None, config, params, load_tokenizer(folder), ())
