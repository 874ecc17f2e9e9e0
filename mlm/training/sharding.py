"""One mesh over all devices: rows are split over it, the state is whole on each device.

Sharded `jit` is what `pmap` was for: arrays are global, the compiler inserts the collectives, and
the same step runs on one device or many.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec


def make_mesh() -> Mesh:
    """A mesh of all devices with the one axis `data`."""
    # Auto axes: under the default, Explicit ones, gathers and random draws fail to trace.
    return jax.make_mesh((jax.device_count(),), ("data",), axis_types=(AxisType.Auto,))


def replicated(mesh: Mesh) -> NamedSharding:
    """The sharding of params, optimizer state and metrics."""
    return NamedSharding(mesh, PartitionSpec())


def by_row(mesh: Mesh) -> NamedSharding:
    """The sharding of a batch: rows over the axis `data`."""
    return NamedSharding(mesh, PartitionSpec("data"))


def put_batch(mesh: Mesh, batch: dict[str, np.ndarray]) -> dict[str, jax.Array]:
    """The global batch on the mesh, from the slice of rows that this process holds."""
    sharding = by_row(mesh)
    return {
        name: jax.make_array_from_process_local_data(sharding, rows) for name, rows in batch.items()
    }


def copy_to(mesh: Mesh, tree: Any) -> Any:
    """A copy of all leaves, whole on each device: it shares no memory with them.

    `device_put(may_alias=False)` does, with NumPy arrays and across numbers of devices (jax 0.10).
    """
    return jax.device_put(jax.tree.map(jnp.copy, tree), replicated(mesh))
