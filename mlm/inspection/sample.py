"""Masks of a sample of rows under several strategies, as training draws them at step 0.

R masked rows: B rows times the copies of a strategy. L length, V vocabulary.
"""

import dataclasses
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from mlm.config import duration
from mlm.data import token_counts
from mlm.errors import DataError, MlmError
from mlm.input import prepare_text, training_rows
from mlm.inspection.choice import Choice, choose_strategies
from mlm.inspection.rows import Source, text_source, training_source
from mlm.masked_rows import batch_units, mask_hash, predicting_all, slot_places
from mlm.masking.units import Units
from mlm.masks import adaptive, training_rates, training_strategy
from mlm.preparing import PreparedText
from mlm.settings import run_keys
from mlm.strategy import Strategy, mask_batch
from mlm.text import Tokenizer, continuations
from mlm.training.adaptive import init_table

NONE, MASK, RANDOM, KEPT = range(4)  # what became of a token


@dataclasses.dataclass(frozen=True, eq=False)
class Masked:
    """The sample under one strategy.

    Attributes:
      name: see `Choice`.
      config: whose section `masking` it is.
      requested: the share that is to be selected, on average over rows.
      copies: of each row, side by side.
      token_ids: `int32[R, L]`, the original.
      shown: `int32[R, L]`, what the model would see.
      fates: `int8[R, L]`: NONE, or MASK, RANDOM, KEPT where a token is selected. A random id that
        happens to be the original is KEPT.
      predicted: `bool[R, L]`.
      leaders: `int32[R, L]`, where each token's unit begins.
      selectable: `bool[R, L]`.
      overflow: selected tokens that found no slot.
      hash: of (document, offset, label) of every predicted token, as evaluations have it.
    """

    name: str
    config: ConfigDict
    requested: float
    copies: int
    token_ids: np.ndarray
    shown: np.ndarray
    fates: np.ndarray
    predicted: np.ndarray
    leaders: np.ndarray
    selectable: np.ndarray
    overflow: int
    hash: str


@dataclasses.dataclass(frozen=True, eq=False)
class Inspection:
    """All that is shown.

    Attributes:
      config: the one that is looked at.
      text: its tokenizer and stores.
      rows: where the rows are from, in words.
      masked: the sample under each strategy, the config's own first.
      continuations: `bool[V]`, ids that go on with a word; None if the tokenizer does not tell.
      counts: `int64[V]`, how often each id stands in the text that is trained on.
      notes: strategies that could not be had, and why.
    """

    config: ConfigDict
    text: PreparedText
    rows: str
    masked: tuple[Masked, ...]
    continuations: np.ndarray | None
    counts: np.ndarray
    notes: tuple[str, ...] = ()

    @property
    def tokenizer(self) -> Tokenizer:
        return self.text.tokenizer


def inspect_masks(
    config: ConfigDict, *, file: str = "", masks: Sequence[str] = (), say: Callable = print
) -> Inspection:
    """The config's masks at step 0 and those of plain strategies beside it, on the same rows.

    Prepares the text if need be. Weights that adapt are those of a model that has learnt nothing.

    Args:
      file: its lines are masked, in place of the rows that training begins with.
      masks: see `choose_strategies`.
      say: called with a line on what is being done.

    Raises:
      ConfigError: a strategy is unknown or cannot be used.
      DataError: the text, the tokenizer or the file cannot be used.
    """
    text = prepare_text(config, say=say)
    rows = training_rows(config, text, say=say)
    total = duration(config.train, "total", epoch=len(rows), batch_size=config.train.batch_size)
    first = training_rates(config, total_steps=total).selected(jnp.int32(0))
    choices = choose_strategies(config, _short(first), masks)
    if file:
        source, origin = text_source(config, text, file), f"lines of {file}"
    else:
        source, origin = training_source(config, text, rows, say=say), "training begins with"
    masked, notes = [], []
    for choice in choices:
        try:
            masked.append(_mask(choice, text, source, total))
        except MlmError as error:
            if choice.asked:
                raise
            notes.append(f"{choice.name} is left out: {error}")
    size = len(source.batch["token_ids"])
    return Inspection(
        config=config,
        text=text,
        rows=f"{size:,} rows: {origin}" if file else f"the {size:,} rows that {origin}",
        masked=tuple(masked),
        continuations=_continuations(text.tokenizer),
        counts=token_counts(text.train),
        notes=tuple(notes),
    )


def _short(rate: jax.Array | float) -> float:
    """A float32 as people write it: 0.15, not 0.15000000596."""
    return float(f"{float(rate):.6g}")


def _continuations(tokenizer: Tokenizer) -> np.ndarray | None:
    try:
        return continuations(tokenizer)
    except DataError:
        return None


def _mask(choice: Choice, text: PreparedText, source: Source, total_steps: int) -> Masked:
    config, batch = choice.config, source.batch_for(choice.config)
    rates = training_rates(config, total_steps=total_steps)
    strategy = training_strategy(config, text, rates)
    root = run_keys(config.seed).masks
    adapt = adaptive(config, text.tokenizer.vocabulary_size)
    table = () if adapt is None else init_table(adapt)
    at = rates.at(jnp.int32(0))

    def draw(batch, at, strategy):
        masked = mask_batch(batch, strategy, root=root, table=table, **at)
        return *masked, batch_units(batch, strategy, root=root)

    draw = jax.jit(draw, static_argnames="strategy")
    outputs, counts, units = jax.device_get(draw(batch, at, strategy))
    everything = outputs
    if rates.predicted is not None:
        every = at | {"prediction_rate": None}
        everything = jax.device_get(draw(batch, every, predicting_all(strategy)))[0]
    places = (np.repeat(a, strategy.copies, 0) for a in (source.documents, source.offsets))
    return Masked(
        name=choice.name,
        config=config,
        requested=_short(rates.mean(0)),
        copies=strategy.copies,
        overflow=int(counts.overflow),
        hash=mask_hash(*places, outputs),
        **_tokens(batch, strategy, units, outputs, everything),
    )


def _tokens(batch, strategy: Strategy, units: Units, outputs, everything) -> dict[str, np.ndarray]:
    """The fields of `Masked` that are arrays."""
    rows = {
        "token_ids": batch["token_ids"],
        "leaders": units.leaders,
        "selectable": units.selectable,
    }
    rows = {name: np.repeat(values, strategy.copies, 0) for name, values in rows.items()}
    shown, original = outputs["token_ids"], rows["token_ids"]
    fates = np.select(
        [shown == original, shown == strategy.spec.mask_token_id], [KEPT, MASK], RANDOM
    )
    selected = slot_places(everything)
    return rows | {
        "shown": shown,
        "fates": np.where(selected, fates, NONE).astype(np.int8),
        "predicted": slot_places(outputs),
    }
