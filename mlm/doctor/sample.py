"""Rows masked exactly as the run masks them at one step, as NumPy arrays for checks.

R rows, C copies of each, L length, P mask slots.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from mlm.masked_rows import batch_units, predicting_all, slot_places
from mlm.masking.spec import COUNT_SLACK
from mlm.masks import Rates
from mlm.strategy import Strategy, mask_batch, mask_keys

ROWS = 256  # per step


@dataclasses.dataclass(frozen=True, eq=False)
class Sample:
    """What masking made of some rows.

    Attributes:
      step: before the update, `state.step`.
      rates: requested, as `Rates.at` gives them.
      count: the rule of how many.
      original: `int32[R, L]`, the ids.
      selectable: `bool[R, L]`.
      weighted: `bool[R, L]`, those of them with a weight above 0, which can be selected.
      shown: `int32[R, C, L]`, the corrupted ids.
      predicted, corrupted: `bool[R, C, L]`; what is predicted is a part of what is corrupted.
      overflow: selected tokens that found no slot.
      leaders, lengths: `int32[R, L]`, where each token's unit begins and its tokens; None: each
        token is a unit.
    """

    step: int
    rates: dict[str, float | None]
    count: str
    original: np.ndarray
    selectable: np.ndarray
    weighted: np.ndarray
    shown: np.ndarray
    predicted: np.ndarray
    corrupted: np.ndarray
    overflow: float
    leaders: np.ndarray | None = None
    lengths: np.ndarray | None = None

    @property
    def copies(self) -> int:
        return self.shown.shape[1]

    @property
    def tokens(self) -> np.ndarray:
        """`int64[R]`: selectable tokens of each row."""
        return self.selectable.sum(axis=1)

    @property
    def predictions(self) -> np.ndarray:
        """`int64[R]`: predicted tokens of each row, all copies together."""
        return self.predicted.sum(axis=(1, 2))

    @property
    def asked_corruption(self) -> float:
        """The share of selectable tokens to corrupt, in all copies; of drawn rates the mean."""
        rate, lowest = self.rates["rate"], self.rates["lowest"]
        return self.copies * (rate if lowest is None else (rate + lowest) / 2)

    @property
    def asked(self) -> float:
        """The share of selectable tokens to predict, in all copies."""
        predicted = self.rates["prediction_rate"]
        return self.asked_corruption if predicted is None else predicted

    def expected(self, share: float) -> np.ndarray:
        """`float64[R]`: tokens of each row, in all copies, by the rule of `count`, on average."""
        wanted = share * self.tokens
        if self.count == "exact":
            least = (self.tokens > 0) & (share > 0)
            wanted = self.copies * np.maximum(np.ceil(wanted / self.copies - COUNT_SLACK), least)
        return np.minimum(wanted, self.weighted.sum(axis=1))

    @property
    def realised(self) -> float:
        return float(self.predictions.sum() / max(self.tokens.sum(), 1))


def take_samples(
    strategy: Strategy,
    rates: Rates,
    batch_at: Callable[[int], dict[str, np.ndarray]],
    *,
    root: jax.Array,
    steps: list[int],
    table: Any = (),
) -> list[Sample]:
    """A `Sample` of each step's batch and those behind it, until there are `ROWS` rows.

    Args:
      strategy, rates, root: of the run's masks.
      batch_at: global batch k.
      steps: `state.step`s.
      table: what adaptive weights are made from, at all of the steps.
    """

    @jax.jit
    def masked(batch, step):
        return mask_batch(batch, strategy, root=root, table=table, **rates.at(step))

    @jax.jit
    def corrupted(batch, step):  # with a slot for all that is
        whole, given = predicting_all(strategy), rates.at(step) | {"prediction_rate": None}
        return mask_batch(batch, whole, root=root, table=table, **given)[0]

    @jax.jit
    def chosen_from(batch):
        ids, made = batch["token_ids"], batch_units(batch, strategy, root=root)
        weights = strategy.weights(mask_keys(batch, strategy, root=root), ids, table)
        if weights is not None:
            weights = (weights[ids] if weights.ndim == 1 else weights) > 0
        weighted = made.selectable if weights is None else made.selectable & weights
        return made.selectable, weighted, None if made.are_tokens else (made.leaders, made.lengths)

    samples = []
    for step in steps:
        batch = _rows(batch_at, step)
        result, counts = jax.device_get(masked(batch, jnp.int32(step)))
        selectable, weighted, places = jax.device_get(chosen_from(batch))
        requested = {
            name: None if rate is None else float(rate) for name, rate in rates.at(step).items()
        }
        leaders, lengths = places or (None, None)
        rows, length = batch["token_ids"].shape
        predicted = slot_places(result).reshape(rows, -1, length)
        hidden = predicted
        if rates.predicted is not None:
            hidden = slot_places(jax.device_get(corrupted(batch, jnp.int32(step))))
        samples.append(
            Sample(
                step=step,
                rates=requested,
                count=strategy.spec.count,
                original=batch["token_ids"],
                selectable=selectable,
                weighted=weighted,
                shown=result["token_ids"].reshape(rows, -1, length),
                predicted=predicted,
                corrupted=hidden.reshape(rows, -1, length),
                overflow=float(counts.overflow),
                leaders=leaders,
                lengths=lengths,
            )
        )
    return samples


def _rows(batch_at: Callable, step: int) -> dict[str, np.ndarray]:
    batches = [batch_at(step)]
    while sum(len(batch["token_ids"]) for batch in batches) < ROWS:
        batches.append(batch_at(step + len(batches)))
    return {name: np.concatenate([b[name] for b in batches])[:ROWS] for name in batches[0]}
