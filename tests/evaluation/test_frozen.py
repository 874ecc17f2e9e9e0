"""Frozen evaluation against slow sums in NumPy, with a model that is a table of logits."""

import functools
import hashlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mlm.evaluation.frozen import EvalRows, make_evaluate, slot_sums, unigram_log_probs
from mlm.experiment import mask_batch
from mlm.masking import MaskingSpec

V, L, MASK = 24, 12, 4
RNG = np.random.default_rng(0)
TABLE = RNG.normal(size=(V, V)).astype(np.float32)
SPEC = MaskingSpec(V, MASK, L, (0, 2, 3, 4), count="stochastic")
UNIGRAM = unigram_log_probs(np.arange(V))
SHARDING = jax.sharding.SingleDeviceSharding(jax.devices()[0])


def apply(params, batch, key=None):
    """Logits that depend on the token shown at the position alone."""
    shown = jnp.take_along_axis(batch["token_ids"], batch["mask_positions"], axis=1)
    return params["table"][shown]


def rows(sizes=(6, 6), order=None):
    ids = np.random.default_rng(1).integers(5, V, (sum(sizes), L)).astype(np.int32)
    ids[-1, 5:] = 0
    ids[-2] = 0  # a row of padding, as at the end of the last batch
    places = np.tile(np.arange(L), (len(ids), 1)), np.arange(len(ids))[:, None] * np.ones((1, L))
    offsets, documents = (a.astype(np.int64) for a in places)
    start = 0
    for size in sizes:
        part = slice(start, start + size)
        examples = np.arange(start, start + size, dtype=np.int32)
        batch = {"token_ids": ids[part], "example_ids": examples, "visits": examples * 0}
        yield EvalRows(batch, documents[part], offsets[part])
        start += size


def mask_all(batch, rate):
    """A second kind of mask: everything is selected, whatever the rate."""
    return mask_batch(batch, rate * 0 + 1, spec=SPEC, root=jax.random.key(0))


TOKENS = functools.partial(mask_batch, spec=SPEC, root=jax.random.key(0))
MASKS = {"token@0.15": (TOKENS, 0.15), "token@0.5": (TOKENS, 0.5)}


def evaluator(make_rows=rows, masks=MASKS, model=apply):
    return make_evaluate(
        model,
        masks,
        make_rows,
        mask_token_id=MASK,
        unigram_log_probs=UNIGRAM,
        put=lambda batch: jax.device_put(batch, SHARDING),
        replicated=SHARDING,
    )


@pytest.fixture(scope="module")
def evaluation():
    return evaluator()({"table": TABLE})


def masked_batches(rate):
    for batch, documents, offsets in rows():
        masked, counts = mask_batch(batch, rate, spec=SPEC, root=jax.random.key(0))
        yield jax.device_get(masked), jax.device_get(counts), documents, offsets


def test_numbers_equal_slow_sums(evaluation):
    losses, hits, top5, unigram, digest, selectable = [], [], [], [], hashlib.sha256(), 0
    for masked, counts, documents, offsets in masked_batches(0.5):
        selectable += counts.selectable
        for row in range(6):
            for slot in np.flatnonzero(masked["mask_weights"][row]):
                at, label = masked["mask_positions"][row, slot], masked["mask_ids"][row, slot]
                logits = TABLE[masked["token_ids"][row, at]].astype(np.float64)
                losses.append(np.log(np.exp(logits).sum()) - logits[label])
                hits.append(logits.argmax() == label)
                top5.append(label in np.argsort(-logits)[:5])
                unigram.append(-UNIGRAM[label])
                place = [documents[row, at], offsets[row, at], label]
                digest.update(np.array(place, "<i8").tobytes())
    values = evaluation["token@0.5"]
    assert values["masked_tokens"] == len(losses) > 40
    expected = [np.mean(x) for x in (losses, hits, top5, unigram)]
    measured = [values[name] for name in ("loss", "top1", "top5", "unigram_loss")]
    np.testing.assert_allclose(measured, expected, rtol=1e-6)
    np.testing.assert_allclose(values["perplexity"], np.exp(np.mean(losses)), rtol=1e-5)
    assert values["realised_rate"] == pytest.approx(len(losses) / selectable)
    assert values["mask_hash"] == digest.hexdigest()


def test_slots_add_up(evaluation):
    for values in evaluation.values():
        slots = values["by_slot"]
        assert sum(s["masked_tokens"] for s in slots.values()) == values["masked_tokens"]
        total = sum(s["loss"] * s["masked_tokens"] for s in slots.values() if s["masked_tokens"])
        assert total / values["masked_tokens"] == pytest.approx(values["loss"])


def test_slots_are_told_apart_by_what_is_shown():
    batch = {
        "token_ids": jnp.array([[MASK, 7, 8, 9]]),
        "mask_positions": jnp.array([[0, 1, 2, 0]]),
        "mask_ids": jnp.array([[5, 6, 8, 0]]),
        "mask_weights": jnp.array([[1.0, 1.0, 1.0, 0.0]]),
    }
    logits = jnp.zeros((1, 4, V)).at[0, 0, 5].set(9.0).at[0, 1, 6].set(-9.0)
    sums = slot_sums(logits, batch, mask_token_id=MASK)
    assert sums.tokens.tolist() == [1, 1, 1]
    assert sums.top1.tolist() == [1, 0, 0]
    # Ties go to the lower id, as in argmax: id 8 stands behind eight equal ones.
    assert sums.top5.tolist() == [1, 0, 0]
    assert sums.loss[0] < 0.01 and sums.loss[1] > 9


def test_all_rates_of_a_kind_and_all_evaluations_share_one_compilation():
    traces, reads = [], []
    evaluate = evaluator(
        lambda: reads.append(1) or rows(),
        {**MASKS, "token@0.3": (TOKENS, 0.3), "all@0.5": (mask_all, 0.5)},
        model=lambda *args: traces.append(1) or apply(*args),
    )
    for _ in range(2):
        evaluation = evaluate({"table": TABLE})
    assert len(traces) == 2 and len(reads) == 2
    assert list(evaluation) == ["token@0.15", "token@0.5", "token@0.3", "all@0.5"]


def test_each_kind_is_masked_by_its_own_function(evaluation):
    both = evaluator(masks={"all@0.15": (mask_all, 0.15), **MASKS})({"table": TABLE})
    assert both["all@0.15"]["realised_rate"] == 1
    assert {name: both[name] for name in MASKS} == evaluation
    assert next(iter(both)) == "all@0.15"  # the one that decides the best checkpoint


def test_two_evaluations_are_equal_to_the_last_bit(evaluation):
    assert evaluator()({"table": TABLE}) == evaluation


def test_masks_do_not_depend_on_the_batch_size_nor_on_the_other_rates(evaluation):
    one = {"token@0.15": (TOKENS, 0.15)}
    other = evaluator(lambda: rows((4, 4, 4)), one)({"table": TABLE})
    assert other["token@0.15"]["mask_hash"] == evaluation["token@0.15"]["mask_hash"]
    assert other["token@0.15"]["loss"] == pytest.approx(evaluation["token@0.15"]["loss"])


def test_the_hash_tells_other_masks(evaluation):
    hashes = {values["mask_hash"] for values in evaluation.values()}
    assert len(hashes) == 2


def test_unigram_log_probs_are_a_smoothed_distribution():
    log_probs = unigram_log_probs(np.array([3, 0, 1]))
    np.testing.assert_allclose(np.exp(log_probs), [4 / 7, 1 / 7, 2 / 7])
