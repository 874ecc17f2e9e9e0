"""Machines by name, whether they are here or not: 'v5e:16x16', 'h100:8', 'cuda:8', 'cpu:8'.

Devices of a TPU come from libtpu, which describes a slice and compiles for it without a TPU. Those
of a GPU are stood in for by virtual CPU devices: jax can lower a program for a GPU without one, and
not compile it.
"""

import contextlib
import dataclasses
import importlib.util
import math
import os
import re
import sys
from collections.abc import Iterator

from mlm.errors import ConfigError

# Kind of a TPU -> an example of a slice. A device of a TPU7x is half a chip, as jax has it. TPUs
# before v5e are left out: libtpu describes single cores of a v4, which jax on the machine itself
# has in pairs, and of older ones there is no data sheet here.
TPUS = {
    "v5e": "v5e:16x16",
    "v5p": "v5p:4x4x4",
    "v6e": "v6e:16x16",
    "tpu7x": "tpu7x:4x4x4",
}
# GPUs of which `mlm.training.chips` has a data sheet; 'cuda' is one of which nothing is known.
GPUS = ("cuda", "a100", "h100", "h200", "b200")
MANY = 4096  # virtual devices: jax takes minutes to start with more
KNOWN = (*TPUS.values(), *(f"{name}:8" for name in GPUS), "cpu:8")
LIBTPU = (
    "libtpu is not installed, which compiles for {name}; pip install libtpu, or plan for cuda:N or "
    "cpu:N, which need nothing more"
)


@dataclasses.dataclass(frozen=True)
class Topology:
    """A machine that a run is planned for.

    Attributes:
      name: what it was asked for by.
      platform: 'tpu', 'cuda' or 'cpu'.
      kind: of its chips, as in KNOWN.
      shape: of a slice.
      slices: how many of them a network connects.
    """

    name: str
    platform: str
    kind: str
    shape: tuple[int, ...]
    slices: int = 1

    @property
    def virtual_devices(self) -> int:
        """Devices of the CPU that stand for its own; 0: it has its own."""
        return 0 if self.platform == "tpu" else self.slices * math.prod(self.shape)


def read_topology(name: str, slices: int = 1) -> Topology:
    """The machine that `name` stands for; without jax.

    Raises:
      ConfigError: it stands for none.
    """
    if slices < 1:
        raise ConfigError(f"--slices is {slices}; give a number, 1 or more")
    kind, _, shape = name.lower().partition(":")
    sizes = (
        tuple(map(int, shape.split("x"))) if re.fullmatch(r"[1-9]\d*(x[1-9]\d*)*", shape) else ()
    )
    if kind in TPUS and len(sizes) == TPUS[kind].count("x", TPUS[kind].index(":")) + 1:
        return Topology(name, "tpu", kind, sizes, slices)
    if kind in ("cpu", *GPUS) and len(sizes) == 1:
        if slices * sizes[0] > MANY:
            raise ConfigError(
                f"--topology is {name!r}, {slices * sizes[0]:,} devices; this machine can stand "
                f"in for {MANY:,} at most"
            )
        return Topology(name, "cpu" if kind == "cpu" else "cuda", kind, sizes, slices)
    raise ConfigError(
        f"--topology is {name!r}; known are {', '.join(KNOWN)}, and other sizes of these"
    )


def prepare_process(topology: Topology) -> None:
    """Tells jax and libtpu to keep to the CPU; must come before jax is imported.

    Raises:
      ConfigError: libtpu is needed and not there.
    """
    os.environ["JAX_PLATFORMS"] = "cpu"
    if topology.platform == "tpu":
        if importlib.util.find_spec("libtpu") is None:
            raise ConfigError(LIBTPU.format(name=topology.name))
        os.environ |= {
            "TPU_SKIP_MDS_QUERY": "1",  # asks no server which TPU this machine is
            "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",  # two of us may plan at once
            "TPU_LOG_DIR": "disabled",
        }
    elif "jax" not in sys.modules:
        flag = f"--xla_force_host_platform_device_count={topology.virtual_devices}"
        os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {flag}".strip()


def devices_of(topology: Topology) -> list:
    """The devices to compile for, or virtual ones that stand for them.

    Raises:
      ConfigError: there is no slice of that shape, or jax started with fewer virtual devices.
    """
    import jax

    if topology.platform != "tpu":
        found, wanted = jax.devices("cpu"), topology.virtual_devices
        if len(found) < wanted:
            raise ConfigError(
                f"jax has started with {len(found)} virtual devices and {topology.name} takes "
                f"{wanted}; plan in a process of its own, by python -m mlm plan"
            )
        return found[:wanted]
    from jax.experimental import topologies

    shape = "x".join(map(str, topology.shape))
    # A host has four chips or so by default, which a slice of fewer has not.
    small = {"chips_per_host_bounds": (1, 1, 1)} if math.prod(topology.shape) == 1 else {}
    try:
        with quiet_stderr():
            return topologies.get_topology_desc(
                platform="tpu",
                topology_name=f"{topology.kind}:{shape}",
                num_slices=topology.slices,
                **small,
            ).devices
    except Exception as error:  # whatever libtpu says to a shape that does not exist
        reason = str(error).strip().splitlines()[0]
        raise ConfigError(
            f"--topology is {topology.name!r}, of which libtpu says: {reason:.120}; known are "
            f"{', '.join(KNOWN)}"
        ) from error


@contextlib.contextmanager
def quiet_stderr() -> Iterator[None]:
    """Drops what libraries in C++ write to stderr; errors come as exceptions."""
    sys.stderr.flush()
    kept = os.dup(2)
    with open(os.devnull, "w") as nowhere:
        os.dup2(nowhere.fileno(), 2)
    try:
        yield
    finally:
        sys.stderr.flush()
        os.dup2(kept, 2)
        os.close(kept)
