import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

from mlm.training.digests import changed_leaves, digests_of, shapes_of, total_of


def digest(leaf):
    return digests_of({"leaf": leaf})["leaf"]["digest"]


def plain(values):
    """The definition, with Python's own numbers."""

    def mixed(x):
        x = (x ^ (x >> 16)) * 0x85EBCA6B % 2**32
        x = (x ^ (x >> 13)) * 0xC2B2AE35 % 2**32
        return x ^ (x >> 16)

    bits = values.ravel().view(np.uint32).tolist()
    first = sum(b * (mixed(i) | 1) for i, b in enumerate(bits)) % 2**32
    second = sum(mixed(b ^ mixed(i)) for i, b in enumerate(bits)) % 2**32
    return f"{first:08x}{second:08x}"


@pytest.mark.parametrize("shape", [(), (7,), (3, 5), (2, 3, 4), (0, 3)])
def test_the_digest_is_the_definition(shape):
    values = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    assert digest(values) == plain(values)


def test_every_mesh_gives_the_same_digest():
    values = np.random.default_rng(1).normal(size=(8, 12, 4)).astype(np.float32)
    devices = np.asarray(jax.devices())
    for shape, spec in [
        ((8, 1), P("a")),
        ((8, 1), P()),
        ((4, 2), P("b", "a")),
        ((2, 4), P(None, "b", "a")),
        ((2, 4), P(("a", "b"))),
    ]:
        mesh = jax.sharding.Mesh(devices.reshape(shape), ("a", "b"))
        assert digest(jax.device_put(values, NamedSharding(mesh, spec))) == plain(values), spec


def test_each_flipped_bit_and_each_swap_is_found():
    values = np.arange(12, dtype=np.float32).reshape(3, 4)
    seen = {digest(values), digest(values[[1, 0, 2]]), digest(values.T.copy().reshape(3, 4))}
    for place in range(12):
        for bit in range(0, 32, 5):
            flipped = values.copy()
            flipped.view(np.uint32).ravel()[place] ^= 1 << bit
            seen.add(digest(flipped))
    assert len(seen) == 3 + 12 * 7


@pytest.mark.parametrize("dtype", ["bool", "int8", "uint32", "int32", "bfloat16", "float16"])
def test_other_dtypes_are_told_apart_bit_by_bit(dtype):
    ones, other = jnp.ones(5, dtype), jnp.ones(5, dtype).at[3].set(jnp.zeros((), dtype))
    assert digest(ones) == digest(jnp.ones(5, dtype)) != digest(other)


def test_minus_zero_and_nan_have_bits_too():
    assert digest(jnp.float32([0.0])) != digest(jnp.float32([-0.0]))
    assert digest(jnp.float32([np.nan])) == digest(jnp.float32([np.nan]))


def test_facts_are_by_path_and_changed_leaves_are_named():
    tree = {
        "params": {"w": jnp.ones((2, 3)), "b": jnp.zeros(3, jnp.bfloat16)},
        "table": jnp.ones(4),
    }
    facts = digests_of(tree)
    assert list(facts) == ["params/b", "params/w", "table"]
    assert shapes_of(tree)["params/b"] == {"shape": [3], "dtype": "bfloat16"}
    assert facts["params/w"] == {
        "shape": [2, 3],
        "dtype": "float32",
        "digest": digest(tree["params"]["w"]),
    }
    assert changed_leaves(tree, facts) == []
    tree["params"]["w"] = tree["params"]["w"].at[1, 1].set(2)
    assert changed_leaves(tree, facts) == ["params/w"]
    assert total_of(digests_of(tree)) != total_of(facts)
    assert total_of(dict(reversed(facts.items()))) == total_of(facts)
    renamed = {f"x{path}": f for path, f in facts.items()}
    assert total_of(renamed) != total_of(facts)
