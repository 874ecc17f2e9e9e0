"""One mesh over all devices: rows are split over it, and parameters too where it says so.

Sharded `jit` is what `pmap` was for: arrays are global, the compiler inserts the collectives, and
the same step runs on one device or many. The axes, from the slowest links to the fastest:

    slices   whole replicas on TPU slices that only a network connects
    data     replicas: each has all parameters and other rows
    fsdp     other rows too, and each device keeps a part of every matrix (ZeRO, arXiv:1910.02054)
    tensor   the same rows; each device multiplies by a part of the heads, of the hidden layer and
             of the vocabulary (Megatron-LM, arXiv:1909.08053)

What is split how is in `parameter_rules`.
"""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import mesh_utils
from jax.sharding import AbstractMesh, AxisType, Mesh, NamedSharding, PartitionSpec

from mlm.errors import ConfigError

AXES = ("slices", "data", "fsdp", "tensor")
ROW_AXES = ("slices", "data", "fsdp")  # rows of a batch are split over their product


@dataclasses.dataclass(frozen=True)
class MeshShape:
    """How many devices each axis has; -1, for one of them: what is left of all devices."""

    slices: int = 1
    data: int = -1
    fsdp: int = 1
    tensor: int = 1

    def over(self, devices: int) -> Mapping[str, int]:
        """The size of each axis on so many devices, in the order of `AXES`.

        Raises:
          ConfigError: the sizes cannot make up that number.
        """
        sizes = {name: getattr(self, name) for name in AXES}
        known = math.prod(size for size in sizes.values() if size != -1)
        if -1 in sizes.values() and devices % known == 0:
            return {n: devices // known if size == -1 else size for n, size in sizes.items()}
        if known == devices:
            return sizes
        product = " x ".join(f"mesh.{name} {size}" for name, size in sizes.items() if size != -1)
        if -1 in sizes.values():
            [rest] = (name for name, size in sizes.items() if size == -1)
            raise ConfigError(
                f"{product} is {known}, which does not divide the {devices} devices here, so there "
                f"is no mesh.{rest} for -1; change one of them"
            )
        there = "there is 1 device" if devices == 1 else f"there are {devices} devices"
        raise ConfigError(
            f"{product} is {known}, and {there}; make the product {devices}, as "
            "--config.mesh.data=-1 does where the others are 1"
        )


def make_mesh(
    shape: MeshShape = MeshShape(),  # noqa: B008 (frozen)
    *,
    devices: Sequence[jax.Device] | None = None,
) -> Mesh:
    """A mesh of all devices, or of `devices`, with the axes `AXES`.

    Raises:
      ConfigError: the sizes cannot make up their number, or slices are not those of the hardware.
    """
    sizes = shape.over(jax.device_count() if devices is None else len(devices))
    # Auto axes: under the default, Explicit ones, gathers and random draws fail to trace.
    types = (AxisType.Auto,) * len(AXES)
    found = {getattr(d, "slice_index", 0) for d in devices or jax.devices()}
    if len(found) == 1:  # of devices without slices, such as virtual ones, the first ones are one
        return jax.make_mesh(tuple(sizes.values()), AXES, axis_types=types, devices=devices)
    return Mesh(arranged(devices or jax.devices(), sizes), AXES, axis_types=types)


def arranged(devices: Sequence[jax.Device], sizes: Mapping[str, int]) -> np.ndarray:
    """Devices of several slices as a grid with the axes `AXES`.

    Of GPUs jax calls those that NVLink connects a slice, so that each node is one. All links of
    nodes carry any collective, so other axes may cross them: the last axes lie in a node as far as
    it goes. TPU slices have nothing but sums of gradients between them.

    Raises:
      ConfigError: `sizes` has another number of slices than the TPUs.
    """
    found = {device.slice_index for device in devices}
    if len(found) == sizes["slices"]:
        inside = (1, *(sizes[name] for name in AXES[1:]))
        # As `jax.make_mesh` does: an fsdp of 8 may be half of a torus' 16.
        return mesh_utils.create_hybrid_device_mesh(
            inside, (sizes["slices"], 1, 1, 1), devices, allow_split_physical_axes=True
        )
    if devices[0].platform == "tpu":
        raise ConfigError(
            f"mesh.slices is {sizes['slices']}, and the devices lie in {len(found)} slices; make "
            f"it {len(found)}"
        )
    grid = np.empty(len(devices), object)
    grid[:] = sorted(devices, key=lambda device: (device.slice_index, device.id))
    return grid.reshape(tuple(sizes.values()))


def replicated(mesh: Mesh) -> NamedSharding:
    """The sharding of what is whole on each device."""
    return NamedSharding(mesh, PartitionSpec())


def by_row(mesh: Mesh) -> NamedSharding:
    """The sharding of a batch: rows over `ROW_AXES`."""
    return NamedSharding(mesh, PartitionSpec(_row_axes(mesh)))


def row_parts(mesh: Mesh) -> int:
    """How many parts the rows of a batch are split into; their number must be a multiple."""
    return math.prod(mesh.shape[name] for name in _row_axes(mesh))


def splits_params(mesh: Mesh | AbstractMesh) -> bool:
    """Whether a device has less than all parameters."""
    return any(mesh.shape.get(name, 1) > 1 for name in ("fsdp", "tensor"))


def keep_rows(mesh: Mesh, x: jax.Array, *, whole: bool = True) -> jax.Array:
    """`x[B, ...]` unchanged, and for the compiler the word that rows stay with their devices.

    Rows that the devices cannot share are left to it: fill-mask reads one text. Where devices have
    all parameters it needs no word.

    Args:
      whole: each row lies whole on its devices; False: what of a row lies where is the compiler's.
    """
    if not splits_params(mesh) or x.shape[0] % row_parts(mesh):
        return x
    rest = (None if whole else PartitionSpec.UNCONSTRAINED,) * (x.ndim - 1)
    return jax.lax.with_sharding_constraint(
        x, NamedSharding(mesh, PartitionSpec(_row_axes(mesh), *rest))
    )


def batch_places(
    mesh: Mesh, size: int, *, devices: Sequence[jax.Device] | None = None
) -> np.ndarray:
    """`int[b]`: which rows of a batch of `size` this process's devices hold, smallest first.

    Asked of the mesh: its devices need not stand in the order of their processes, and jax puts
    those of real hardware as its links go. Of a batch that the mesh cannot share it is all rows,
    and `put_batch` refuses them.

    Args:
      devices: those of another process.
    """
    parts = row_parts(mesh)
    if size % parts:
        return np.arange(size)
    held = by_row(mesh).devices_indices_map((size,))
    own = mesh.local_devices if devices is None else devices
    starts = sorted({held[device][0].indices(size)[0] for device in own})
    return np.add.outer(starts, np.arange(size // parts)).ravel()


def put_batch(
    mesh: Mesh, batch: dict[str, np.ndarray], *, size: int | None = None
) -> dict[str, jax.Array]:
    """The global batch on the mesh, from the rows that this process holds.

    Args:
      batch: rows `batch_places(mesh, size)`.
      size: of the global batch; of one process it is that of `batch`.

    Raises:
      ConfigError: the mesh cannot share that many rows.
    """
    sharding, parts = by_row(mesh), row_parts(mesh)
    if odd := [n for n in (size or len(rows) for rows in batch.values()) if n % parts]:
        raise ConfigError(
            f"a batch of {odd[0]} rows cannot be shared by the {parts} parts that the mesh splits "
            f"rows into; make train.batch_size a multiple of {parts}, or the mesh smaller"
        )
    return {
        name: jax.make_array_from_process_local_data(
            sharding, rows, (size or len(rows), *rows.shape[1:])
        )
        for name, rows in batch.items()
    }


def copy_to(mesh: Mesh, tree: Any) -> Any:
    """A copy of all leaves, whole on each device: it shares no memory with them.

    `device_put(may_alias=False)` does, with NumPy arrays and across numbers of devices (jax 0.10).
    """
    return jax.device_put(jax.tree.map(jnp.copy, tree), replicated(mesh))


def _row_axes(mesh: Mesh) -> tuple[str, ...]:
    return tuple(name for name in ROW_AXES if name in mesh.axis_names)
