"""A config.json or a config file may hold values of any type; each is named at once."""

import pytest

from mlm.config import flat, from_flat, load_config
from mlm.errors import ConfigError
from mlm.rules import validate

FIELDS = flat(load_config("configs/default.py"))


def problems(**changed):
    fields = FIELDS | {name.replace("__", "."): value for name, value in changed.items()}
    with pytest.raises(ConfigError) as caught:
        validate(from_flat(fields))
    return list(caught.value.problems)


@pytest.mark.parametrize(
    ("name", "value", "kind"),
    [
        ("data.corpus", None, "a text"),
        ("data.corpus", "a\0b", "a text without NUL"),
        ("data.document", ["line"], "a text"),
        ("train.batch_size", 1.5, "an integer"),
        ("train.batch_size", True, "an integer"),
        ("model.dropout", "0.1", "a number"),
        ("masking.final_rate", "0.1", "a number"),
        ("deterministic", 1, "True or False"),
        ("eval.fill", "a [MASK]", "a tuple"),
        ("eval.masks", [["token@0.15"]], "a tuple"),
    ],
)
def test_a_value_of_another_type(name, value, kind):
    [line] = problems(**{name.replace(".", "__"): value})
    assert line.startswith(f"{name} is ") and f"it must be {kind}" in line


def test_all_are_told_at_once():
    assert len(problems(data__corpus=3, model__layers=None, log__tensorboard="no")) == 3


def test_optional_fields_may_be_none_and_lists_are_tuples_in_json():
    validate(from_flat(FIELDS | {"masking.final_rate": None, "masking.ngram": [1, 3]}))
