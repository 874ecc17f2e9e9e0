"""What chips can do as their makers' data sheets say, beside which runs and plans are set.

Numbers are those of one jax device: half a chip of a TPU7x. Decimal units but for memory, which is
in bytes that a program can use: of TPUs what XLA's compiler names in its error for programs that
need more (libtpu 0.0.52), below the data sheet's figure for what the system keeps.
"""

import dataclasses

GIB = 2**30


@dataclasses.dataclass(frozen=True)
class Chip:
    """A device's data sheet.

    Attributes:
      kind: a part of jax's `device_kind`.
      peak_flops: operations per second in bfloat16 with float32 sums, dense.
      memory: bytes; None where `kind` is sold with several sizes.
      memory_bandwidth: bytes per second.
      link_bandwidth: bytes per second that it can send over all links to chips of its slice, half
        of what is called bidirectional.
      network_bandwidth: its share of the bytes per second that its host can send to other slices.
    """

    kind: str
    peak_flops: float
    memory: float | None = None
    memory_bandwidth: float | None = None
    link_bandwidth: float | None = None
    network_bandwidth: float | None = None


# The first that fits counts. TPUs: docs.cloud.google.com/tpu/docs/{v5e,v5p,v6e,tpu7x}, "HBM
# bandwidth", "Bidirectional inter-chip interconnect bandwidth" and "Data center network bandwidth"
# per chip (of v5e and v6e per Pod of 256). GPUs: NVIDIA's data sheets of the SXM boards.
CHIPS = (
    Chip("TPU v4", 275e12),
    Chip("TPU v5 lite", 197e12, 15.75 * GIB, 819e9, 200e9, 3.125e9),  # v5e
    Chip("TPU v5e", 197e12, 15.75 * GIB, 819e9, 200e9, 3.125e9),
    Chip("TPU v5", 459e12, 95.73 * GIB, 2765e9, 600e9, 6.25e9),  # v5p
    Chip("TPU v6", 918e12, 31.24 * GIB, 1638e9, 400e9, 12.5e9),  # v6e
    Chip("TPU7x", 1153.5e12, 94.74 * GIB, 3690e9, 300e9, 6.25e9),
    Chip("GB200", 2500e12),
    Chip("B200", 2250e12, 180e9, 8000e9),
    Chip("GH200", 989e12),
    Chip("H200", 989e12, 141e9, 4800e9),
    Chip("H100 PCIe", 756e12),
    Chip("H100 NVL", 835e12),
    Chip("H100", 989e12, 80e9, 3350e9),
    Chip("A100", 312e12, 80e9, 2039e9),  # the board of 80 GB; there is one of 40
    Chip("A30", 165e12),
    Chip("L40S", 362e12),
    Chip("L40", 181e12),
    Chip("L4", 121e12),
)


def chip_of_kind(device_kind: str) -> Chip | None:
    """The data sheet of a device; None for one that is not in the table."""
    return next((chip for chip in CHIPS if chip.kind in device_kind), None)
