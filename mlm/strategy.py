"""From a config and prepared text to masks: what is selected, how much of it, and with what shown.

    units -> weights -> rate, split and table at this step -> `mask_tokens` -> a masked batch

Training, evaluation, and the commands that inspect, replay or check masks all mask by what is made
here. B batch, L length, V vocabulary.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from mlm.config import evaluation_masks, mask_name
from mlm.data import token_counts
from mlm.errors import ConfigError
from mlm.masking import MaskingSpec, mask_tokens, required_slots, row_keys
from mlm.masking.keys import Stream
from mlm.masking.schedules import Schedule, make_rate_schedule, own_rate_schedule
from mlm.masking.selection import row_rates
from mlm.masking.tables import frequency_weights, random_id_cdf, read_weights
from mlm.masking.transform import selectable_positions
from mlm.masking.units import ngram_starts, span_starts, word_starts
from mlm.own import load_function, reason
from mlm.preparing import PreparedText
from mlm.text import Tokenizer, continuations
from mlm.training.adaptive import Adaptive, table_weights
from mlm.training.step import Batch, MaskCounts

ADAPTIVE = ("accuracy", "loss")
BITMAPS = ("pmi", "external")  # units that stand beside the tokens of a batch
# starts(keys, token_ids, selectable, batch) -> bool[B, L], or None where each token is a unit
Starts = Callable[..., jax.Array | None]
# weights(keys, token_ids, table) -> float32[V], float32[B, L], or None where all weigh the same
Weights = Callable[..., jax.Array | None]


@dataclasses.dataclass(frozen=True, eq=False)
class Strategy:
    """How a batch is masked, but for the rates.

    Attributes:
      spec: static settings.
      starts: where units begin.
      weights: how readily each id or token is selected.
      random_cdf: `uint32[R]`, the law of random replacements; None: uniform.
      copies: of each row, with disjoint selections.
    """

    spec: MaskingSpec
    starts: Starts
    weights: Weights
    random_cdf: np.ndarray | None = None
    copies: int = 1


@dataclasses.dataclass(frozen=True, eq=False)
class Rates:
    """How much, at every step of a run.

    Attributes:
      rate: share of selectable tokens that are selected, in each copy of a row.
      mask, random: shares of the selected ones that become [MASK] or a random id.
      lowest: rows draw their rate between it and `rate`; None: all have `rate`.
      predicted: share of selectable tokens that are predicted, where it is less than `rate`.
    """

    rate: Schedule
    mask: Schedule
    random: Schedule
    lowest: float | None = None
    predicted: float | None = None


def make_mask(
    config: ConfigDict, text: PreparedText, *, root: jax.Array, total_steps: int
) -> Callable[[Batch, jax.Array, Any], tuple[Batch, MaskCounts]]:
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
    patterns = config.masking.patterns

    def mask(batch: Batch, step: jax.Array, table: Any) -> tuple[Batch, MaskCounts]:
        visits = batch["visits"] % patterns if patterns else batch["visits"]
        keys = row_keys(root, visits, batch["example_ids"])
        return mask_batch(batch, keys, strategy, table=table, **_now(rates, step, keys))

    return mask


def _now(rates: Rates, step: jax.Array, keys: jax.Array) -> dict[str, jax.Array]:
    """The rates at a step, as `mask_tokens` names them."""
    rate = rates.rate(step)
    if rates.lowest is not None:
        rate = row_rates(keys, jnp.float32(rates.lowest), rate)
    return {
        "rate": rate,
        "mask_token_rate": rates.mask(step),
        "random_token_rate": rates.random(step),
        "prediction_rate": rates.predicted,
    }


def mask_batch(
    batch: Batch, keys: jax.Array, strategy: Strategy, *, table: Any = (), **rates: Any
) -> tuple[Batch, MaskCounts]:
    """The batch with corrupted ids and mask slots, and what masking met.

    Args:
      batch: rows; where the strategy has copies, every field of the result has those of all.
      keys: `key[B]`, one per row.
      strategy: how.
      table: what adaptive weights are made from.
      rates: rates of `mask_tokens`.
    """
    ids, spec = batch["token_ids"], strategy.spec
    selectable = selectable_positions(ids, spec)
    masked = mask_tokens(
        keys,
        ids,
        spec,
        unit_starts=strategy.starts(keys, ids, selectable, batch),
        weights=strategy.weights(keys, ids, table),
        random_cdf=strategy.random_cdf,
        copies=strategy.copies,
        **rates,
    )._asdict()
    overflow, corrupted = (jnp.sum(masked.pop(n)) for n in ("overflow", "corrupted"))
    counts = MaskCounts(
        selectable=jnp.sum(selectable).astype(jnp.float32),
        overflow=overflow.astype(jnp.float32),
        corrupted=corrupted.astype(jnp.float32) / strategy.copies,
    )
    rows = {name: values for name, values in batch.items() if name != "unit_starts"}
    if strategy.copies > 1:
        rows = {name: jnp.repeat(values, strategy.copies, axis=0) for name, values in rows.items()}
    return {**rows, **masked}, counts


def training_rates(config: ConfigDict, *, total_steps: int) -> Rates:
    """The rates of `config.masking`; raises ConfigError for a schedule that cannot be used."""
    m = config.masking
    schedule = lambda start, final: _schedule(m, start, final, total_steps)  # noqa: E731
    copied = copies(config) > 1
    return Rates(
        rate=_own_or(m, total_steps) or schedule(m.rate, m.final_rate),
        mask=schedule(m.mask_token_rate, m.final_mask_token_rate),
        random=schedule(m.random_token_rate, m.final_random_token_rate),
        lowest=m.lowest_rate,
        predicted=None if copied or m.prediction_rate == m.rate else m.prediction_rate,
    )


def _own_or(masking: ConfigDict, total_steps: int) -> Schedule | None:
    """The schedule of the user's own function, if there is one."""
    if ":" not in masking.schedule:
        return None
    function = load_function("masking.schedule", masking.schedule)
    try:
        return own_rate_schedule(function, total_steps=total_steps, name=masking.schedule)
    except Exception as error:  # of code that is not ours
        message = str(error) if isinstance(error, ValueError) else reason(error)
        raise ConfigError(f"masking.schedule {masking.schedule} failed: {message}") from error


def _schedule(masking: ConfigDict, start: float, final: float | None, total: int) -> Schedule:
    kind = "linear" if ":" in masking.schedule else masking.schedule
    return make_rate_schedule(
        "constant" if final is None else kind,
        start,
        final,
        total_steps=total,
        stages=masking.stages,
    )


def copies(config: ConfigDict) -> int:
    """How often a row stands in a batch: as often as predictions exceed corruptions."""
    rate, predicted = config.masking.rate, config.masking.prediction_rate
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
    units = masking.unit != "token"
    length, largest = config.data.length, rates.rate.largest
    corrupted = required_slots(largest, length, masking.count, units=units)
    needed = corrupted
    if rates.predicted is not None:
        needed = required_slots(rates.predicted, length, masking.count, units=units)
    slots = masking.mask_selection_length
    if slots is not None and slots < needed:
        raise ConfigError(
            f"masking.mask_selection_length {slots} is too small: data.length {length} at rates up "
            f"to {largest:g} needs {needed}; raise it or leave it None"
        )
    slots = needed if slots is None else slots
    spec = MaskingSpec(
        vocabulary_size=tokenizer.vocabulary_size,
        mask_token_id=tokenizer.special.mask,
        mask_selection_length=slots,
        unselectable_token_ids=_unselectable(tokenizer, select_unknown=masking.select_unknown),
        mask_token_rate=masking.mask_token_rate,
        random_token_rate=masking.random_token_rate,
        count=masking.count,
        random_ids="vocabulary" if masking.random_ids == "vocabulary" else "selectable",
        fit=masking.fit,
        fate=_fate(masking.unit),
        corruption_length=None if rates.predicted is None else max(slots, corrupted),
    )
    return Strategy(
        spec=spec,
        starts=make_starts(config, masking.unit, tokenizer),
        weights=_make_weights(config, text, spec),
        random_cdf=_random_cdf(config, text, spec),
        copies=copies(config),
    )


def evaluation_strategies(
    config: ConfigDict, tokenizer: Tokenizer
) -> Mapping[str, tuple[Callable[[Batch, jax.Array], tuple[Batch, MaskCounts]], float]]:
    """`{"token@0.15": (mask(batch, rate), 0.15), ...}`: masks that no training setting changes.

    All select evenly, whole units, rate * n tokens on average, and show 80/10/10; all rates of a
    unit share one function. Only what a unit is follows the config.
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
        fate=_fate(own),
    )
    strategy = Strategy(spec, make_starts(config, own, tokenizer), lambda *_: None)

    def mask(batch: Batch, rate: jax.Array) -> tuple[Batch, MaskCounts]:
        keys = row_keys(root, batch["visits"], batch["example_ids"])
        return mask_batch(batch, keys, strategy, rate=rate)

    return mask


def make_starts(config: ConfigDict, unit: str, tokenizer: Tokenizer) -> Starts:
    """Where units of this kind begin; raises DataError if the tokenizer does not tell words."""
    if unit == "token":
        return lambda keys, ids, selectable, batch: None
    if unit in BITMAPS:
        return lambda keys, ids, selectable, batch: batch["unit_starts"]
    m, table = config.masking, continuations(tokenizer)
    if unit == "word":
        return lambda keys, ids, selectable, batch: word_starts(ids, table)
    if unit == "span":
        return lambda keys, ids, selectable, batch: span_starts(
            keys, word_starts(ids, table), selectable, p=m.span_p, longest=m.span_longest
        )
    if unit == "ngram":
        shortest, longest = m.ngram
        return lambda keys, ids, selectable, batch: ngram_starts(
            keys, word_starts(ids, table), selectable, shortest=shortest, longest=longest
        )
    function = load_function("masking.unit", unit)
    return lambda keys, ids, selectable, batch: function(
        _own_keys(keys), ids, word_starts(ids, table)
    )


def _make_weights(config: ConfigDict, text: PreparedText, spec: MaskingSpec) -> Weights:
    kind = config.masking.weights
    if kind == "uniform":
        return lambda keys, ids, table: None
    if kind in ADAPTIVE:
        return lambda keys, ids, table: table_weights(table, kind)
    if ":" in kind:
        function = load_function("masking.weights", kind)
        words = continuations(text.tokenizer)
        return lambda keys, ids, table: function(_own_keys(keys), ids, word_starts(ids, words))
    if kind == "frequency":
        fixed = frequency_weights(token_counts(text.train), config.masking.weights_alpha)
    else:
        fixed = _weights_of_file(kind, spec)
    return lambda keys, ids, table: jnp.asarray(fixed)


def _weights_of_file(path: str, spec: MaskingSpec) -> np.ndarray:
    selectable = np.ones(spec.vocabulary_size, bool)
    selectable[list(spec.unselectable_token_ids)] = False
    try:
        return read_weights(path, spec.vocabulary_size, selectable)
    except ValueError as error:
        raise ConfigError(f"masking.{error}") from error


def _random_cdf(config: ConfigDict, text: PreparedText, spec: MaskingSpec) -> np.ndarray | None:
    if config.masking.random_ids != "unigram":
        return None
    counts = token_counts(text.train)
    return random_id_cdf(counts, spec.replacement_ids, config.masking.random_ids_alpha)


def _fate(unit: str) -> str:
    """Whether [MASK], random or kept is decided for each token or once for a unit."""
    return "token" if unit in ("token", "word") else "unit"


def _own_keys(keys: jax.Array) -> jax.Array:
    """`key[B]` for a function of the user, whose draws no draw of ours repeats."""
    return jax.vmap(lambda key: jax.random.fold_in(key, Stream.OWN))(keys)


def _unselectable(tokenizer: Tokenizer, *, select_unknown: bool) -> set[int]:
    """The special ids; [UNK] is an ordinary token if `select_unknown`."""
    return set(tokenizer.special_ids) - ({tokenizer.special.unk} if select_unknown else set())
