"""Which strategies stand side by side."""

import pytest

from mlm.config import apply_overrides, load_config
from mlm.errors import ConfigError
from mlm.inspection.choice import choose_strategies


def config_with(**masking):
    config = load_config("configs/default.py")
    apply_overrides(config, {f"masking.{name}": value for name, value in masking.items()})
    return config


def names(config, rate=0.15, masks=()):
    return [choice.name for choice in choose_strategies(config, rate, masks)]


def test_the_configs_own_comes_first_and_not_a_second_time():
    plain = ["word@0.15", "span@0.15", "ngram@0.15", "pmi@0.15"]
    assert names(config_with()) == ["config token@0.15", *plain]
    assert names(config_with(weights="frequency")) == [
        "config token@0.15",
        "token@0.15",
        *plain,
    ]


def test_external_units_are_there_if_they_are_configured():
    config = config_with(unit="external", units="units")
    assert names(config)[0] == "config external@0.15" and "external@0.15" not in names(config)
    assert "external@0.15" in names(config_with(unit="external", units="units", patterns=3))
    assert not any(name.startswith("external") for name in names(config_with()))


def test_masks_name_units_and_rates():
    found = choose_strategies(config_with(), 0.15, ["word@0.3", "span", "word@0.3"])
    assert [choice.name for choice in found] == ["config token@0.15", "word@0.3", "span@0.15"]
    assert [choice.config.masking.rate for choice in found] == [0.15, 0.3, 0.15]
    assert [choice.unit for choice in found] == ["token", "word", "span"]


def test_plain_strategies_keep_what_a_unit_is_and_nothing_else():
    config = config_with(span_p=0.5, fit="truncate", weights="loss", rate=0.4, lowest_rate=0.1)
    [_, plain] = choose_strategies(config, 0.4, ["span"])
    masking = plain.config.masking
    assert (masking.span_p, masking.fit, masking.unit) == (0.5, "truncate", "span")
    assert (masking.weights, masking.lowest_rate, masking.rate) == ("uniform", None, 0.4)
    assert (config.masking.unit, config.masking.weights) == ("token", "loss")


@pytest.mark.parametrize(
    "name, words",
    [
        ("wrod", "unknown unit 'wrod'; did you mean 'word'?"),
        ("wrod@0.2", "unknown unit 'wrod'; did you mean 'word'?"),
        ("word@1.2", "'word@1.2'; write a unit, or unit@rate"),
        ("word@x", "'word@x'; write a unit, or unit@rate"),
    ],
)
def test_refuses(name, words):
    with pytest.raises(ConfigError, match=r"^--masks has ") as caught:
        choose_strategies(config_with(), 0.15, [name])
    assert words in str(caught.value)
