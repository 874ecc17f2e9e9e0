"""The model as training sees it: a structure, a plain dict of parameters and a pure function."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
import pytest
from flax import nnx

from mlm.models import (
    DistilBertConfig,
    MaskedLM,
    apply,
    create,
    create_abstract,
    create_backbone,
    create_head,
    parameter_count,
)

CONFIG = DistilBertConfig(
    vocabulary_size=31,
    layers=2,
    width=16,
    heads=2,
    hidden=24,
    max_length=12,
    initializer_stddev=0.2,
)
BATCH = {
    "token_ids": np.array([[2, 7, 9, 4, 3, 2, 11, 3], [2, 5, 3, 0, 0, 0, 0, 0]], np.int32),
    "padding_mask": np.array([[1] * 8, [1] * 3 + [0] * 5], bool),
    "mask_positions": np.array([[1, 6, 0], [1, 0, 0]], np.int32),
}
EVERYWHERE = {name: BATCH[name] for name in ("token_ids", "padding_mask")}
jitted = jax.jit(apply)


@pytest.fixture(scope="module")
def model():
    return create(CONFIG, jax.random.key(0))


def paths(params):
    return [
        jax.tree_util.keystr(path, simple=True, separator="/")
        for path, _ in jax.tree.leaves_with_path(params)
    ]


@pytest.mark.parametrize(
    "vocabulary_size, backbone, whole",
    [
        (30_522, 66_362_880, 66_985_530),  # distilbert-base-uncased
        (28_996, 65_190_912, 65_812_036),  # distilbert-base-cased
        (119_547, 134_734_080, 135_445_755),  # distilbert-base-multilingual-cased
    ],
)
def test_parameter_counts_of_the_public_models(vocabulary_size, backbone, whole):
    _, params = create_abstract(DistilBertConfig(vocabulary_size))
    assert parameter_count(params["backbone"]) == backbone
    assert parameter_count(params) == whole


def test_a_head_alone_is_random_and_fits(model):
    _, params = model
    head = create_head(CONFIG, jax.random.key(1))
    shapes = [
        jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), h) for h in (head, params["head"])
    ]
    assert shapes[0] == shapes[1]
    kernels = [create_head(CONFIG, jax.random.key(k))["dense"]["kernel"] for k in (1, 2)]
    np.testing.assert_array_equal(head["dense"]["kernel"], kernels[0])
    assert np.std(kernels[0]) == pytest.approx(CONFIG.initializer_stddev, rel=0.2)
    assert not np.array_equal(*kernels)


def test_params_are_plain_dicts_of_float32_with_readable_paths(model):
    _, params = model
    nodes = [params]
    for node in nodes:
        if type(node) is dict:
            nodes.extend(node.values())
        else:
            assert isinstance(node, jax.Array) and node.dtype == jnp.float32
    assert "backbone/layers/0/attention/query/kernel" in paths(params)
    assert [path for path in paths(params) if "/layers/" not in path] == [
        "backbone/embeddings/norm/bias",
        "backbone/embeddings/norm/scale",
        "backbone/embeddings/position",
        "backbone/embeddings/word",
        "head/dense/bias",
        "head/dense/kernel",
        "head/norm/bias",
        "head/norm/scale",
        "head/output_bias",
    ]


def test_initial_values(model):
    _, params = model
    normal = []
    for path, leaf in zip(paths(params), jax.tree.leaves(params), strict=True):
        if path.endswith("scale"):
            assert (leaf == 1).all(), path
        elif path.endswith("bias"):
            assert (leaf == 0).all(), path
        else:
            normal.append(np.ravel(leaf) / CONFIG.initializer_stddev)
            # A sample deviation is within 5 of its own standard errors, 1 / sqrt(2 n).
            assert abs(normal[-1].std() - 1) < 5 / np.sqrt(2 * leaf.size), path
            assert abs(normal[-1].mean()) < 5 / np.sqrt(leaf.size), path
    assert np.abs(np.concatenate(normal)).max() > 2.6  # Not truncated at two deviations.


def test_create_runs_under_jit_and_eval_shape(model):
    graphdef, params = model
    compiled_graphdef, compiled = jax.jit(create, static_argnums=0)(CONFIG, jax.random.key(0))
    abstract_graphdef, abstract = create_abstract(CONFIG)
    assert compiled_graphdef == abstract_graphdef == graphdef
    assert hash(abstract_graphdef) == hash(graphdef)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), compiled, params)
    assert jax.tree.map(jnp.shape, params) == jax.tree.map(lambda leaf: leaf.shape, abstract)


def test_logits_at_mask_positions_are_those_of_all_positions(model):
    at_masks, everywhere = jitted(*model, BATCH), jitted(*model, EVERYWHERE)
    assert at_masks.shape == (2, 3, 31) and everywhere.shape == (2, 8, 31)
    picked = np.take_along_axis(np.asarray(everywhere), BATCH["mask_positions"][:, :, None], axis=1)
    np.testing.assert_allclose(at_masks, picked, atol=1e-5)


def test_packed_sequences_give_the_logits_of_each_alone(model):
    tokens = BATCH["token_ids"][:1]
    packed = {
        "token_ids": tokens,
        "segment_ids": np.array([[1] * 5 + [2] * 3], np.int32),
        "position_ids": np.array([[0, 1, 2, 3, 4, 0, 1, 2]], np.int32),
    }
    alone = {
        "token_ids": np.concatenate([tokens, np.roll(tokens, -5, axis=1)]),
        "padding_mask": np.arange(8) < np.array([[5], [3]]),
    }
    (logits,), (first, second) = jitted(*model, packed), jitted(*model, alone)
    np.testing.assert_allclose(logits[:5], first[:5], atol=1e-5)
    np.testing.assert_allclose(logits[5:], second[:3], atol=1e-5)


def test_the_decoder_is_the_word_embedding(model):
    graphdef, params = model
    word = params["backbone"]["embeddings"]["word"]
    # Id 30 is in no row, so that its embedding reaches the logits through the decoder alone.
    moved = jax.tree.map(lambda x: x, params)
    moved["backbone"]["embeddings"]["word"] = word.at[30].add(1.0)
    change = np.asarray(jitted(graphdef, moved, BATCH) - jitted(graphdef, params, BATCH))
    assert (change[..., :30] == 0).all() and (change[..., 30] != 0).all()


def test_gradients_are_a_plain_dict_and_finite_also_for_an_all_padding_row(model):
    graphdef, params = model
    batch = BATCH | {"padding_mask": BATCH["padding_mask"] & np.array([[True], [False]])}
    grads = jax.jit(jax.grad(lambda p: jnp.square(apply(graphdef, p, batch)).mean()))(params)
    assert jax.tree.structure(grads) == jax.tree.structure(params)
    for path, grad in zip(paths(grads), jax.tree.leaves(grads), strict=True):
        assert jnp.isfinite(grad).all(), path
        # A bias of the keys shifts all scores of a query alike: softmax does not see it.
        assert path.endswith("attention/key/bias") or (grad != 0).any(), path


def test_a_key_turns_on_dropout(model):
    with_key = jitted(*model, BATCH, key=jax.random.key(1))
    np.testing.assert_array_equal(with_key, jitted(*model, BATCH, key=jax.random.key(1)))
    assert np.abs(with_key - jitted(*model, BATCH, key=jax.random.key(2))).max() > 1e-2
    np.testing.assert_array_equal(jitted(*model, BATCH), jitted(*model, BATCH))


def test_bfloat16_products_give_float32_logits_and_gradients(model):
    _, params = model
    graphdef, abstract = create_abstract(dataclasses.replace(CONFIG, dtype="bfloat16"))
    grads = jax.eval_shape(jax.grad(lambda p: apply(graphdef, p, BATCH).sum()), abstract)
    for tree in (abstract, grads):
        assert {leaf.dtype for leaf in jax.tree.leaves(tree)} == {jnp.dtype("float32")}
    logits, exact = jitted(graphdef, params, BATCH), jitted(*model, BATCH)
    assert logits.dtype == jnp.float32
    assert 0 < np.abs(logits - exact).max() < 0.03 * np.abs(exact).max()


def test_merge_gives_the_object_and_leaves_params_alone(model):
    graphdef, params = model
    leaves = jax.tree.leaves(params)
    merged = nnx.merge(graphdef, params)
    assert isinstance(merged, MaskedLM)
    assert jax.eval_shape(merged.backbone, BATCH).shape == (2, 8, 16)
    merged.head.output_bias[...] = jnp.ones(31)
    assert all(a is b for a, b in zip(jax.tree.leaves(params), leaves, strict=True))


def test_params_survive_a_checkpoint(model, tmp_path):
    _, params = model
    _, abstract = create_abstract(CONFIG)
    with ocp.CheckpointManager(tmp_path) as manager:
        manager.save(0, args=ocp.args.StandardSave(params))
        manager.wait_until_finished()
        restored = manager.restore(0, args=ocp.args.StandardRestore(abstract))
    assert jax.tree.structure(restored) == jax.tree.structure(params)
    jax.tree.map(np.testing.assert_array_equal, restored, params)


def test_a_backbone_and_a_head_by_themselves(model):
    graphdef, params = model
    alone, encoder = create_backbone(CONFIG, jax.random.key(0))
    same = jax.tree.map(np.array_equal, encoder, params["backbone"])
    assert all(jax.tree.leaves(same))  # the draws of the whole model
    hidden = jitted(alone, encoder, EVERYWHERE)
    expected = nnx.merge(graphdef, params).backbone(EVERYWHERE)
    np.testing.assert_allclose(hidden, expected, atol=1e-6)
    head = create_head(CONFIG, jax.random.key(1))
    assert jax.tree.map(jnp.shape, head) == jax.tree.map(jnp.shape, params["head"])
