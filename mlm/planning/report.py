"""A plan as people read it: memory, collectives, and how fast a step can be at best."""

from importlib.metadata import version

from ml_collections import ConfigDict
from rich.console import Console

from mlm.errors import ConfigError
from mlm.planning.advice import GIB, does_not_fit
from mlm.planning.bounds import Bounds, step_bounds
from mlm.planning.collectives import SLICES, Collective, read_collectives
from mlm.planning.lowering import Compiled, DoesNotFitError, PlannedStep, compile_step, plan_step
from mlm.planning.topology import Topology
from mlm.training.chips import Chip, chip_of_kind

ASSUMED = (
    "assumed: products in bfloat16, everything at the speed of its data sheet, activations unmoved"
)
UNSENT = "left out, because it is not known: what devices send to each other"


def print_plan(console: Console, config: ConfigDict, topology: Topology, *, name: str) -> None:
    """Plans a config for a machine and prints what is found.

    Args:
      name: of the config's file.

    Raises:
      ConfigError: the config cannot work there, or its step does not fit the memory.
      DataError, CheckpointError: what the config names cannot be read.
    """
    step = plan_step(config, topology, say=console.print)
    chip = _chip(step)
    compiled = _compiled(step, chip)
    found = read_collectives(compiled.text, step.mesh.size) if compiled and compiled.text else None
    bounds = step_bounds(
        step.work,
        devices=step.mesh.size,
        state_bytes=step.state_bytes,
        collectives=found,
        chip=chip,
        peak_flops=step.config.log.peak_flops,
    )
    for line in (
        *_head(step, bounds, compiled, name),
        *_memory_lines(step, compiled, chip),
        *_collective_lines(found, compiled),
        *_bound_lines(bounds, step, chip),
    ):
        console.print(line)


def _chip(step: PlannedStep) -> Chip | None:
    """The data sheet of the machine's chips."""
    if step.topology.platform == "tpu":
        return chip_of_kind(step.mesh.devices.flat[0].device_kind)
    return chip_of_kind(step.topology.kind.upper())


def _compiled(step: PlannedStep, chip: Chip | None) -> Compiled | None:
    """The step, compiled; None if it can only be lowered. ConfigError if it does not fit."""
    try:
        if step.topology.platform != "cuda":
            return compile_step(step)
        step.lowered()
        if chip and chip.memory and step.argument_bytes > chip.memory:
            raise DoesNotFitError(step.argument_bytes, chip.memory)
        return None
    except DoesNotFitError as error:
        raise ConfigError(
            does_not_fit(
                step.config,
                step.mesh.shape,
                needed=error.needed,
                available=error.available,
                state=step.state_bytes,
                where=step.topology.name,
            )
        ) from error


def _head(step: PlannedStep, bounds: Bounds, compiled: Compiled | None, name: str) -> list[str]:
    topology, rows = step.topology, step.config.train.batch_size
    sizes = ", ".join(f"{axis} {size}" for axis, size in step.mesh.shape.items())
    parts = step.mesh.size // step.mesh.shape["tensor"]
    slices = f", {topology.slices} slices" if topology.slices > 1 else ""
    devices = f"{step.mesh.size} device{'s' if step.mesh.size > 1 else ''}"
    jax = f"jax {version('jax')}"
    if compiled is None:
        made = f"lowered for {topology.platform} by {jax}, not compiled: that takes such a GPU"
    elif topology.platform == "cpu":
        made = f"compiled for CPU devices in {compiled.seconds:.0f} s by {jax}"
    else:
        by = f"libtpu {version('libtpu')}, {jax}"
        made = f"compiled in {compiled.seconds:.0f} s by {by}"
    return [
        f"plan of {name} for {topology.name}{slices}: {devices}",
        f"  mesh         {sizes}",
        f"  batch        {rows:,} rows of {step.config.data.length} tokens, {rows // parts:,} on "
        f"each device; {bounds.work.slots} mask slots in a row",
        f"  train        accumulation {step.config.train.accumulation}, remat "
        f"{step.config.train.remat}, {step.config.model.dtype}",
        f"  attention    {step.execution.lines[0].removeprefix('attention ')}",
        f"  step         {made}",
        "",
    ]


def _memory_lines(step: PlannedStep, compiled: Compiled | None, chip: Chip | None) -> list[str]:
    has = f"of {chip.memory / GIB:.2f}" if chip and chip.memory else ""
    lines = [f"{'memory of a device':24}{'GiB':>8}"]

    def add(name: str, size: float, note: str = "") -> None:
        lines.append(f"  {name:22}{size / GIB:8.2f}   {note}".rstrip())

    if compiled is None:
        add("arguments", step.argument_bytes, f"{has}: state and batch, by formula".strip(": "))
        return [*lines, "  temporaries, outputs     not known: a GPU's compiler decides", ""]
    add("arguments", compiled.arguments, "state and batch")
    add("outputs", compiled.outputs, f"{compiled.aliased / GIB:.2f} in the place of arguments")
    add("temporaries", compiled.temporaries)
    if step.topology.platform == "cpu":
        note = "of the CPU's compiler; an accelerator's makes other temporaries"
    else:
        note = f"{has} that a program can use, {compiled.peak / chip.memory:.0%}"
    add("peak", compiled.peak, note)
    return [*lines, ""]


def _collective_lines(found: list[Collective] | None, compiled: Compiled | None) -> list[str]:
    if found is None:
        reason = "jax cannot read this libtpu's program" if compiled else "a GPU's compiler decides"
        return [f"collectives              not known: {reason}", ""]
    if not found:
        return ["collectives of a step    none", ""]
    lines = [
        f"{'collectives of a step':24}{'devices':>8}{'count':>8}{'MB':>11}{'MB sent by each':>18}"
    ]
    for c in found:
        size = f"{c.payload / 1e6:11,.1f}{c.sent / 1e6:18,.1f}"
        lines.append(f"  {c.kind:22}{c.devices or '':>8}{c.count:8,}{size}")
    if unbounded := sum(c.unbounded for c in found):
        lines.append(f"  {unbounded} of them in loops of unknown length, counted once")
    return [*lines, ""]


def _bound_lines(bounds: Bounds, step: PlannedStep, chip: Chip | None) -> list[str]:
    work = bounds.work
    if work.operations is None:
        return ["no bounds: a model of one's own, or a partly frozen one, has no formula"]
    each = f"{work.operations / work.tokens / 1e6:,.1f} MFLOP a token by formula"
    if bounds.compute is None:
        return [
            f"{each}; {work.operations / 1e12:,.2f} TFLOP a step",
            "no bounds: nothing is known of the chip; --config.log.peak_flops tells its peak",
        ]
    if work.repeated:
        each = each.replace("by formula", f"and {work.repeated / work.operations:.0%} by remat")
    peak = bounds.peak / step.mesh.size / 1e12
    lines = [f"{'a step takes at least':24}{'ms':>8}"]

    def add(name: str, seconds: float | None, note: str) -> None:
        if seconds is not None:
            digits = 2 if seconds >= 1e-4 else 4  # a toy's microseconds
            lines.append(f"  {name:22}{1e3 * seconds:8.{digits}f}   {note}")

    def in_all(seconds: float) -> str:
        speed = work.tokens / seconds
        each = speed / step.mesh.size
        return (
            f"MFU at most {bounds.utilization(seconds):.1%}, {speed / 1e6:,.2f} M tokens/s, "
            f"{each / 1e3:,.1f} k each"
        )

    add("matrix products", bounds.compute, f"{each}, at {peak:,.0f} TFLOP/s")
    if chip:
        add("state", bounds.memory, f"read and written, at {_speed(chip.memory_bandwidth)}")
        add("links", bounds.links, f"collectives, at {_speed(chip.link_bandwidth)}")
        add("network", bounds.network, f"{SLICES}, at {_speed(chip.network_bandwidth)}")
    add("all at a time", bounds.overlapped, in_all(bounds.overlapped))
    add("one after the other", bounds.in_turn, in_all(bounds.in_turn))
    unsent = bounds.links is None and step.mesh.size > 1
    return [*lines, ASSUMED, *([UNSENT] if unsent else [])]


def _speed(bandwidth: float | None) -> str:
    return f"{bandwidth / 1e9:,.4g} GB/s" if bandwidth else ""
