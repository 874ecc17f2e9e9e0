"""Averages per id: against a loop in Python, and as part of the step."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import AxisType

from mlm.saved import restore_mask_table
from mlm.training import make_init_state, make_train_step
from mlm.training.adaptive import (
    FLOOR,
    Adaptive,
    IdSums,
    id_sums,
    init_table,
    table_weights,
    update_table,
)
from mlm.training.checkpoint import checkpoints_in
from mlm.training.loss import SlotScores
from mlm.training.sharding import put_batch
from mlm.training.step import MaskCounts

V, P, ROWS = 12, 3, 16
TX = optax.adam(0.1)


# ---- the pure functions -------------------------------------------------------------------------


def scores_by_hand(seed=0):
    rng = np.random.default_rng(seed)
    labels = rng.integers(2, V, (4, P)).astype(np.int32)
    losses = rng.uniform(0, 5, (4, P)).astype(np.float32)
    hits = (losses < 2).astype(np.float32)
    weights = np.array([[1, 1, 0], [1, 1, 1], [0, 0, 0], [1, 0, 0]], np.float32)
    return SlotScores(losses, hits), labels, weights


@pytest.mark.parametrize("kind", ["accuracy", "loss"])
def test_an_average_per_id(kind):
    adapt = Adaptive(kind, V, decay=0.75)
    table = init_table(adapt)
    expected = {id: 0.0 if kind == "accuracy" else math.log(V) for id in range(V)}
    for seed in range(3):
        scores, labels, weights = scores_by_hand(seed)
        values = scores.hits if kind == "accuracy" else scores.losses
        met = {}
        for at in zip(*np.nonzero(weights), strict=True):
            met.setdefault(int(labels[at]), []).append(float(values[at]))
        for id, found in met.items():
            expected[id] = 0.75 * expected[id] + 0.25 * np.mean(found)
        table = update_table(adapt, table, id_sums(adapt, scores, labels, weights))
    assert table.dtype == jnp.float32
    np.testing.assert_allclose(table, list(expected.values()), rtol=1e-5)


def test_an_id_that_is_not_predicted_keeps_its_bits():
    adapt = Adaptive("loss", V, decay=0.0)
    table = init_table(adapt)
    weight = jnp.zeros(V).at[3].set(2)
    after = update_table(adapt, table, IdSums(5 * jnp.ones(V), weight))
    assert after[3] == 2.5 and (after.at[3].set(table[3]) == table).all()


@pytest.mark.parametrize("kind", ["accuracy", "loss"])
def test_weights_start_equal_and_stay_above_zero(kind):
    weights = table_weights(init_table(Adaptive(kind, V)), kind)
    assert weights.shape == (V,) and (weights == weights[0]).all() and weights[0] > 0.9
    table = jnp.array([0.25, 1.0, 0.0])
    expected = [0.75, FLOOR, 1.0] if kind == "accuracy" else [0.25, 1.0, FLOOR]
    np.testing.assert_allclose(table_weights(table, kind), expected)


# ---- in the step --------------------------------------------------------------------------------


def init_params(key):
    return {"word": jax.random.normal(key, (V, 4)), "body": {"bias": jnp.zeros(V)}}


def apply(params, batch, *, key=None):
    hidden = jnp.take_along_axis(params["word"][batch["token_ids"]], batch["at"][..., None], axis=1)
    return hidden @ params["word"].T + params["body"]["bias"]


def make_mask(kind, copies=1):
    """Predicts the P tokens of each row that weigh most in the table, the first ones if equal.

    With copies, the second copy of a row predicts the P that come next.
    """

    def mask(batch, step, table):
        ids = batch["token_ids"]
        order = jnp.argsort(-table_weights(table, kind)[ids], axis=1, stable=True)
        at = order[:, : copies * P].reshape(-1, P).astype(jnp.int32)
        rows = {name: jnp.repeat(values, copies, axis=0) for name, values in batch.items()}
        labels = jnp.take_along_axis(rows["token_ids"], at, axis=1)
        slots = {"at": at, "mask_ids": labels, "mask_weights": jnp.ones(at.shape)}
        hidden = jax.vmap(lambda row, at: row.at[at].set(0))(rows["token_ids"], at)
        counts = MaskCounts(jnp.float32(ids.size), jnp.float32(0), jnp.float32(at.size / copies))
        return rows | slots | {"token_ids": hidden}, counts

    return mask


def batch_at(k):
    ids = np.random.default_rng(k).integers(2, V, (ROWS, 9)).astype(np.int32)
    return {"token_ids": ids, "padding_mask": np.ones(ids.shape, bool)}


def make(kind="loss", devices=1, accumulation=1, copies=1, frozen=()):
    mesh = jax.make_mesh(
        (devices,), ("data",), axis_types=(AxisType.Auto,), devices=jax.devices()[:devices]
    )
    adapt = Adaptive(kind, V, decay=0.5)
    init = make_init_state(init_params, TX, mesh, frozen=frozen, adapt=adapt)
    step = make_train_step(
        apply,
        make_mask(kind, copies),
        TX,
        lambda step: 0.1,
        dropout_key=jax.random.key(1),
        mesh=mesh,
        accumulation=accumulation,
        frozen=frozen,
        adapt=adapt,
    )
    return init, step, lambda k: put_batch(mesh, batch_at(k))


def run(steps=4, **settings):
    """The state after some steps, and the metrics of each."""
    init, step, batch = make(**settings)
    state, metrics = init(jax.random.key(0)), []
    for k in range(steps):
        state, measured = step(state, batch(k))
        metrics.append(jax.device_get(measured))
    return jax.device_get(state), metrics


def by_hand(params, table, k, copies):
    """The table after a step of kind 'loss', with one row and slot at a time."""
    masked, _ = make_mask("loss", copies)(batch_at(k), 0, table)
    logits = np.asarray(apply(params, masked), np.float64)
    met = {}
    for row, labels in enumerate(np.asarray(masked["mask_ids"])):
        for slot, label in enumerate(labels):
            scores = logits[row, slot]
            loss = np.log(np.exp(scores).sum()) - scores[label]
            met.setdefault(int(label), []).append(loss)
    return [
        0.5 * old + 0.5 * np.mean(met[id]) if id in met else old
        for id, old in enumerate(table.tolist())
    ]


@pytest.mark.parametrize("copies", [1, 2])
def test_a_step_averages_what_it_predicted(copies):
    before, _ = run(steps=2, copies=copies)
    after, metrics = run(steps=3, copies=copies)
    expected = by_hand(before.params, before.mask_table, 2, copies)
    np.testing.assert_allclose(after.mask_table, expected, rtol=1e-5)
    assert len(set(after.mask_table.tolist())) > 6 and after.mask_table[0] == np.float32(np.log(V))
    last = metrics[-1]
    assert last.sums.weight == copies * ROWS * P and last.counts.corrupted == ROWS * P
    assert last.tokens == ROWS * 9


@pytest.mark.parametrize("kind", ["accuracy", "loss"])
@pytest.mark.parametrize("copies", [1, 2])
def test_devices_and_microbatches_agree(kind, copies):
    whole, measured = run(kind=kind, copies=copies)
    parts, again = run(kind=kind, copies=copies, devices=8, accumulation=2)
    np.testing.assert_allclose(parts.mask_table, whole.mask_table, atol=1e-5)
    np.testing.assert_allclose(
        [m.sums.loss for m in again], [m.sums.loss for m in measured], rtol=1e-5
    )


def test_frozen_params_do_not_stop_the_table():
    state, _ = run(frozen=frozenset({"word"}))
    init, *_ = make()
    np.testing.assert_array_equal(state.params["word"], init(jax.random.key(0)).params["word"])
    assert not (state.mask_table == np.float32(np.log(V))).all()


def test_a_skipped_update_leaves_the_table():
    init, step, batch = make()
    state, _ = step(init(jax.random.key(0)), batch(0))
    table = np.asarray(state.mask_table)
    params = jax.tree.map(lambda leaf: leaf * np.nan, state.params)
    after, metrics = step(state._replace(params=params), batch(1))
    assert not metrics.finite
    np.testing.assert_array_equal(after.mask_table, table)


def test_a_run_that_was_stopped_goes_on_bit_for_bit(tmp_path):
    whole, measured = run(steps=6)
    init, step, batch = make()
    state = init(jax.random.key(0))
    for k in range(3):
        state, _ = step(state, batch(k))
    with checkpoints_in(tmp_path / "checkpoints") as checkpoints:
        checkpoints.save(3, state, interval={}, loss=None)
    stopped = np.asarray(state.mask_table)
    with checkpoints_in(tmp_path / "checkpoints", read_only=True) as checkpoints:
        state, _ = checkpoints.restore(3, like=init(jax.random.key(5)))
    np.testing.assert_array_equal(state.mask_table, stopped)
    like = jax.eval_shape(lambda: state.mask_table)
    np.testing.assert_array_equal(restore_mask_table(like, tmp_path, 3), stopped)
    mask = make_mask("loss")
    chosen = []
    for k in range(3, 6):
        chosen.append(np.asarray(mask(batch_at(k), 0, state.mask_table)[0]["at"]))
        state, metrics = step(state, batch(k))
        assert metrics.sums.loss == measured[k].sums.loss
    for left, right in zip(*map(jax.tree.leaves, (state, whole)), strict=True):
        np.testing.assert_array_equal(left, right)
    # The masks depend on the table: with a fresh one they would be others.
    fresh = mask(batch_at(5), 0, init_table(Adaptive("loss", V)))[0]["at"]
    assert (chosen[-1] != np.asarray(fresh)).any()
