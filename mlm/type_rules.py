"""What kind of value each field of a config holds; a part of `mlm.rules`, without jax.

Overrides get the type of their field, so this is for what a config file or a config.json says.
"""

from collections.abc import Iterable, Mapping

from mlm.config import OPTIONAL, is_number

INTEGERS = (
    "seed data.length data.vocabulary_size data.tokenizer_sample data.overlap "
    "data.curriculum_visits masking.span_longest masking.stages masking.patterns masking.pmi_count "
    "masking.mask_selection_length model.layers model.width model.heads model.hidden "
    "model.max_length train.batch_size train.accumulation mesh.data mesh.fsdp mesh.tensor "
    "mesh.slices checkpoint.keep_last checkpoint.keep_best eval.length eval.batch_size "
    "eval.max_examples eval.seed train.max_nonfinite_in_a_row"
).split()
FLAGS = (
    "deterministic data.lowercase data.drop_duplicates masking.select_unknown log.tensorboard "
    "train.skip_spikes"
).split()
LISTS = ("data.new_tokens data.shares masking.ngram train.freeze eval.masks eval.fill").split()


def type_problems(
    fields: Mapping[str, object], *, texts: Iterable[str], numbers: Iterable[str]
) -> Iterable[str]:
    """A line for every field that holds another kind of value.

    Args:
      fields: all of the config by dotted name.
      texts: the fields that hold text.
      numbers: those that hold numbers, besides `INTEGERS` and `OPTIONAL`.
    """
    kinds = dict.fromkeys((*numbers, *OPTIONAL), ("a number", is_number))
    kinds |= dict.fromkeys(INTEGERS, ("an integer", lambda v: type(v) is int))
    kinds |= dict.fromkeys(FLAGS, ("True or False", lambda v: isinstance(v, bool)))
    kinds |= dict.fromkeys(LISTS, ("a tuple", _is_list))
    kinds |= dict.fromkeys(texts, ("a text without NUL", _is_text))
    for name, (kind, holds) in kinds.items():
        value = fields[name]
        if not holds(value) and not (value is None and name in OPTIONAL):
            yield f"{name} is {value!r:.60}, of type {type(value).__name__}; it must be {kind}"


def _is_text(value: object) -> bool:
    return isinstance(value, str) and "\0" not in value


def _is_list(value: object) -> bool:
    """What lists hold is shown, compared and counted, so it can be neither a list nor a dict."""
    return isinstance(value, (tuple, list)) and not any(
        isinstance(entry, (tuple, list, dict)) for entry in value
    )
