import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mlm.training.sharding import copy_to, make_mesh, replicated


@pytest.mark.parametrize("kind", ["numpy", "one device", "all devices"])
def test_a_copy_shares_no_memory(kind):
    mesh, array = make_mesh(), np.arange(4096, dtype=np.float32)
    put = {"numpy": lambda x: x, "one device": jnp.asarray, "all devices": on_all_devices}
    tree = {"a": put[kind](array)}
    copy = copy_to(mesh, tree)
    assert copy["a"].sharding == replicated(mesh)
    # Donated, it gives its memory away; what it was copied from must not notice.
    double = jax.jit(lambda t: jax.tree.map(lambda x: x * 2, t), donate_argnums=0)
    assert (np.asarray(double(copy)["a"]) == 2 * array).all() and copy["a"].is_deleted()
    assert (np.asarray(tree["a"]) == np.arange(4096)).all()
    assert not set(pointers(tree["a"])) & set(pointers(copy_to(mesh, tree)["a"]))


def on_all_devices(array):
    return jax.device_put(array, replicated(make_mesh()))


def pointers(array):
    if isinstance(array, np.ndarray):
        return [array.ctypes.data]
    return [shard.data.unsafe_buffer_pointer() for shard in array.addressable_shards]
