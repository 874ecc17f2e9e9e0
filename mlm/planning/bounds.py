"""How fast a step can be at best: what it must compute, move and send, at the speeds of a chip.

These are bounds and no predictions: no chip does any of this at the speed of its data sheet. A
step whose parts overlap wholly takes as long as the longest of them, one whose parts follow each
other the sum.
"""

from typing import NamedTuple

from mlm.planning.collectives import SLICES, Collective
from mlm.training.chips import Chip


class Work(NamedTuple):
    """What a step does in all, by formula.

    Attributes:
      tokens: slots of the batch, padding too.
      slots: mask slots in a row.
      operations: that the model asks for; None: a model without a formula.
      repeated: those that rematerialisation does a second time.
    """

    tokens: int
    slots: int
    operations: float | None
    repeated: float = 0.0


class Bounds(NamedTuple):
    """Seconds of a step at least; None: not known.

    Attributes:
      compute: for matrix products.
      memory: to read the state from memory once and write the new one.
      links, network: to send what collectives send, within a slice and between slices.
      work: what the step does.
      peak: operations per second of all devices.
    """

    compute: float | None
    memory: float | None
    links: float | None
    network: float | None
    work: Work
    peak: float | None

    @property
    def parts(self) -> list[float]:
        return [part for part in self[:4] if part]

    @property
    def overlapped(self) -> float | None:
        """Seconds of a step whose parts run at the same time."""
        return max(self.parts, default=None) if self.compute else None

    @property
    def in_turn(self) -> float | None:
        """Seconds of a step whose parts follow each other."""
        return sum(self.parts) if self.compute else None

    def utilization(self, seconds: float) -> float:
        """Model FLOPs utilization (PaLM, arXiv:2204.02311, appendix B) of such a step."""
        return self.work.operations / self.peak / seconds


def step_bounds(
    work: Work,
    *,
    devices: int,
    state_bytes: int,
    collectives: list[Collective] | None,
    chip: Chip | None,
    peak_flops: float | None,
) -> Bounds:
    """The bounds of a step.

    Args:
      devices: in all.
      state_bytes: that each device reads, and writes as many.
      collectives: of a device; None: not known.
      chip: what each device is; None: not known.
      peak_flops: of a device, where it is not as its maker says.
    """
    peak_flops = peak_flops or (chip and chip.peak_flops)
    peak = devices * peak_flops if peak_flops else None
    compute = (
        (work.operations + work.repeated) / peak if peak and work.operations is not None else None
    )
    over_network = sum(c.sent for c in collectives or () if c.kind == SLICES)
    over_links = sum(c.sent for c in collectives or () if c.kind != SLICES)
    return Bounds(
        compute=compute,
        memory=_seconds(2 * state_bytes, chip and chip.memory_bandwidth),
        links=_seconds(over_links, chip and chip.link_bandwidth),
        network=_seconds(over_network, chip and chip.network_bandwidth),
        work=work,
        peak=peak,
    )


def _seconds(size: float, speed: float | None) -> float | None:
    return size / speed if size and speed else None
