"""What is frozen keeps its bits and costs nothing; what is not is trained as ever."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from mlm.errors import ConfigError
from mlm.models import DistilBertConfig, create_abstract
from mlm.training import make_init_state, make_train_step
from mlm.training.freezing import frozen_paths, leaf_paths, merge, split
from mlm.training.sharding import make_mesh, put_batch
from mlm.training.step import MaskCounts

_, ABSTRACT = create_abstract(DistilBertConfig(32, layers=1, width=8, heads=2, hidden=16))
MESH = make_mesh()
HEAD = {
    "head/dense/bias",
    "head/dense/kernel",
    "head/norm/bias",
    "head/norm/scale",
    "head/output_bias",
}


def init_params(key):
    """A model that compiles in no time: two layers between a tied embedding, as in DistilBERT."""
    normal = lambda i, *shape: jax.random.normal(jax.random.fold_in(key, i), shape)  # noqa: E731
    layers = {i: {"kernel": normal(i, 4, 4), "bias": -jnp.zeros(4)} for i in range(2)}
    return {"body": {"word": normal(2, 9, 4), "layers": layers}, "head": {"bias": normal(3, 9)}}


def apply(params, batch, key=None):
    assert key is not None  # dropout is on, whatever is frozen
    x = params["body"]["word"][batch["token_ids"]]
    for layer in params["body"]["layers"].values():
        x = jnp.tanh(x @ layer["kernel"] + layer["bias"])
    return x @ params["body"]["word"].T + params["head"]["bias"]


def mask(batch, step, table):
    slots = {"mask_ids": batch["token_ids"], "mask_weights": jnp.ones(batch["token_ids"].shape)}
    return batch | slots, MaskCounts(*jnp.zeros(3))


def make(tx, patterns, accumulation=1):
    """`(init_state, step, frozen)` of that model."""
    frozen = frozen_paths(jax.eval_shape(init_params, jax.random.key(0)), patterns)
    step = make_train_step(
        apply,
        mask,
        tx,
        lambda step: 1.0,
        dropout_key=jax.random.key(3),
        mesh=MESH,
        accumulation=accumulation,
        frozen=frozen,
    )
    return make_init_state(init_params, tx, MESH, frozen=frozen), step, frozen


def batch_at(k):
    ids = np.random.default_rng(k).integers(0, 9, (16, 5)).astype(np.int32)
    return put_batch(MESH, {"token_ids": ids, "padding_mask": ids >= 0})


def by_path(params):
    leaves = map(np.asarray, jax.tree.leaves(params))
    return dict(zip(leaf_paths(params), leaves, strict=True))


# ---- patterns -----------------------------------------------------------------------------------


def test_the_backbone_frozen_leaves_the_five_leaves_of_the_head():
    frozen = frozen_paths(ABSTRACT, ("backbone/.*",))
    assert set(leaf_paths(ABSTRACT)) - frozen == HEAD
    assert "backbone/embeddings/word" in frozen  # although the head scores the vocabulary with it


def test_patterns_add_up_and_match_whole_paths():
    frozen = frozen_paths(ABSTRACT, ("backbone/layers/0/attention/.*/bias", ".*/word"))
    attention = (f"backbone/layers/0/attention/{n}/bias" for n in ("query", "key", "value", "out"))
    assert frozen == {*attention, "backbone/embeddings/word"}
    assert frozen_paths(ABSTRACT, ()) == frozenset()


def test_patterns_that_match_nothing_are_told_with_ten_close_paths():
    with pytest.raises(ConfigError) as error:
        frozen_paths(ABSTRACT, ("backbone", "backbone/.*", "head/dense/kernell"))
    first, second = error.value.problems
    assert first.startswith("train.freeze has 'backbone', which matches none of the 25 parameter")
    assert second.split("close ones are ")[1].startswith("head/dense/kernel, ")
    assert second.count("/") > 10 and len(second.split("close ones are ")[1].split(", ")) == 10


def test_something_must_be_left_to_train():
    with pytest.raises(ConfigError, match=r"'head/.*'.* leaves none of the 25 parameter arrays"):
        frozen_paths(ABSTRACT, ("backbone/.*", "head/.*"))


def test_what_was_split_comes_together_again():
    params = init_params(jax.random.key(0))
    for patterns in ((), ("body/.*",), (".*/bias", "body/layers/1/.*")):
        frozen = frozen_paths(params, patterns)
        trained, rest = split(params, frozen)
        assert set(leaf_paths(rest)) == frozen and not frozen & set(leaf_paths(trained))
        again = merge(trained, rest)
        assert jax.tree.structure(again) == jax.tree.structure(params)
        leaves = zip(jax.tree.leaves(again), jax.tree.leaves(params), strict=True)
        assert all(mine is theirs for mine, theirs in leaves)


# ---- steps --------------------------------------------------------------------------------------


@pytest.mark.parametrize("accumulation", [1, 2])
def test_frozen_bits_stay_and_the_others_move(accumulation):
    tx = optax.chain(optax.clip_by_global_norm(1.0), optax.adamw(1e-2, weight_decay=0.5))
    init, step, frozen = make(tx, ("body/word", "body/layers/0/.*"), accumulation)
    assert len(frozen) == 3
    state = init(jax.random.key(0))
    before = by_path(state.params)
    assert np.signbit(before["body/layers/0/bias"]).all()  # -0: even adding 0 would change it
    for k in range(3):
        state, metrics = step(state, batch_at(k))
        assert metrics.finite and metrics.sums.weight == 80
    for path, leaf in by_path(state.params).items():
        assert (leaf.tobytes() == before[path].tobytes()) == (path in frozen), path
    moments = state.opt_state[1][0]
    assert set(leaf_paths(moments.mu)) == set(leaf_paths(moments.nu)) == set(before) - frozen
    assert len(jax.tree.leaves(state.opt_state)) == 2 * 3 + 1  # and a count


@pytest.mark.parametrize("clip", [0.01, 100.0])
def test_the_norm_and_clipping_count_what_is_trained(clip):
    tx = optax.chain(optax.clip_by_global_norm(clip), optax.sgd(1.0))
    init, step, _ = make(tx, ("body/.*",))
    state = init(jax.random.key(0))
    before = by_path(state.params)
    after, metrics = step(state, batch_at(0))
    moved = [leaf - before[path] for path, leaf in by_path(after.params).items()]
    # Were frozen gradients counted, the norm would be larger and the clipped step shorter.
    np.testing.assert_allclose(optax.tree.norm(moved), min(clip, metrics.grad_norm), rtol=1e-4)
    assert 0.01 < metrics.grad_norm < 100


def test_without_patterns_the_state_is_that_of_the_whole_optimizer():
    tx = optax.adamw(1e-2)
    state = jax.eval_shape(make(tx, ())[0], jax.random.key(0))
    whole = jax.eval_shape(lambda: tx.init(init_params(jax.random.key(0))))
    assert jax.tree.structure(state.opt_state) == jax.tree.structure(whole)


# ---- given params -------------------------------------------------------------------------------


def test_a_state_from_given_params_has_their_bits_and_leaves_them_alone():
    given = jax.tree.map(np.array, init_params(jax.random.key(7)))
    kept = by_path(jax.tree.map(np.copy, given))
    tx = optax.sgd(1.0)
    init = make_init_state(init_params, tx, MESH, given=given)
    state = init(jax.random.key(0))
    jax.tree.map(np.testing.assert_array_equal, by_path(state.params), kept)
    after, _ = make(tx, ())[1](state, batch_at(0))  # the step reuses the state's buffers
    assert (np.asarray(after.params["head"]["bias"]) != kept["head/bias"]).any()
    jax.tree.map(np.testing.assert_array_equal, by_path(given), kept)
