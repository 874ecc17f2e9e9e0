"""A Hugging Face `config.json` and our `DistilBertConfig`, in both directions.

A setting that changes the numbers is honoured or refused by name. One that the file lacks gets the
default that `DistilBertConfig` and `BertConfig` of transformers give it, the same in 4.57 and 5.24.
"""

import dataclasses
from collections.abc import Mapping
from pathlib import Path

from mlm.conversion.huggingface_names import BERT, DISTILBERT, Family
from mlm.conversion.loaded import listed, read_json, shown
from mlm.errors import CheckpointError
from mlm.models.distilbert import DistilBertConfig


@dataclasses.dataclass(frozen=True)
class Kind:
    """How one `model_type` describes what our config does."""

    family: Family
    settings: Mapping[str, tuple[str, int | float]]  # ours to theirs, with transformers' default
    fixed: Mapping[str, tuple]  # theirs that ours has one way only: accepted values, default first
    aliases: Mapping[str, str] = dataclasses.field(default_factory=dict)


# Exact GELU has two names in transformers' ACT2FN; gelu_new, gelu_fast and others approximate it.
EXACT_GELU = ("gelu", "gelu_python")

# What transformers lets any model do to its weights or its code.
FIXED = {
    "tie_word_embeddings": (True,),
    "pruned_heads": ({}, None),
    "quantization_config": (None,),
    "auto_map": (None, {}),
}

KINDS = {
    "distilbert": Kind(
        family=DISTILBERT,
        settings={
            "vocabulary_size": ("vocab_size", 30522),
            "layers": ("n_layers", 6),
            "width": ("dim", 768),
            "heads": ("n_heads", 12),
            "hidden": ("hidden_dim", 3072),
            "max_length": ("max_position_embeddings", 512),
            "dropout": ("dropout", 0.1),
            "attention_dropout": ("attention_dropout", 0.1),
            "initializer_stddev": ("initializer_range", 0.02),
        },
        fixed={"activation": EXACT_GELU, **FIXED},
        # transformers' attribute_map: config.json may hold these names instead.
        aliases={
            "n_layers": "num_hidden_layers",
            "dim": "hidden_size",
            "n_heads": "num_attention_heads",
        },
    ),
    "bert": Kind(
        family=BERT,
        settings={
            "vocabulary_size": ("vocab_size", 30522),
            "layers": ("num_hidden_layers", 12),
            "width": ("hidden_size", 768),
            "heads": ("num_attention_heads", 12),
            "hidden": ("intermediate_size", 3072),
            "max_length": ("max_position_embeddings", 512),
            "dropout": ("hidden_dropout_prob", 0.1),
            "attention_dropout": ("attention_probs_dropout_prob", 0.1),
            "epsilon": ("layer_norm_eps", 1e-12),
            "head_epsilon": ("layer_norm_eps", 1e-12),
            "initializer_stddev": ("initializer_range", 0.02),
        },
        fixed={
            "hidden_act": EXACT_GELU,
            "position_embedding_type": ("absolute", None),
            "is_decoder": (False,),
            "add_cross_attention": (False,),
            **FIXED,
        },
    ),
}
TOKEN_TYPES = ("type_vocab_size", 2)  # BERT's, and its default


@dataclasses.dataclass(frozen=True)
class Described:
    """What a `config.json` says: the family of tensor names, our config, and remarks."""

    family: Family
    config: DistilBertConfig
    token_types: int  # rows of the token type table; 0 where the family has none
    notes: tuple[str, ...]


def read_settings(path: Path) -> Described:
    """The model that a `config.json` describes.

    Raises:
      CheckpointError: when the file is missing or not JSON, when it is of another `model_type`, or
        when it holds settings that our model does not have; all of them are named.
    """
    theirs = read_json(path)
    kind = _kind(theirs, path)
    wanted = dict(kind.settings.values())
    if kind.family.token_types:
        wanted |= dict([TOKEN_TYPES])
    values, problems = _values(theirs, wanted, kind.aliases)
    problems += _unlike(theirs, kind.fixed)
    if problems:
        raise CheckpointError(f"{path} does not describe a model we have: {listed(problems)}")
    try:
        config = DistilBertConfig(**{o: values[name] for o, (name, _) in kind.settings.items()})
    except ValueError as error:
        raise CheckpointError(f"{path} does not describe a model we have: {error}") from error
    token_types = values.get(TOKEN_TYPES[0], 0)
    return Described(kind.family, config, token_types, _notes(theirs, kind, values))


def write_settings(config: DistilBertConfig, pad_token_id: int | None) -> dict:
    """The `config.json` of a `DistilBertForMaskedLM`, as transformers 4 and 5 read it."""
    settings = KINDS["distilbert"].settings
    return {name: getattr(config, ours) for ours, (name, _) in settings.items()} | {
        "activation": "gelu",
        "architectures": ["DistilBertForMaskedLM"],
        "initializer_range": float(config.initializer_stddev),  # 5 refuses an int
        "model_type": "distilbert",
        "pad_token_id": pad_token_id,
        "sinusoidal_pos_embds": False,
        "tie_word_embeddings": True,
        "torch_dtype": "float32",  # 5 calls it dtype and reads this as well
    }


def _kind(theirs: dict, path: Path) -> Kind:
    name = theirs.get("model_type")
    if not isinstance(name, str) or name not in KINDS:
        raise CheckpointError(
            f"{path} has model_type={shown(repr(name))}; {' and '.join(map(repr, KINDS))} can be "
            "loaded (if it is one of them, write that into the file)"
        )
    return KINDS[name]


def _values(theirs: dict, wanted: dict, aliases: Mapping[str, str]) -> tuple[dict, list[str]]:
    """Every wanted setting, from the file or by default, and what is wrong with the file's."""
    values, problems = {}, []
    for name, default in wanted.items():
        given = [theirs[key] for key in (name, aliases.get(name)) if key in theirs]
        values[name] = value = given[0] if given else default
        kind = "an integer" if isinstance(default, int) else "a number"
        if type(value) is not int and (kind == "an integer" or type(value) is not float):
            problems.append(f"{name}={shown(repr(value))} is not {kind}")
        elif given[0:1] != given[-1:]:
            other = f"{aliases[name]}={shown(repr(given[-1]))}"
            problems.append(f"{name}={value} contradicts {other}")
    return values, problems


def _unlike(theirs: dict, fixed: Mapping[str, tuple]) -> list[str]:
    return [
        f"{name}={shown(repr(theirs[name]))} where only {accepted[0]!r} is implemented"
        for name, accepted in fixed.items()
        if name in theirs and theirs[name] not in accepted
    ]


def _notes(theirs: dict, kind: Kind, values: dict) -> tuple[str, ...]:
    notes = []
    absent = [n for n in values if n not in theirs and kind.aliases.get(n) not in theirs]
    if absent:
        taken = ", ".join(f"{name}={values[name]}" for name in absent)
        notes.append(f"config.json lacks settings, which get transformers' defaults: {taken}.")
    if theirs.get("sinusoidal_pos_embds") and kind.family is DISTILBERT:
        notes.append(
            "The position table is sinusoidal and fixed in the original (sinusoidal_pos_embds); "
            "here it is loaded as stored, and training would change it."
        )
    if kind.family is BERT and values["hidden_dropout_prob"]:
        notes.append(
            f"BERT's dropout of {values['hidden_dropout_prob']} on the attention output has no "
            "counterpart in this model: training differs there, inference does not."
        )
    return tuple(notes)
