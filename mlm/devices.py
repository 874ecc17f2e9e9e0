"""From `config.mesh` to a mesh over the devices there are, before anything is compiled."""

from collections.abc import Sequence

import jax
from jax.sharding import Mesh
from ml_collections import ConfigDict

from mlm.errors import ConfigError
from mlm.mesh_rules import MESH_FIELDS, ROW_FIELDS, batch_problems, tensor_problems
from mlm.training.freezing import leaf_paths
from mlm.training.parameter_rules import parameter_spec
from mlm.training.sharding import MeshShape, make_mesh


def mesh_shape(config: ConfigDict) -> MeshShape:
    """The sizes of `config.mesh`."""
    return MeshShape(**{name: config.mesh[name] for name in MESH_FIELDS})


def mesh_of(config: ConfigDict, devices: Sequence[jax.Device] | None = None) -> Mesh:
    """The mesh of all devices; raises ConfigError if the sizes cannot make up their number."""
    return make_mesh(mesh_shape(config), devices=devices)


def check_devices(config: ConfigDict) -> None:
    """Raises ConfigError unless all devices fit the mesh, and can share the batch."""
    check_counts(config, jax.device_count(), jax.local_device_count(), jax.process_count())


def check_counts(config: ConfigDict, devices: int, local: int, processes: int) -> None:
    """`check_devices` of so many devices, of which each of the processes has `local`."""
    sizes = mesh_shape(config).over(devices)
    rows = {name: sizes[name] for name in ROW_FIELDS if sizes[name] > 1 or name == "data"}
    of = f" of {processes} processes" if processes > 1 else ""
    if problems := list(batch_problems(config, rows, f", on {devices} devices{of}")):
        raise ConfigError(*problems)
    # A process reads the rows of its own devices, and those of one `tensor` have the same rows.
    tensor = sizes["tensor"]
    if local % tensor:
        raise ConfigError(
            f"mesh.tensor {tensor} does not divide the {local} devices of a process; its devices "
            "must be of one process, so make it smaller and mesh.fsdp larger"
        )


def check_tensor(config: ConfigDict, params: dict, mesh: Mesh) -> None:
    """Raises ConfigError unless the model can be split over the mesh's axis `tensor`."""
    tensor = mesh.shape["tensor"]
    if problems := list(tensor_problems(config, tensor)):
        raise ConfigError(*problems)
    leaves = zip(leaf_paths(params), jax.tree.leaves(params), strict=True)
    if tensor > 1 and not any("tensor" in parameter_spec(p, x.shape, mesh) for p, x in leaves):
        raise ConfigError(
            f"mesh.tensor is {tensor} and no rule splits a parameter of model.custom "
            f"{config.model.custom} over it; use mesh.fsdp, which splits any matrix"
        )
