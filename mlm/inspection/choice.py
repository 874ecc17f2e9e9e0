"""Which strategies are looked at: the config's own first, then plain ones to compare it with."""

import dataclasses
from collections.abc import Sequence

from ml_collections import ConfigDict

from mlm.config import mask_name, read_mask_name
from mlm.errors import ConfigError
from mlm.masking_rules import UNITS, choose

COMPARED = ("token", "word", "span", "ngram", "pmi")  # and 'external', where it is configured
# What is plain: everything selected evenly at one rate, and BERT's split. What a unit is and how
# it fits follows the config.
PLAIN = {
    "weights": "uniform",
    "schedule": "constant",
    "final_rate": None,
    "final_mask_token_rate": None,
    "final_random_token_rate": None,
    "lowest_rate": None,
    "prediction_rate": None,
    "mask_selection_length": None,
    "count": "stochastic",
    "mask_token_rate": 0.8,
    "random_token_rate": 0.1,
    "random_ids": "selectable",
    "patterns": 0,
}


@dataclasses.dataclass(frozen=True, eq=False)
class Choice:
    """A strategy to look at.

    Attributes:
      name: 'word@0.15'; that of the config's own has 'config' in front of it.
      config: whose section `masking` it is.
      asked: the user named it, so it is an error if it cannot be had.
    """

    name: str
    config: ConfigDict
    asked: bool = True

    @property
    def unit(self) -> str:
        return self.config.masking.unit


def choose_strategies(config: ConfigDict, rate: float, masks: Sequence[str] = ()) -> list[Choice]:
    """The config's strategy, then those of `masks`, or all that there are.

    A plain one that is the config's own does not stand there a second time.

    Args:
      rate: that of the config at step 0, and of all plain ones that name no other.
      masks: 'word' or 'word@0.3'.

    Raises:
      ConfigError: an unknown unit (the message names the closest one) or a wrong rate.
    """
    wanted = [_read(name, rate) for name in masks]
    if not masks:
        units = COMPARED + ("external",) * bool(config.masking.units)
        wanted = [(unit, rate) for unit in units]
    choices = [Choice(f"config {mask_name(config.masking.unit, rate)}", config)]
    for unit, at in dict.fromkeys(wanted):
        plain = plain_config(config, unit, at)
        if plain.masking.to_dict() != config.masking.to_dict():
            choices.append(Choice(mask_name(unit, at), plain, asked=bool(masks)))
    return choices


def plain_config(config: ConfigDict, unit: str, rate: float) -> ConfigDict:
    """A copy that masks this unit at this rate, see `PLAIN`."""
    copy = config.copy_and_resolve_references()
    copy.masking.update({**PLAIN, "unit": unit, "rate": rate})
    return copy.lock()


def _read(name: str, rate: float) -> tuple[str, float]:
    unit, at = read_mask_name(name) if "@" in name else (name, rate)
    if unit not in UNITS:
        raise ConfigError(f"--masks has {name!r} of unknown unit {unit!r}; {choose(unit, UNITS)}")
    if not 0 <= at <= 1:
        raise ConfigError(
            f"--masks has {name!r}; write a unit, or unit@rate with a rate from 0 to 1, such as "
            "word@0.3"
        )
    return unit, at
