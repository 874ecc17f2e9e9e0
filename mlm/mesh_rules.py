"""What `config.mesh` must satisfy, as far as it can be known without devices or jax."""

import math
from collections.abc import Iterable

from ml_collections import ConfigDict

from mlm.config import is_number

MESH_FIELDS = ("slices", "data", "fsdp", "tensor")
ROW_FIELDS = ("slices", "data", "fsdp")  # rows are split over their product


def _sizes(config: ConfigDict) -> Iterable[str]:
    for name in MESH_FIELDS:
        size = config.mesh[name]
        if not is_number(size) or (size < 1 and size != -1):
            yield (
                f"mesh.{name} is {size!r}; give a number of devices, 1 or more, or -1 for what is "
                "left of them"
            )
    rest = [name for name in MESH_FIELDS if config.mesh[name] == -1]
    if len(rest) > 1:
        yield (
            f"{' and '.join(f'mesh.{name}' for name in rest)} are -1, and what is left of the "
            "devices can go to one of them; give the others a size"
        )


def _batch(config: ConfigDict) -> Iterable[str]:
    """Of sizes that are given; what -1 stands for is known when the devices are."""
    sizes = {name: config.mesh[name] for name in ROW_FIELDS}
    if all(is_number(size) for size in sizes.values()) and max(sizes.values()) > 1:
        yield from batch_problems(config, {n: size for n, size in sizes.items() if size > 0})


def batch_problems(config: ConfigDict, sizes: dict[str, int], where: str = "") -> Iterable[str]:
    """Unless the rows of a batch can be shared by mesh axes of these sizes and microbatches."""
    train = config.train
    parts = math.prod(sizes.values()) * train.accumulation
    if parts > 0 and train.batch_size % parts:
        product = " x ".join(f"mesh.{name} {size}" for name, size in sizes.items())
        yield (
            f"train.batch_size {train.batch_size} is not divisible by {product} x "
            f"train.accumulation {train.accumulation}{where}; make it a multiple of {parts}"
        )


def tensor_problems(config: ConfigDict, tensor: int) -> Iterable[str]:
    """Unless as many devices can share the heads and the hidden units of our model."""
    if tensor < 2 or config.model.custom:
        return
    for name in ("heads", "hidden"):
        if config.model[name] % tensor:
            yield (
                f"mesh.tensor {tensor} does not divide model.{name} {config.model[name]}; change "
                "one of them"
            )


MESH_CHECKS = (_sizes, _batch)
