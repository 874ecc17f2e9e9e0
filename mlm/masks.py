"""The masks of training and of evaluation, from a config and prepared text.

Whatever masks a batch as a run does, or evaluates one, uses what is made here: training, evaluation
and the commands that inspect, replay or check masks. B batch, L length.
"""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any

import jax
from ml_collections import ConfigDict

from mlm.config import evaluation_masks, mask_name
from mlm.errors import ConfigError
from mlm.masking import MaskingSpec, required_slots
from mlm.masking.schedules import Schedule, make_rate_schedule, own_rate_schedule
from mlm.masking_rules import ADAPTIVE, too_few_slots
from mlm.own import load_function, reason
from mlm.preparing import PreparedText
from mlm.strategy import (
    Strategy,
    make_random_cdf,
    make_starts,
    make_weights,
    mask_batch,
)
from mlm.text import Tokenizer
from mlm.training.adaptive import Adaptive
from mlm.training.step import Batch, MaskCounts

# mask(batch, step, table), see `mlm.training.step`
TrainingMask = Callable[[Batch, jax.Array, Any], tuple[Batch, MaskCounts]]
EvaluationMask = Callable[[Batch, jax.Array], tuple[Batch, MaskCounts]]


@dataclasses.dataclass(frozen=True, eq=False)
class Rates:
    """How much, at every step of a run.

    Attributes:
      selected: share of selectable tokens that are selected, in each copy of a row.
      mask, random: shares of the selected ones that become [MASK] or a random id.
      lowest: rows draw their rate between it and `selected`; None: all have that.
      predicted: share of selectable tokens that are predicted; None: all that are selected.
    """

    selected: Schedule
    mask: Schedule
    random: Schedule
    lowest: float | None = None
    predicted: float | None = None

    def mean(self, step: jax.Array | int) -> float:
        """The share that is selected at a step, on average over rows."""
        rate = float(self.selected(step))
        return rate if self.lowest is None else (rate + self.lowest) / 2

    def at(self, step: jax.Array) -> dict[str, Any]:
        """The rates of a step, as `mask_batch` names them."""
        return {
            "rate": self.selected(step),
            "lowest": self.lowest,
            "mask_token_rate": self.mask(step),
            "random_token_rate": self.random(step),
            "prediction_rate": self.predicted,
        }


def make_mask(
    config: ConfigDict, text: PreparedText, *, root: jax.Array, total_steps: int
) -> TrainingMask:
    """`mask(batch, step, table)` of training, for `make_train_step`.

    Args:
      root: the key of all training masks.
      total_steps: of the run, which schedules go through.

    Raises:
      ConfigError: a file or a function that the config names cannot be used.
      DataError: the tokenizer does not tell words.
    """
    rates = training_rates(config, total_steps=total_steps)
    strategy = training_strategy(config, text, rates)

    def mask(batch: Batch, step: jax.Array, table: Any) -> tuple[Batch, MaskCounts]:
        return mask_batch(batch, strategy, root=root, table=table, **rates.at(step))

    return mask


def training_rates(config: ConfigDict, *, total_steps: int) -> Rates:
    """The rates of `config.masking`; raises ConfigError for a schedule that cannot be used."""
    m = config.masking
    schedule = lambda start, final: _schedule(m, start, final, total_steps)  # noqa: E731
    copied = copies(config) > 1
    return Rates(
        selected=_own_schedule(config, total_steps) or schedule(m.rate, m.final_rate),
        mask=schedule(m.mask_token_rate, m.final_mask_token_rate),
        random=schedule(m.random_token_rate, m.final_random_token_rate),
        lowest=m.lowest_rate,
        predicted=None if copied else m.prediction_rate,
    )


def _own_schedule(config: ConfigDict, total_steps: int) -> Schedule | None:
    """The schedule of the user's own function, if there is one."""
    name, masking = config.masking.schedule, config.masking
    if ":" not in name:
        return None
    function = load_function("masking.schedule", name)
    name = f"masking.schedule {name}"
    try:
        schedule = own_rate_schedule(function, total_steps=total_steps, name=name)
    except Exception as error:  # of code that is not ours
        known = isinstance(error, ValueError) and str(error).startswith(name)
        raise ConfigError(str(error) if known else f"{name} failed: {reason(error)}") from error
    if schedule.largest == 0:
        raise ConfigError(f"{name} is 0 at every step, so that nothing would be predicted")
    for field in ("lowest_rate", "prediction_rate"):
        if (least := masking[field]) is not None and least > schedule.smallest:
            raise ConfigError(
                f"masking.{field} {least} is above the smallest rate of {name}, "
                f"{schedule.smallest:g}; lower it"
            )
    if problems := list(too_few_slots(config, schedule.largest, name=name)):
        raise ConfigError(*problems)
    return schedule


def _schedule(masking: ConfigDict, start: float, final: float | None, total: int) -> Schedule:
    return make_rate_schedule(
        "constant" if final is None else masking.schedule,
        start,
        final,
        total_steps=total,
        stages=masking.stages,
    )


def copies(config: ConfigDict) -> int:
    """How often a row stands in a batch: as often as predictions exceed corruptions."""
    rate, predicted = config.masking.rate, config.masking.prediction_rate
    if ":" in config.masking.schedule:  # in place of the rate; it never predicts more
        return 1
    return max(1, round(predicted / rate)) if predicted and rate else 1


def adaptive(config: ConfigDict, vocabulary_size: int) -> Adaptive | None:
    """What the train state averages for the weights; None where they do not adapt."""
    if config.masking.weights not in ADAPTIVE:
        return None
    decay = config.masking.weights_decay
    return Adaptive(config.masking.weights, vocabulary_size, decay)


def training_strategy(config: ConfigDict, text: PreparedText, rates: Rates) -> Strategy:
    """The strategy of `config.masking`; no special id is ever selected."""
    masking, tokenizer = config.masking, text.tokenizer
    given, corrupted = masking.mask_selection_length, _slots(config, rates.selected.largest)
    slots = needed_slots(config, rates) if given is None else given
    spec = MaskingSpec(
        vocabulary_size=tokenizer.vocabulary_size,
        mask_token_id=tokenizer.special.mask,
        mask_selection_length=slots,
        unselectable_token_ids=_unselectable(tokenizer, select_unknown=masking.select_unknown),
        mask_token_rate=masking.mask_token_rate,
        random_token_rate=masking.random_token_rate,
        count=masking.count,
        random_ids="vocabulary" if masking.random_ids == "vocabulary" else "selectable",
        fit=_fit(masking.unit) if masking.fit == "auto" else masking.fit,
        fate=fate_of(masking.unit),
        corruption_length=None if rates.predicted is None else max(slots, corrupted),
    )
    return Strategy(
        spec=spec,
        starts=make_starts(config, masking.unit, tokenizer),
        weights=make_weights(config, text, spec),
        random_cdf=make_random_cdf(config, text, spec),
        copies=copies(config),
        patterns=masking.patterns,
    )


def needed_slots(config: ConfigDict, rates: Rates) -> int:
    """P: the mask slots of a row that all rates of the run need."""
    return _slots(config, rates.selected.largest if rates.predicted is None else rates.predicted)


def _slots(config: ConfigDict, rate: float) -> int:
    units = config.masking.unit != "token"
    return required_slots(rate, config.data.length, config.masking.count, units=units)


def make_evaluation_masks(
    config: ConfigDict, tokenizer: Tokenizer
) -> Mapping[str, tuple[EvaluationMask, float]]:
    """`{"token@0.15": (mask(batch, rate), 0.15), ...}`: masks that no training setting changes.

    All select evenly, rate * n tokens on average, with 'auto' fit, and show 80/10/10; all rates of
    a unit share one function. Only what a unit is follows the config.
    """
    kinds = evaluation_masks(config)
    root = jax.random.key(config.eval.seed, impl="threefry2x32")
    masks = {}
    for unit in dict.fromkeys(unit for unit, _ in kinds):
        largest = max(rate for other, rate in kinds if other == unit)
        masks[unit] = _evaluation_mask(config, unit, largest, tokenizer, root)
    return {mask_name(unit, rate): (masks[unit], rate) for unit, rate in kinds}


def _evaluation_mask(config, unit: str, largest: float, tokenizer: Tokenizer, root: jax.Array):
    """`mask(batch, rate)` for one unit, at rates up to the largest."""
    own = config.masking.unit if unit == "own" else unit
    spec = MaskingSpec(
        vocabulary_size=tokenizer.vocabulary_size,
        mask_token_id=tokenizer.special.mask,
        mask_selection_length=required_slots(largest, config.eval.length, "stochastic"),
        unselectable_token_ids=_unselectable(tokenizer, select_unknown=True),
        count="stochastic",
        fit=_fit(own),
        fate=fate_of(own),
    )
    strategy = Strategy(spec, make_starts(config, own, tokenizer))
    return functools.partial(_mask_at, strategy=strategy, root=root)


def _mask_at(batch: Batch, rate: jax.Array, *, strategy: Strategy, root: jax.Array):
    return mask_batch(batch, strategy, root=root, rate=rate)


def _fit(unit: str) -> str:
    """Whether units that do not fit are cut: skipping them would make spans shorter than drawn."""
    return "truncate" if unit in ("span", "ngram") else "skip"


def fate_of(unit: str) -> str:
    """Whether [MASK], random or kept is decided for each token or once for a unit."""
    return "token" if unit in ("token", "word") else "unit"


def _unselectable(tokenizer: Tokenizer, *, select_unknown: bool) -> set[int]:
    """The special ids; [UNK] is an ordinary token if `select_unknown`."""
    return set(tokenizer.special_ids) - ({tokenizer.special.unk} if select_unknown else set())
