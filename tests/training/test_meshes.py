"""One tiny model on several meshes: the same masks and losses, and what the devices exchange."""

import functools
import re
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from mlm.masking import MaskingSpec
from mlm.models import DistilBertConfig
from mlm.network import make_network
from mlm.strategy import Strategy, mask_batch
from mlm.training import make_init_state, make_train_step
from mlm.training.adaptive import Adaptive, table_weights
from mlm.training.checkpoint import checkpoints_in
from mlm.training.parameter_rules import state_shardings
from mlm.training.sharding import MeshShape, make_mesh, put_batch

# 42 ids, as 30,522 of the public vocabulary, are split by neither 4 nor 8.
ROWS, LENGTH, SLOTS, V = 48, 12, 5, 42
CONFIG = DistilBertConfig(V, layers=1, width=16, heads=4, hidden=32, max_length=LENGTH)
SPEC = MaskingSpec(V, 4, SLOTS, (0, 2, 3, 4), count="stochastic")
TX = optax.chain(optax.clip_by_global_norm(1.0), optax.adamw(1e-2))
KEY = jax.random.key(3)
SHAPES = {
    "one": MeshShape(data=1),
    "data": MeshShape(),
    "fsdp": MeshShape(data=1, fsdp=8),
    "tensor": MeshShape(data=2, tensor=-1),
    "mixed": MeshShape(slices=2, data=1, fsdp=2, tensor=2),
}
# 48 rows, 48 * 12 tokens, 48 * 5 slots, and their copies: nothing else in a step has these sizes.
WHOLE_BATCHES = {c * n for n in (ROWS, ROWS * LENGTH, ROWS * SLOTS) for c in (1, 2)}


@pytest.fixture(scope="module", autouse=True)
def quickly_built(quick_compiles):
    """The collectives are those of any code."""
    yield
    built.cache_clear()


class Built(NamedTuple):
    init: object
    step: object  # compiled
    put: object
    mesh: jax.sharding.Mesh


class Seen(NamedTuple):
    """What stands in for `MaskCounts`: exact sums of all that masking gave."""

    selectable: jax.Array
    overflow: jax.Array
    corrupted: jax.Array


def digest(masked) -> jax.Array:
    """`uint32[]`: whole numbers, so that it is the same in whatever order they are added."""
    total = jnp.uint32(0)
    for i, name in enumerate(sorted(masked)):
        values = masked[name].astype(jnp.uint32)
        places = jnp.arange(values.size, dtype=jnp.uint32).reshape(values.shape)
        total += jnp.sum((values + 1) * (places * np.uint32(2654435761) + np.uint32(i + 1)))
    return total


def batch_at(k):
    rng = np.random.default_rng(k)
    ids = rng.integers(5, V, (ROWS, LENGTH)).astype(np.int32)
    real = np.arange(LENGTH) < rng.integers(3, LENGTH + 1, ROWS)[:, None]
    return {
        "token_ids": np.where(real, ids, 0).astype(np.int32),
        "padding_mask": real,
        "example_ids": (k * ROWS + np.arange(ROWS)).astype(np.int32),
        "visits": np.zeros(ROWS, np.int32),
    }


@functools.cache
def built(name, adaptive=False):
    """A plain step, or one with copies, weights that adapt and two microbatches."""
    mesh = make_mesh(SHAPES[name], devices=jax.devices()[:1] if name == "one" else None)
    network = make_network(CONFIG, mesh=mesh)
    adapt = Adaptive("loss", V, decay=0.5) if adaptive else None
    weights = lambda keys, ids, table: table_weights(table, "loss")  # noqa: E731
    strategy = Strategy(SPEC, weights=weights, copies=2) if adaptive else Strategy(SPEC)
    init = make_init_state(network.init, TX, mesh, adapt=adapt)

    def mask(batch, step, table):
        masked, counts = mask_batch(batch, strategy, root=KEY, rate=0.2, table=table)
        return masked, Seen(counts.selectable, digest(masked), counts.corrupted)

    step = make_train_step(
        network.apply,
        mask,
        TX,
        lambda step: 1e-2,
        dropout_key=KEY,
        mesh=mesh,
        shardings=state_shardings(jax.eval_shape(init, KEY), mesh),
        accumulation=2 if adaptive else 1,
        adapt=adapt,
    )
    lowered = step.lower(jax.eval_shape(init, KEY), jax.eval_shape(lambda: batch_at(0)))
    return Built(init, lowered.compile(), functools.partial(put_batch, mesh), mesh)


def run(name, steps=20, **settings):
    """Losses, mask digests, and the state after some steps."""
    init, step, put, _ = built(name, **settings)
    state, losses, masks = init(KEY), [], []
    for k in range(steps):
        state, metrics = step(state, put(batch_at(k)))
        losses.append(float(metrics.sums.loss / metrics.sums.weight))
        masks.append(int(metrics.counts.overflow))
    return np.array(losses), masks, state


def same(a, b):
    leaves = zip(*map(jax.tree.leaves, (a, b)), strict=True)
    return all(np.array_equal(x, y, equal_nan=True) for x, y in leaves)


@pytest.mark.parametrize("name", ["data", "fsdp", "tensor", "mixed"])
def test_every_mesh_has_the_masks_and_losses_of_one_device(name):
    expected, masks, one = run("one")
    losses, found, state = run(name)
    assert found == masks and len(set(masks)) == 20
    np.testing.assert_allclose(losses, expected, atol=1e-5)
    assert expected[-1] < expected[0]
    for a, b in zip(jax.tree.leaves(one.params), jax.tree.leaves(state.params), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-3)


@pytest.mark.parametrize("name", ["fsdp", "mixed"])
def test_the_same_mesh_twice_gives_the_same_bits(name):
    first, _, a = run(name, steps=5)
    again, _, b = run(name, steps=5)
    assert (first == again).all() and same(jax.device_get(a), jax.device_get(b))


def test_tables_that_adapt_copies_and_microbatches_under_fsdp_are_those_of_one_device():
    # Masks follow the losses, which agree to rounding: so do masks, but for ties.
    expected, masks, one = run("one", adaptive=True)
    losses, found, state = run("fsdp", adaptive=True)
    assert found == masks
    np.testing.assert_allclose(losses, expected, atol=1e-5)
    np.testing.assert_allclose(one.mask_table, state.mask_table, atol=1e-4)
    assert state.mask_table.sharding.is_fully_replicated and state.mask_table.std() > 0.01


# ---- where the state lies -----------------------------------------------------------------------


def device_share(tree):
    held = sum(x.addressable_shards[0].data.nbytes for x in jax.tree.leaves(tree))
    return held / sum(x.nbytes for x in jax.tree.leaves(tree))


@pytest.mark.parametrize(("name", "share"), [("one", 1), ("data", 1), ("fsdp", 8), ("mixed", 4)])
def test_a_device_holds_its_part_of_the_state_before_and_after_a_step(name, share):
    init, step, put, mesh = built(name)
    state = init(KEY)
    layout = state_shardings(state, mesh)
    after, _ = step(init(KEY), put(batch_at(0)))
    for found in (state, after):
        assert jax.tree.map(lambda x: x.sharding, found) == layout
        matrices = [x for x in jax.tree.leaves((found.params, found.opt_state)) if x.ndim > 1]
        assert device_share(matrices) == pytest.approx(1 / share, rel=0.15)  # `position`, `dense`


def test_a_state_is_made_in_parts_and_has_the_values_of_one_device():
    one, parts = built("one").init(KEY), built("fsdp").init(KEY)
    assert same(jax.device_get(one), jax.device_get(parts))
    # No device has the whole of a matrix at any time: the program that makes them never holds one.
    lowered = built("fsdp").init.lower(KEY)
    made = lowered.compile().as_text()
    assert f"f32[{V},2]" in made and f"f32[{V},16]" not in made
    given = jax.device_get(one.params)
    mesh = built("fsdp").mesh
    again = make_init_state(None, TX, mesh, given=given)(KEY)
    assert jax.tree.map(lambda x: x.sharding, again) == state_shardings(again, mesh)
    assert same(given, jax.device_get(again.params))


def test_a_checkpoint_goes_from_any_mesh_to_any_other(tmp_path):
    saved = run("fsdp", steps=2)[2]
    with checkpoints_in(tmp_path) as checkpoints:
        checkpoints.save(2, saved, interval={}, loss=None)
        checkpoints.wait()
        for name in ("data", "tensor", "mixed", "one"):
            init, step, put, mesh = built(name)
            state, _ = checkpoints.restore(2, like=init(KEY))
            assert jax.tree.map(lambda x: x.sharding, state) == state_shardings(state, mesh)
            assert same(jax.device_get(saved), jax.device_get(state))
            step(state, put(batch_at(2)))  # and it is one that can be trained


# ---- what the devices exchange ------------------------------------------------------------------

COLLECTIVE = r" = (.*?) (all-gather|all-reduce|all-to-all|collective-permute|reduce-scatter)\("


def collectives(name, **settings):
    """Kind and sizes of what comes out of each collective of a step."""
    text = built(name, **settings).step.as_text()
    found = re.findall(COLLECTIVE, text.replace("-start(", "("))
    return [(kind, re.findall(r"\w+\[([\d,]*)\]", shapes)) for shapes, kind in found]


def moves_a_whole_batch(found):
    return any(
        WHOLE_BATCHES & {int(n) for n in shape.split(",") if n}
        for _, shapes in found
        for shape in shapes
    )


def test_a_data_parallel_step_only_adds_up():
    assert not collectives("one")
    assert {kind for kind, _ in collectives("data")} == {"all-reduce"}


@pytest.mark.parametrize("name", ["fsdp", "tensor", "mixed"])
def test_no_device_gets_the_activations_of_the_whole_batch(name):
    found = collectives(name)
    assert found and not moves_a_whole_batch(found)
    gathered = [shape for kind, shapes in found if kind == "all-gather" for shape in shapes]
    # Two embeddings, six kernels of a layer and one of the head; under `tensor` the word embedding.
    assert len(gathered) == (1 if name == "tensor" else 9)
    assert not {kind for kind, _ in found} & {"all-to-all", "collective-permute"}


def test_microbatches_and_copies_move_no_whole_batch_either():
    assert not moves_a_whole_batch(collectives("fsdp", adaptive=True))
