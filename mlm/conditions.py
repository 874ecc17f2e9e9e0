"""What decides whether a run repeats bit for bit, kept with it and compared when it goes on.

The order of rows, masks and dropout follow from the config alone. What is computed from them does
not: a sum of floats depends on the order in which they are added, and that on the program that XLA
makes (versions, flags, device) and on how the work is shared (mesh, processes, and on a CPU the
cores that this process may use: one core gives other bits than two).
"""

import functools
import os
import platform
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import jax
from jax.sharding import Mesh

from mlm.training.processes import is_first
from mlm.training.workdir import read_json, write_json
from mlm.versions import versions

PACKAGES = ("jax", "flax", "optax", "orbax-checkpoint", "numpy", "tokenizers")
FILE = "environment.json"
# Flags of XLA that change no number: how many devices there are is seen by itself.
NO_NUMBERS = ("--xla_force_host_platform_device_count", "--xla_dump_", "--xla_hlo_profile")
SWITCHES = (
    "jax_threefry_partitionable",
    "jax_default_prng_impl",
    "jax_default_matmul_precision",
    "jax_enable_x64",
)
Conditions = Mapping[str, Any]


def environment() -> dict[str, object]:
    """Versions and devices of this process, for people."""
    devices = jax.devices()
    return {
        "python": platform.python_version(),
        "packages": {name: version(name) for name in PACKAGES},
        "devices": f"{len(devices)} x {devices[0].device_kind} ({devices[0].platform})",
        "processes": jax.process_count(),
        "cores": usable_cores(),
    }


def usable_cores() -> int:
    """The cores that this process may use, which may be fewer than there are."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # not on Linux
        return os.cpu_count() or 1


def conditions_of(fields: Mapping[str, object], mesh: Mesh, *, attention: str) -> Conditions:
    """All that decides about bits, by name, as JSON gives it back.

    Args:
      fields: of the config, by dotted name.
      mesh: of the devices.
      attention: the backend that they compute it with.
    """
    device = mesh.devices.flat[0]
    found = {n: v for n, v in versions(fields).items() if n != "python"}
    found["device"] = f"{device.device_kind} ({device.platform})"
    if device.platform == "cpu":
        found["processor"] = _processor()
        found["cores"] = usable_cores()
        found["PJRT_NPROC"] = os.environ.get("PJRT_NPROC", "")  # threads, instead of the cores
    found["processes"] = jax.process_count()
    found["mesh"] = " ".join(f"{name} {size}" for name, size in mesh.shape.items())
    found["attention"] = attention
    found |= {name: fields[name] for name in ("train.remat", "deterministic")}
    found["XLA_FLAGS"] = numeric_flags(os.environ.get("XLA_FLAGS", ""))
    found["LIBTPU_INIT_ARGS"] = os.environ.get("LIBTPU_INIT_ARGS", "")
    return found | {name: getattr(jax.config, name) for name in SWITCHES}


def numeric_flags(text: str) -> str:
    """The flags of `XLA_FLAGS` that may change a number, sorted."""
    flags = (f for f in text.split() if not f.startswith(NO_NUMBERS) and "timeout" not in f)
    return " ".join(sorted(flags))


@functools.cache
def _processor() -> str:
    """Its name: XLA makes other programs for other instruction sets."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor() or platform.machine())


# ---- attempts ------------------------------------------------------------------------------------


def keep_attempt(
    workdir: Path,
    step: int,
    *,
    conditions: Conditions,
    command: str = "",
    say: Callable = print,
) -> None:
    """Adds the attempt that goes on from `step` to environment.json; says what is not bit-exact."""
    attempts = attempts_before(workdir, step)
    differing = differences([*(a["conditions"] for a in attempts), conditions])
    if differing:
        say(f"not bit-exact: {', '.join(differing)}")
    elif step and not all_kept(attempts):
        say(f"whether this is bit-exact is not known: {UNKNOWN}")
    if is_first():
        attempt = {"step": step, "command": command, "conditions": dict(conditions)}
        facts = environment() | {"command": command, "attempts": [*attempts, attempt]}
        write_json(workdir / FILE, facts)


UNKNOWN = "what the steps so far were computed with was not kept"


def attempts_before(workdir: Path, step: int) -> list[dict]:
    """The attempts of which steps up to `step` are left, oldest first.

    What one trained after the checkpoint that the next went on from is lost, and counts for
    nothing.
    """
    found = (read_json(workdir / FILE) or {}).get("attempts")
    return [a for a in found if _sound(a) and a["step"] < step] if isinstance(found, list) else []


def _sound(attempt: object) -> bool:
    """Whether it is what `keep_attempt` writes: a file may be damaged and still be JSON."""
    kinds = (("step", int), ("conditions", dict))
    return isinstance(attempt, dict) and all(isinstance(attempt.get(n), k) for n, k in kinds)


def all_kept(attempts: Sequence[Mapping]) -> bool:
    """Whether attempts, oldest first, took all steps: an older version kept none of its own."""
    return bool(attempts) and attempts[0]["step"] == 0


def differences(found: Sequence[Conditions]) -> list[str]:
    """What has not been the same all the time, oldest first, such as 'cores 2 -> 1'."""
    told = []
    for name in dict.fromkeys(name for conditions in found for name in conditions):
        values = [conditions[name] for conditions in found if name in conditions]
        changes = [v for i, v in enumerate(values) if i == 0 or v != values[i - 1]]
        if len(changes) > 1:
            told.append(f"{name} {' -> '.join(str(value) or 'none' for value in changes)}")
    return told
