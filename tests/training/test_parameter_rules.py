"""Which axis is split, by path and shape; nothing is compiled."""

import jax
import jax.numpy as jnp
import optax
import pytest
from jax.sharding import AbstractMesh, PartitionSpec

from mlm.models import DistilBertConfig, create_abstract
from mlm.training.adaptive import Adaptive
from mlm.training.freezing import leaf_paths
from mlm.training.parameter_rules import (
    TENSOR_RULES,
    parameter_shardings,
    parameter_spec,
    state_shardings,
)
from mlm.training.sharding import AXES
from mlm.training.step import new_state

BASE = create_abstract(DistilBertConfig(30522))[1]
LAYER = "backbone/layers/3"


def mesh(fsdp=1, tensor=1):
    return AbstractMesh((1, 1, fsdp, tensor), AXES)


def specs(tree):
    return dict(zip(leaf_paths(tree), (s.spec for s in jax.tree.leaves(tree)), strict=True))


@pytest.mark.parametrize(
    ("path", "shape", "fsdp", "tensor", "spec"),
    [
        # 30,522 is 2 * 3 * 5087: neither 4 nor 8 divides it, and another axis is picked.
        ("backbone/embeddings/word", (30522, 768), 8, 1, (None, "fsdp")),
        ("backbone/embeddings/word", (30522, 768), 4, 1, (None, "fsdp")),
        ("backbone/embeddings/word", (30522, 768), 2, 1, ("fsdp", None)),
        ("backbone/embeddings/word", (30522, 768), 4, 2, ("tensor", "fsdp")),
        ("backbone/embeddings/word", (30522, 768), 1, 4, (None, "tensor")),
        ("backbone/embeddings/word", (30522, 768), 4, 4, (None, "tensor")),  # width is taken
        ("backbone/embeddings/word", (30521, 767), 4, 4, ()),
        ("backbone/embeddings/position", (512, 768), 8, 4, (None, "fsdp")),
        (f"{LAYER}/attention/query/kernel", (768, 768), 8, 1, ("fsdp", None)),
        (f"{LAYER}/attention/value/kernel", (768, 768), 8, 2, ("fsdp", "tensor")),
        (f"{LAYER}/attention/out/kernel", (768, 768), 8, 2, ("tensor", "fsdp")),
        (f"{LAYER}/attention/key/bias", (768,), 8, 2, ("tensor",)),
        (f"{LAYER}/attention/out/bias", (768,), 8, 2, ()),
        (f"{LAYER}/feed_forward/up/kernel", (768, 3072), 8, 1, (None, "fsdp")),
        (f"{LAYER}/feed_forward/up/kernel", (768, 3072), 8, 2, ("fsdp", "tensor")),
        (f"{LAYER}/feed_forward/up/bias", (3072,), 8, 2, ("tensor",)),
        (f"{LAYER}/feed_forward/down/kernel", (3072, 768), 8, 2, ("tensor", "fsdp")),
        (f"{LAYER}/attention_norm/scale", (768,), 8, 2, ()),
        ("head/output_bias", (30522,), 8, 2, ("tensor",)),
        ("head/output_bias", (30522,), 8, 4, ()),
        ("head/dense/kernel", (768, 768), 1, 2, ()),
        ("anything/of/ones/own", (7, 24, 16), 8, 2, (None, "fsdp", None)),
    ],
)
def test_the_axis_that_is_split(path, shape, fsdp, tensor, spec):
    assert parameter_spec(path, shape, mesh(fsdp, tensor)) == PartitionSpec(*spec)


def test_every_rule_matches_a_parameter_and_every_matrix_is_split():
    ruled = specs(parameter_shardings(BASE, mesh(tensor=2)))
    split = {path for path, spec in ruled.items() if "tensor" in spec}
    # Six layers have all but the last two rules' leaves; q, k and v share a rule.
    assert len(split) == 6 * (len(TENSOR_RULES) - 2 + 4) + 2
    found = specs(parameter_shardings(BASE, mesh(fsdp=8)))
    shapes = dict(zip(leaf_paths(BASE), jax.tree.leaves(BASE), strict=True))
    assert {p for p, s in found.items() if "fsdp" in s} == {
        path for path, leaf in shapes.items() if leaf.ndim > 1
    }
    assert not any(jax.tree.leaves(specs(parameter_shardings(BASE, mesh()))))


@pytest.mark.parametrize("name", ["adamw", "lion", "adafactor", "lamb", "sgd"])
def test_the_optimizer_lies_like_its_parameters(name):
    tx = optax.chain(optax.clip_by_global_norm(1.0), getattr(optax, name)(1e-3))
    adapt = Adaptive("loss", 30522)
    state = jax.eval_shape(
        lambda p: new_state(p, tx, frozen={"head/dense/kernel"}, adapt=adapt), BASE
    )
    layout = state_shardings(state, mesh(fsdp=2, tensor=2))
    assert jax.tree.structure(layout) == jax.tree.structure(state)
    params = specs(layout.params)
    leaves = dict(zip(leaf_paths(state.opt_state), jax.tree.leaves(state.opt_state), strict=True))
    moments = 0
    for path, spec in specs(layout.opt_state).items():
        [owner] = [p for p in params if path.endswith("/" + p)] or [None]
        shapes = dict(zip(leaf_paths(BASE), jax.tree.leaves(BASE), strict=True))
        if owner and leaves[path].shape == shapes[owner].shape:
            assert spec == params[owner], path
            moments += "fsdp" in spec
        else:  # counts, and Adafactor's averages of rows and columns
            assert spec == PartitionSpec() and leaves[path].ndim < 2, path
    matrices = sum("fsdp" in spec for spec in params.values()) - 1  # one is frozen
    assert moments == matrices * {"adamw": 2, "lamb": 2, "lion": 1}.get(name, 0)
    assert layout.mask_table.spec == layout.step.spec == PartitionSpec()


def test_what_a_scalar_and_an_empty_leaf_are():
    tree = {"scale": jnp.zeros(()), "nothing": jnp.zeros((0, 0))}
    assert not any(specs(parameter_shardings(tree, mesh(2, 2))).values())
