"""`train.py --print_shardings`: what each device will hold of a run, from its config alone.

Nothing is prepared, allocated or compiled. Where every size of the mesh is given, the devices need
not be there: a laptop shows what a pod would hold.
"""

import math
import re
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import jax
from jax.sharding import AbstractMesh, NamedSharding
from ml_collections import ConfigDict
from rich.console import Console

from mlm.devices import check_tensor, mesh_shape
from mlm.errors import ConfigError
from mlm.masks import adaptive
from mlm.mesh_rules import ROW_FIELDS, batch_problems
from mlm.network import make_network
from mlm.planning.stand_in import sized
from mlm.settings import model_config, optimizer_settings
from mlm.training.freezing import frozen_paths, leaf_paths
from mlm.training.optimizer import make_optimizer, make_schedule
from mlm.training.parameter_rules import state_shardings
from mlm.training.sharding import AXES
from mlm.training.step import TrainState, new_state


class Line(NamedTuple):
    """Leaves of one shape that lie alike, in layers that follow each other."""

    name: str
    leaves: int
    shape: tuple[int, ...]
    spec: str
    device_bytes: int


def print_shardings(console: Console, config: ConfigDict) -> None:
    """One table: a line for leaves that are alike, then totals of params, optimizer and state.

    Raises:
      ConfigError: the mesh fits neither the devices nor the model.
      DataError, CheckpointError: the tokenizer or the weights to start from cannot be read.
    """
    mesh = _planned_mesh(config)
    state = abstract_state(config, mesh, say=console.print)
    shardings = state_shardings(state, mesh)
    sizes = ", ".join(f"{name} {size}" for name, size in mesh.shape.items())
    console.print(f"{math.prod(mesh.shape.values())} devices: {sizes}\n")
    rows = [("leaf", "shape", "split over", "bytes per device")]
    for line in sharding_lines(state.params, shardings.params):
        times = f"{line.leaves} x " if line.leaves > 1 else ""
        shape = f"{times}[{', '.join(map(str, line.shape))}]"
        rows.append((line.name, shape, line.spec, f"{line.device_bytes:,}"))
    rows.append(("",) * 4)
    for name, part, where in (
        ("parameters", state.params, shardings.params),
        ("optimizer state", state.opt_state, shardings.opt_state),
        ("all of the state", state, shardings),
    ):
        rows.append((name, _of_all(part), "", f"{device_bytes(part, where):,}"))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        *texts, number = (f"{text:<{width}}" for text, width in zip(row, widths, strict=True))
        console.print("  ".join((*texts, f"{number.strip():>{widths[-1]}}")).rstrip())


def abstract_state(config: ConfigDict, mesh: AbstractMesh, *, say=print) -> TrainState:
    """Shapes and dtypes of the state that a run of this config trains."""
    config, text = sized(config, say=say)
    size = text.tokenizer.vocabulary_size
    network = make_network(model_config(config, size), config.model.custom)
    check_tensor(config, network.params, mesh)
    settings = optimizer_settings(config, warmup=1)
    tx = make_optimizer(settings, make_schedule(settings, total_steps=1))
    frozen, adapt = frozen_paths(network.params, config.train.freeze), adaptive(config, size)
    return jax.eval_shape(lambda p: new_state(p, tx, frozen=frozen, adapt=adapt), network.params)


def sharding_lines(tree: Any, shardings: Any) -> Iterator[Line]:
    """A line for each leaf, or for all that differ in the number of their layer alone."""
    alike: dict[tuple, list] = {}
    whole = zip(leaf_paths(tree), jax.tree.leaves(tree), jax.tree.leaves(shardings), strict=True)
    for path, leaf, sharding in whole:
        layer = re.search(r"(?<=layers/)\d+", path)
        name = path.replace(f"layers/{layer[0]}/", "layers/{}/") if layer else path
        key = name, leaf.shape, spec_text(sharding, len(leaf.shape))
        alike.setdefault(key, []).append((layer and layer[0], leaf, sharding))
    for (name, shape, spec), found in alike.items():
        numbers = [number for number, _, _ in found]
        layers = numbers[0] if len(found) == 1 else f"{numbers[0]}-{numbers[-1]}"
        size = sum(_leaf_bytes(leaf, sharding) for _, leaf, sharding in found)
        yield Line(name.format(layers), len(found), shape, spec, size)


def spec_text(sharding: NamedSharding, dimensions: int) -> str:
    """'fsdp, -' for rows over `fsdp` and columns whole; 'whole' for what each device has."""
    spec = tuple(sharding.spec) + (None,) * (dimensions - len(sharding.spec))
    return ", ".join(axis or "-" for axis in spec) if any(spec) else "whole"


def _planned_mesh(config: ConfigDict) -> AbstractMesh:
    """Of the sizes that are given; the devices here count only for one that is -1."""
    shape = mesh_shape(config)
    given = [getattr(shape, name) for name in AXES]
    sizes = shape.over(jax.device_count() if -1 in given else math.prod(given))
    rows = {name: sizes[name] for name in ROW_FIELDS}
    if problems := list(batch_problems(config, rows)):
        raise ConfigError(*problems)
    return AbstractMesh(tuple(sizes.values()), AXES)


def _leaf_bytes(leaf: jax.ShapeDtypeStruct, sharding: NamedSharding) -> int:
    return math.prod(sharding.shard_shape(leaf.shape)) * leaf.dtype.itemsize


def device_bytes(tree: Any, shardings: Any) -> int:
    """What each device holds of a tree, which may be abstract."""
    pairs: Iterable = zip(jax.tree.leaves(tree), jax.tree.leaves(shardings), strict=True)
    return sum(_leaf_bytes(leaf, sharding) for leaf, sharding in pairs)


def _of_all(tree: Any) -> str:
    return f"of {sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(tree)):,} bytes"
