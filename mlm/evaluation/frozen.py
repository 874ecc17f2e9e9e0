"""Masked-LM evaluation on frozen masks: the same tokens are hidden at every evaluation.

A loss is comparable only on the same masks, so kinds and rates are listed (by default tokens at
15 %, and what training hides besides), the key is the evaluation's own, rows are cut one way
whatever training does, and a hash of every (document, offset, label) says whether two numbers may
be compared. B batch, L length, P mask slots, V vocabulary.
"""

import functools
import hashlib
import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

Batch = dict[str, jax.Array]
# mask(batch, rate) -> the batch with mask slots, and MaskCounts; the rate is traced.
Mask = Callable[[Batch, jax.Array], tuple[Batch, Any]]
SLOTS = ("mask", "random", "keep")


class SlotSums(NamedTuple):
    """Sums over masked tokens by what stood at their place; `float32[3]` each, in SLOTS order."""

    loss: jax.Array  # nats
    top1: jax.Array
    top5: jax.Array
    tokens: jax.Array


class EvalRows(NamedTuple):
    """One batch of held-out rows and where its tokens come from."""

    batch: dict[str, np.ndarray]
    documents: np.ndarray  # int64[B, L]
    offsets: np.ndarray  # int64[B, L], within the document


def slot_sums(logits: jax.Array, batch: Batch, *, mask_token_id: int) -> SlotSums:
    """Losses and hits of a masked batch, split by [MASK], random and kept slots.

    A random replacement that happens to be the original counts as kept: the model cannot tell.

    Args:
      logits: `float32[B, P, V]`.
      batch: masked, with `token_ids`, `mask_positions`, `mask_ids`, `mask_weights`.
      mask_token_id: the id of [MASK].
    """
    labels, weights = batch["mask_ids"], batch["mask_weights"]
    shown = jnp.take_along_axis(batch["token_ids"], batch["mask_positions"], axis=1)
    is_mask, is_kept = shown == mask_token_id, shown == labels
    kinds = jnp.stack([is_mask, ~is_mask & ~is_kept, ~is_mask & is_kept]) * weights
    rank, label_logits = _rank(logits, labels)
    losses = jax.nn.logsumexp(logits, axis=-1) - label_logits

    def total(values):
        return jnp.sum(kinds * values, axis=(1, 2))

    return SlotSums(total(losses), total(rank < 1), total(rank < 5), total(jnp.ones_like(losses)))


def make_evaluate(
    apply: Callable[..., jax.Array],
    masks: Mapping[str, tuple[Mask, float]],
    rows: Callable[[], Iterator[EvalRows]],
    *,
    mask_token_id: int,
    unigram_log_probs: np.ndarray,
    put: Callable[[dict[str, np.ndarray]], Batch],
    replicated: jax.sharding.Sharding,
) -> Callable[[dict], dict[str, dict]]:
    """`evaluate(params) -> {"token@0.15": {"loss": nats, ...}, ...}`, an entry per name of `masks`.

    Args:
      apply: the model; called without a key, so without dropout.
      masks: for each name a mask function and its rate. Names that share a function share one
        compiled step, however many rates there are. The first one decides the best checkpoint.
      rows: all evaluation rows in a fixed order; read once per evaluation.
      mask_token_id: the id of [MASK].
      unigram_log_probs: `float64[V]`, the baseline's log-probabilities.
      put: NumPy batch to devices.
      replicated: the sharding under which every process can read the sums.
    """

    @functools.partial(jax.jit, static_argnames="mask", out_shardings=replicated)
    def eval_step(params, batch, rate, *, mask):
        masked, counts = mask(batch, rate)
        sums = slot_sums(apply(params, masked), masked, mask_token_id=mask_token_id)
        chosen = (masked["mask_positions"], masked["mask_ids"], masked["mask_weights"])
        return sums, counts, chosen

    def evaluate(params) -> dict[str, dict]:
        totals = {name: _Totals(unigram_log_probs) for name in masks}
        for batch, documents, offsets in rows():
            batch = put(batch)
            for name, (mask, rate) in masks.items():
                outputs = eval_step(params, batch, jnp.float32(rate), mask=mask)
                totals[name].add(*jax.device_get(outputs), documents, offsets)
        return {name: total.report() for name, total in totals.items()}

    return evaluate


def mask_hashes(
    masks: Mapping[str, tuple[Mask, float]], rows: Iterator[EvalRows]
) -> dict[str, str]:
    """The hash of each kind of masks, as `evaluate` reports it, without a model."""
    functions = {mask: jax.jit(mask) for mask, _ in masks.values()}
    hashes = {name: hashlib.sha256() for name in masks}
    for batch, documents, offsets in rows:
        for name, (mask, rate) in masks.items():
            masked, _ = jax.device_get(functions[mask](batch, jnp.float32(rate)))
            chosen = (masked[n] for n in ("mask_positions", "mask_ids", "mask_weights"))
            hashes[name].update(masked_places(documents, offsets, *chosen))
    return {name: total.hexdigest() for name, total in hashes.items()}


class _Totals:
    """What the batches of one kind of mask add up to."""

    def __init__(self, unigram_log_probs: np.ndarray):
        self._log_probs = unigram_log_probs
        self._sums = SlotSums(*np.zeros((4, 3)))
        self._selectable = self._unigram = 0.0
        self._places = hashlib.sha256()

    def add(self, sums: SlotSums, counts, chosen, documents, offsets) -> None:
        positions, ids, weights = chosen
        self._sums = SlotSums(*(a + b for a, b in zip(self._sums, sums, strict=True)))
        self._selectable += float(counts.selectable)
        self._unigram -= float(np.sum(self._log_probs[ids] * weights))
        self._places.update(masked_places(documents, offsets, positions, ids, weights))

    def report(self) -> dict:
        return _report(self._sums, self._selectable, self._unigram, self._places.hexdigest())


def unigram_log_probs(counts: np.ndarray) -> np.ndarray:
    """`float64[V]`: log-probabilities of ids by their training counts, one added to each."""
    smoothed = counts.astype(np.float64) + 1
    return np.log(smoothed / smoothed.sum())


def _rank(logits: jax.Array, labels: jax.Array) -> tuple[jax.Array, jax.Array]:
    """How many ids come before the label (ties: the lower id first), and the label's logit."""
    at_label = jnp.take_along_axis(logits, labels[..., None], axis=-1)
    ids = jnp.arange(logits.shape[-1], dtype=labels.dtype)
    before = (logits > at_label) | ((logits == at_label) & (ids < labels[..., None]))
    return jnp.sum(before, axis=-1), at_label[..., 0]


def masked_places(documents, offsets, positions, ids, weights) -> bytes:
    """The bytes that the mask hash is made of: int64 (document, offset, label) of every mask.

    Args:
      documents, offsets: `int64[B, L]`, where each token comes from.
      positions, ids, weights: the mask slots, `[B, P]`.
    """
    chosen = weights > 0
    places = [np.take_along_axis(a, positions, axis=1)[chosen] for a in (documents, offsets)]
    return np.stack([*places, ids[chosen]], axis=1).astype("<i8").tobytes()


def _report(sums: SlotSums, selectable: float, unigram: float, mask_hash: str) -> dict:
    tokens = max(sums.tokens.sum(), 1.0)
    loss = sums.loss.sum() / tokens
    return {
        "loss": float(loss),
        "perplexity": math.exp(min(loss, 700.0)),
        "top1": float(sums.top1.sum() / tokens),
        "top5": float(sums.top5.sum() / tokens),
        "unigram_loss": float(unigram / tokens),
        "masked_tokens": int(sums.tokens.sum()),
        "realised_rate": float(sums.tokens.sum() / max(selectable, 1.0)),
        "mask_hash": mask_hash,
        "by_slot": {
            kind: {
                "loss": float(sums.loss[i] / sums.tokens[i]) if sums.tokens[i] else None,
                "top1": float(sums.top1[i] / sums.tokens[i]) if sums.tokens[i] else None,
                "masked_tokens": int(sums.tokens[i]),
            }
            for i, kind in enumerate(SLOTS)
        },
    }
