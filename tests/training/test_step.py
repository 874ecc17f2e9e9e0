"""One tiny model, one step function per device count: what every update must satisfy."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import AxisType

from mlm.masking import MaskingSpec
from mlm.models import DistilBertConfig, apply, create, create_abstract
from mlm.strategy import Strategy, mask_batch
from mlm.training import make_init_state, make_train_step
from mlm.training.sharding import put_batch
from mlm.training.spikes import WINDOW
from mlm.training.step import MaskCounts

CONFIG = DistilBertConfig(
    32, layers=1, width=8, heads=2, hidden=16, max_length=12, dropout=0.0, attention_dropout=0.0
)
SPEC = MaskingSpec(32, 4, 4, (0, 2, 3, 4), count="stochastic")
TX = optax.adamw(1e-2)
KEY = jax.random.key(3)


def batch_at(k, rows=16):
    rng = np.random.default_rng(k)
    ids = rng.integers(5, 32, (rows, 12)).astype(np.int32)
    lengths = rng.integers(3, 13, rows)
    real = np.arange(12) < lengths[:, None]
    return {
        "token_ids": np.where(real, ids, 0).astype(np.int32),
        "padding_mask": real,
        "example_ids": (k * rows + np.arange(rows)).astype(np.int32),
        "visits": np.zeros(rows, np.int32),
    }


@functools.cache
def setup(devices, accumulation, dropout):
    mesh = jax.make_mesh(
        (devices,), ("data",), axis_types=(AxisType.Auto,), devices=jax.devices()[:devices]
    )
    config = CONFIG if not dropout else DistilBertConfig(**{**vars(CONFIG), "dropout": dropout})
    graphdef, _ = create_abstract(config)
    init = make_init_state(lambda key: create(config, key)[1], TX, mesh)
    traces = []

    def counted_apply(params, batch, key=None):
        traces.append(1)
        return apply(graphdef, params, batch, key=key)

    step = make_train_step(
        counted_apply,
        lambda batch, step, table: mask_batch(batch, Strategy(SPEC), root=KEY, rate=0.3),
        TX,
        lambda step: 1e-2,
        dropout_key=KEY,
        mesh=mesh,
        accumulation=accumulation,
    )
    return init, step, functools.partial(put_batch, mesh), traces


def losses(devices, accumulation=1, steps=4, dropout=0.0):
    init, step, put, _ = setup(devices, accumulation, dropout)
    state, values = init(jax.random.key(0)), []
    for k in range(steps):
        state, metrics = step(state, put(batch_at(k)))
        values.append(float(metrics.sums.loss / metrics.sums.weight))
    return np.array(values), jax.device_get(state)


@pytest.mark.parametrize("devices", [2, 8])
def test_device_counts_agree(devices):
    one, _ = losses(1, steps=20)
    many, _ = losses(devices, steps=20)
    np.testing.assert_allclose(many, one, atol=1e-5)


def test_accumulation_equals_one_big_batch():
    whole, state = losses(2)
    parts, accumulated = losses(2, accumulation=4)
    np.testing.assert_allclose(parts, whole, atol=1e-5)
    # Adam divides by the gradient's size, so params tell more than losses.
    for a, b in zip(
        jax.tree.leaves(state.params), jax.tree.leaves(accumulated.params), strict=True
    ):
        np.testing.assert_allclose(a, b, atol=2e-4)


def test_the_same_run_twice_gives_the_same_bits():
    first, a = losses(1)
    second, b = losses(1)
    assert (first == second).all()
    leaves = zip(*map(jax.tree.leaves, (a, b)), strict=True)
    assert all(np.array_equal(x, y, equal_nan=True) for x, y in leaves)  # no losses yet are NaN


def test_one_compilation_serves_all_steps():
    losses(1)
    *_, traces = setup(1, 1, 0.0)
    losses(1, steps=6)
    assert len(traces) == 1


def test_metrics_count_what_the_batch_holds():
    init, step, put, _ = setup(1, 1, 0.0)
    batch = batch_at(0)
    state, metrics = step(init(jax.random.key(0)), put(batch))
    selectable = (~np.isin(batch["token_ids"], SPEC.unselectable_token_ids)).sum()
    assert int(state.step) == 1
    assert metrics.tokens == batch["padding_mask"].sum()
    assert metrics.counts.selectable == selectable
    assert metrics.counts.corrupted == metrics.sums.weight
    assert abs(metrics.sums.weight + metrics.counts.overflow - 0.3 * selectable) < 16
    assert metrics.finite and metrics.grad_norm > 0


def test_the_loss_is_right_when_one_device_holds_all_masks():
    # Trap T10: a mean of the devices' means would be an eighth of it, or NaN.
    batch = batch_at(0)
    batch["token_ids"][2:], batch["padding_mask"][2:] = 0, False
    values = []
    for devices in (1, 8):
        init, step, put, _ = setup(devices, 1, 0.0)
        state, metrics = step(init(jax.random.key(0)), put(batch))
        values.append([metrics.sums.loss, metrics.sums.weight, metrics.grad_norm])
        values[-1] += [np.abs(x).sum() for x in jax.tree.leaves(jax.device_get(state.params))]
    assert values[0][1] > 0
    np.testing.assert_allclose(*values, rtol=1e-5, atol=1e-6)


def test_a_batch_without_masks_only_decays_weights():
    init, step, put, _ = setup(1, 1, 0.0)
    state = init(jax.random.key(0))
    before = jax.device_get(state.params)
    batch = {**batch_at(0), "token_ids": np.zeros((16, 12), np.int32)}
    after, metrics = step(state, put(batch))
    assert metrics.sums.loss == 0 and metrics.sums.weight == 0 and metrics.finite
    for old, new in zip(*map(jax.tree.leaves, (before, after.params)), strict=True):
        np.testing.assert_allclose(new, old * (1 - 1e-2 * 1e-4), rtol=1e-6)  # adamw's default


def test_a_step_that_is_not_finite_is_skipped_and_reported():
    init, step, put, _ = setup(1, 1, 0.0)
    state = init(jax.random.key(0))
    params = jax.tree.map(np.array, state.params)
    params["head"]["output_bias"][5] = np.nan
    broken = state._replace(params=jax.device_put(params, state.step.sharding))
    after, metrics = step(broken, put(batch_at(0)))
    assert not metrics.finite and int(after.step) == 1
    np.testing.assert_array_equal(
        after.params["backbone"]["embeddings"]["word"], params["backbone"]["embeddings"]["word"]
    )
    assert not any(np.isnan(x).any() for x in jax.tree.leaves(after.opt_state))


@pytest.mark.parametrize("skip", [False, True])
def test_an_update_on_a_spike_is_skipped_if_asked(skip):
    mesh = jax.make_mesh((1,), ("data",), axis_types=(AxisType.Auto,), devices=jax.devices()[:1])
    labels = np.zeros((4, 2), np.int32)
    batch = {"padding_mask": np.ones((4, 2), bool), "mask_ids": labels}
    batch = put_batch(mesh, batch | {"mask_weights": np.ones((4, 2), np.float32)})
    step = make_train_step(
        lambda params, batch, key=None: params["w"] * jnp.ones((4, 2, 3)),
        lambda batch, step, table: (batch, MaskCounts(*jnp.zeros(3))),
        TX,
        lambda step: 1.0,
        dropout_key=KEY,
        mesh=mesh,
        loss=lambda logits, labels: logits.sum(-1),
        skip_spikes=skip,
    )
    init = make_init_state(lambda key: {"w": jnp.ones(())}, TX, mesh)
    recent = np.linspace(0.9, 1.1, WINDOW, dtype=np.float32)
    state = init(KEY)._replace(recent_losses=jnp.asarray(recent))
    after, metrics = step(state, batch)  # the loss is 3
    assert metrics.finite and metrics.spike and int(after.step) == 1
    assert (float(after.params["w"]) == 1) == skip
    assert float(after.recent_losses[-1]) == pytest.approx(1 + 6 * recent.std(ddof=1), rel=1e-6)
    state = init(KEY)._replace(recent_losses=jnp.linspace(2, 4, WINDOW))
    after, metrics = step(state, batch)
    assert not metrics.spike and float(after.params["w"]) < 1
    assert float(after.recent_losses[-1]) == 3


def test_dropout_follows_the_step_and_nothing_else():
    first, _ = losses(1, steps=2, dropout=0.5)
    again, _ = losses(1, steps=2, dropout=0.5)
    without, _ = losses(1, steps=2)
    assert (first == again).all() and (first != without).all()
    init, step, put, _ = setup(1, 1, 0.5)
    state = init(jax.random.key(0))
    later = state._replace(step=jnp.int32(9) + state.step)
    state_loss = step(init(jax.random.key(0)), put(batch_at(0)))[1].sums.loss
    assert step(later, put(batch_at(0)))[1].sums.loss != state_loss


def test_training_learns():
    init, step, put, _ = setup(1, 1, 0.0)
    state, values = init(jax.random.key(0)), []
    for _ in range(40):
        state, metrics = step(state, put(batch_at(0)))
        values.append(float(metrics.sums.loss / metrics.sums.weight))
    assert values[-1] < values[0] - 1


def test_another_loss_and_weights_of_less_than_one_in_all():
    # One step of plain gradient descent, so that the update is the gradient.
    config, rows = CONFIG, 8
    graphdef, params = create(config, jax.random.key(0))
    run = functools.partial(apply, graphdef)
    slots = {
        "mask_positions": np.ones((rows, 1), np.int32),
        "mask_ids": np.full((rows, 1), 7, np.int32),
        "mask_weights": np.linspace(0, 0.2, rows, dtype=np.float32)[:, None],
    }
    batch = {**batch_at(0, rows), **slots}

    def spread(logits, labels):
        return jnp.square(logits).mean(-1) + labels

    def by_hand(params):
        losses = spread(run(params, batch), slots["mask_ids"])
        return (losses * slots["mask_weights"]).sum() / slots["mask_weights"].sum()

    mesh = jax.make_mesh((1,), ("data",), axis_types=(AxisType.Auto,), devices=jax.devices()[:1])
    tx = optax.sgd(1.0)
    step = make_train_step(
        run,
        lambda batch, step, table: (batch, MaskCounts(*jnp.zeros(3))),
        tx,
        lambda step: 1.0,
        dropout_key=KEY,
        mesh=mesh,
        loss=spread,
    )
    loss, gradient = jax.jit(jax.value_and_grad(by_hand))(params)
    state = make_init_state(lambda key: jax.tree.map(jnp.copy, params), tx, mesh)(KEY)
    after, metrics = step(state, put_batch(mesh, batch))
    np.testing.assert_allclose(metrics.sums.loss / metrics.sums.weight, loss, rtol=1e-6)
    leaves = (jax.tree.leaves(tree) for tree in (params, gradient, after.params))
    for old, grad, new in zip(*leaves, strict=True):
        np.testing.assert_allclose(new, old - grad, atol=1e-6)
