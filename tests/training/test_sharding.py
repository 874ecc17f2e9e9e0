from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mlm.errors import ConfigError
from mlm.training.sharding import (
    MeshShape,
    arranged,
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


def slices_of(platform, count, each):
    """Devices as jax has them, in no order of their slices."""
    kind = {"platform": platform, "device_kind": ""}
    return [
        SimpleNamespace(id=i, process_index=i, slice_index=i % count, **kind)
        for i in range(count * each)
    ]


def test_nodes_of_gpus_are_slices_to_jax_and_make_up_any_mesh():
    devices = slices_of("gpu", 2, 4)
    for shape in (MeshShape(), MeshShape(data=1, fsdp=8), MeshShape(slices=2), MeshShape(tensor=4)):
        sizes = shape.over(8)
        grid = arranged(devices, sizes)
        assert grid.shape == tuple(sizes.values())
        assert [device.slice_index for device in grid.flat] == [0] * 4 + [1] * 4
        assert len({device.id for device in grid.flat}) == 8


def test_slices_of_tpus_are_those_of_the_mesh():
    with pytest.raises(ConfigError, match="mesh.slices is 1, .* lie in 2 slices; make it 2"):
        arranged(slices_of("tpu", 2, 4), MeshShape().over(8))


def test_rows_that_the_devices_cannot_share_are_not_put_down():
    mesh = make_mesh()
    assert batch_places(mesh, 12).tolist() == list(range(12))
    for size in (12, None):
        with pytest.raises(ConfigError, match="12 rows cannot be shared by the 8 parts.* multiple"):
            put_batch(mesh, {"rows": np.arange(12)}, size=size)
