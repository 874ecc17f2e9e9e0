"""Our model as a Hugging Face checkpoint: the two files that hold a `DistilBertForMaskedLM`."""

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from mlm.conversion.huggingface_names import shapes, to_huggingface
from mlm.conversion.huggingface_settings import write_settings
from mlm.conversion.loaded import refuse_misfits
from mlm.conversion.tensor_files import SINGLE, write_tensors
from mlm.errors import CheckpointError, OutputError
from mlm.models.distilbert import DistilBertConfig
from mlm.models.masked_lm import Params, create_abstract

EPSILON = 1e-12  # of every layer norm of DistilBERT in transformers, whatever config.json says


def save_huggingface(
    directory: str | Path,
    config: DistilBertConfig,
    params: Params,
    *,
    pad_token_id: int | None,
    extra_config: Mapping[str, object] | None = None,
    allow_epsilon_change: bool = False,
) -> tuple[str, ...]:
    """Writes `config.json` and `model.safetensors`, and gives notes on what they cannot say.

    transformers 4 and 5 load them as a `DistilBertForMaskedLM`. Weights are float32, the tied
    output projection is not stored, and the same model gives the same bytes.

    Args:
      directory: a folder that exists.
      params: as `create` and `load_huggingface` give them; JAX or NumPy arrays.
      pad_token_id: the tokenizer's; None when there is none.
      extra_config: further entries of `config.json`, none that describes the model.
      allow_epsilon_change: write layer norms whose epsilon transformers cannot keep.

    Raises:
      CheckpointError: when the format cannot hold the model, or `params` are not those of `config`.
      OutputError: when a file cannot be written.
    """
    notes = _changes(config, allow_epsilon_change)
    settings = _settings(config, pad_token_id, extra_config or {})
    tensors = _tensors(config, params)
    path = Path(directory) / "config.json"
    try:
        path.write_text(json.dumps(settings, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    except OSError as error:
        raise OutputError(f"{path} cannot be written ({error.strerror})") from error
    write_tensors(path.with_name(SINGLE), tensors)
    return notes


def _tensors(config: DistilBertConfig, params: Params) -> dict[str, np.ndarray]:
    try:
        tensors = {name: np.asarray(tensor) for name, tensor in to_huggingface(params).items()}
    except KeyError as error:
        raise CheckpointError(
            f"params hold {error.args[0]}, which DistilBERT does not have; leave that out"
        ) from error
    refuse_misfits("params", tensors, shapes(create_abstract(config)[1]))
    return tensors


def _changes(config: DistilBertConfig, allowed: bool) -> tuple[str, ...]:
    names = [n for n in ("epsilon", "head_epsilon") if getattr(config, n) != EPSILON]
    if not names:
        return ()
    here = " and ".join(f"{name}={getattr(config, name)}" for name in names)
    change = f"layer norms with {here} get {EPSILON}, which transformers has fixed for DistilBERT"
    if not allowed:
        raise CheckpointError(
            f"{change}: logits would change, by how much at most is unknown; to write it all the "
            "same pass allow_epsilon_change=True (convert: --allow_epsilon_change), and compare "
            "predictions"
        )
    return (f"Written otherwise than it is: {change}; the logits differ.",)


def _settings(config: DistilBertConfig, pad_token_id: int | None, extra: Mapping) -> dict:
    settings = write_settings(config, pad_token_id)
    clash = sorted(settings.keys() & extra.keys())
    if clash:
        raise CheckpointError(
            f"extra_config holds {', '.join(clash)}, which the model decides; leave that out"
        )
    if pad_token_id is not None and not 0 <= pad_token_id < config.vocabulary_size:
        raise CheckpointError(
            f"pad_token_id={pad_token_id} is outside the vocabulary of {config.vocabulary_size}; "
            "give the tokenizer's, or None"
        )
    return {**settings, **extra}
