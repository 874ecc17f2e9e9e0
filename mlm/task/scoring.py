"""Losses and predictions of the object on its frozen masks, or on features.

B batch, L length, P mask slots, V vocabulary.
"""

import hashlib
import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import numpy as np

from mlm.evaluation.frozen import SlotSums, masked_places, slot_sums
from mlm.task.examples import Examples
from mlm.training.loss import LossSums
from mlm.training.signals import StopRequest
from mlm.training.step import Apply, Batch, MaskCounts, Params

# From `mlm.task.examples.make_mask`.
Mask = Callable[[Batch], tuple[Batch, MaskCounts]]

# Of the frozen masks, in every object: that of `config.eval.seed`.
EVAL_SEED = 0


class Score(NamedTuple):
    """What is measured of a batch, row by row: sums that no batch size enters."""

    losses: LossSums  # float32[B] each
    slots: SlotSums  # float32[B, 3] each
    selectable: jax.Array  # float32[], tokens that could have been masked
    positions: jax.Array  # int32[B, P]
    ids: jax.Array  # int32[B, P]
    weights: jax.Array  # float32[B, P]


class Prediction(NamedTuple):
    """What `predict` gives for texts, NumPy arrays of a row per text.

    Attributes:
      logits: `float32[N, P, V]` at the masked positions.
      mask_positions: `int32[N, P]`, ascending; slots beyond a row's selection hold zeros.
      mask_ids: `int32[N, P]`, the original ids there.
      mask_weights: `float32[N, P]`, 1 where a slot is filled.
      token_ids: `int32[N, L]`, as the model saw them.
    """

    logits: np.ndarray
    mask_positions: np.ndarray
    mask_ids: np.ndarray
    mask_weights: np.ndarray
    token_ids: np.ndarray


def frozen_key() -> jax.Array:
    """The root key of the frozen masks."""
    return jax.random.key(EVAL_SEED, impl="threefry2x32")


def make_score(
    apply: Apply, mask: Mask, loss_sums: Callable[..., LossSums], sharding: jax.sharding.Sharding
) -> Callable[[Params, Batch], Score]:
    """`score(params, batch)` under `jax.jit`, without dropout."""

    def score_row(logits: jax.Array, row: Batch) -> tuple[LossSums, SlotSums]:
        logits, batch = logits[None], {name: values[None] for name, values in row.items()}
        losses = loss_sums(logits, batch["mask_ids"], batch["mask_weights"])
        return losses, slot_sums(logits, batch, mask_token_id=-1)  # of which totals are used

    def score(params: Params, batch: Batch) -> Score:
        masked, counts = mask(batch)
        sums = jax.vmap(score_row)(apply(params, masked), masked)
        slots = (masked[name] for name in ("mask_positions", "mask_ids", "mask_weights"))
        return Score(*sums, counts.selectable, *slots)

    return jax.jit(score, out_shardings=sharding)


def evaluate_examples(
    score: Callable[[Params, Batch], Score],
    params: Params,
    examples: Examples,
    *,
    batch_size: int,
    put: Callable,
    stop: StopRequest | None = None,
) -> dict[str, float | str] | None:
    """The dict of `DistilBertMaskedLM.evaluate`; None when a stop was asked for."""
    scores = []
    for batch in examples.batches(batch_size):
        if stop is not None and stop.signum:
            return None
        scores.append(jax.device_get(score(params, put(batch))))
    selectable = sum(float(s.selectable) for s in scores)
    whole = jax.tree.map(
        lambda *parts: np.concatenate(parts)[: len(examples)],
        *(s._replace(selectable=s.losses.weight) for s in scores),
    )
    loss, weight, _ = (values.sum(dtype=np.float64) for values in whole.losses)
    nats, top1, top5, _ = (values.sum(dtype=np.float64) for values in whole.slots)
    filled = int(np.count_nonzero(whole.weights))
    mean = 1 / weight if weight else 0.0
    report = {
        "loss": float(loss * mean),
        "perplexity": math.exp(min(nats * mean, 700.0)),
        "accuracy": float(top1 * mean),
        "top5": float(top5 * mean),
        "masked_tokens": filled,
        "mask_hash": _mask_hash(examples, whole),
    }
    return report | ({"realised_rate": filled / max(selectable, 1.0)} if examples.masking else {})


def make_predict(apply: Apply, mask: Mask) -> Callable[[Params, Batch], tuple]:
    """`predict(params, batch) -> (logits, masked batch)` under `jax.jit`, without dropout."""

    def predict(params: Params, batch: Batch) -> tuple[jax.Array, Batch]:
        masked, _ = mask(batch)
        return apply(params, masked), masked

    return jax.jit(predict)


def predict_examples(
    predict: Callable[[Params, Batch], tuple],
    params: Params,
    examples: Examples,
    *,
    batch_size: int,
    put: Callable,
) -> np.ndarray | Prediction:
    """The logits `float32[N, P, V]` of features; a `Prediction` for texts."""
    names = Prediction._fields[1:] if examples.masking else ()
    parts = []
    for batch in examples.batches(batch_size):
        logits, masked = predict(params, put(batch))
        parts.append(jax.device_get((logits, *(masked[name] for name in names))))
    arrays = [np.concatenate(part)[: len(examples)] for part in zip(*parts, strict=True)]
    return Prediction(*arrays) if examples.masking else arrays[0]


def _mask_hash(examples: Examples, score: Score) -> str:
    """sha256 of every (row, position, label) that is masked."""
    shape = examples.rows["token_ids"].shape
    rows, positions = np.indices(shape, np.int64)
    places = masked_places(rows, positions, score.positions, score.ids, score.weights)
    return hashlib.sha256(places).hexdigest()
