import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mlm.errors import ConfigError
from mlm.training.sharding import (
    MeshShape,
    batch_places,
    copy_to,
    make_mesh,
    put_batch,
    replicated,
)


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


@pytest.mark.parametrize("shape", [MeshShape(), MeshShape(data=2, fsdp=2, tensor=2)])
def test_each_process_holds_the_rows_of_its_devices_in_any_order(shape):
    devices = np.random.default_rng(0).permutation(jax.devices()).tolist()
    mesh = make_mesh(shape, devices=devices)
    rows = np.arange(16)
    shards = put_batch(mesh, {"rows": rows})["rows"].addressable_shards
    lies = {shard.device: shard.data for shard in shards}
    for own in np.split(np.array(jax.devices()), 4):
        places = batch_places(mesh, 16, devices=own)
        assert places.tolist() == sorted({int(i) for d in own for i in lies[d]})
    assert batch_places(mesh, 16).tolist() == rows.tolist()


def test_rows_that_the_devices_cannot_share_are_not_put_down():
    mesh = make_mesh()
    assert batch_places(mesh, 12).tolist() == list(range(12))
    for size in (12, None):
        with pytest.raises(ConfigError, match="12 rows cannot be shared by the 8 parts.* multiple"):
            put_batch(mesh, {"rows": np.arange(12)}, size=size)
