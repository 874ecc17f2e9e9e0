"""The training step of a config, lowered or compiled for a machine that need not be there."""

import contextlib
import dataclasses
import re
import time
import types
from collections.abc import Callable, Iterator

import jax
import jax.numpy as jnp
from jax.sharding import Mesh
from ml_collections import ConfigDict

from mlm.devices import check_counts, mesh_of
from mlm.learning import Learning, make_learning
from mlm.machine import Chip, Execution, execution_for, step_operations
from mlm.models import DistilBertConfig
from mlm.planning.bounds import Work
from mlm.planning.stand_in import abstract_batch, sized
from mlm.planning.topology import Topology, devices_of, quiet_stderr
from mlm.shardings import device_bytes
from mlm.training.flops import train_step_flops
from mlm.training.sharding import by_row
from mlm.training.step import Batch

EPOCH = 1000  # batches in an epoch of text that is not prepared: no shape follows from it
SIZE = r"([\d.]+)([KMGT]?)"
UNITS = {"": 1, "K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}
# As libtpu 0.0.52 says it (it calls temporaries what is all memory, arguments too), and before.
OUT_OF_MEMORY = (
    re.compile(rf"\({SIZE}\) exceeds available \w+ \({SIZE}\)"),
    re.compile(rf"Used {SIZE} of {SIZE} hbm"),
)


@dataclasses.dataclass(frozen=True)
class PlannedStep:
    """The training step of a config and the mesh that it is for.

    Attributes:
      config: with the sizes of the weights to start from.
      batch: shapes and dtypes of the global batch.
      learning: the functions of training, its state by shapes.
    """

    config: ConfigDict
    topology: Topology
    mesh: Mesh
    execution: Execution
    learning: Learning
    batch: Batch

    @property
    def state_bytes(self) -> int:
        """Of the state on each device, from shapes alone."""
        return device_bytes(self.learning.state, self.learning.shardings)

    @property
    def argument_bytes(self) -> int:
        """Of the state and the batch."""
        rows = dict.fromkeys(self.batch, by_row(self.mesh))
        return self.state_bytes + device_bytes(self.batch, rows)

    @property
    def work(self) -> Work:
        """What the step does, by formula."""
        config, learning = self.config, self.learning
        table = learning.table
        masked, _ = jax.eval_shape(learning.mask, dict(self.batch), jnp.int32(0), table)
        operations = step_operations(config, learning.model, learning.mask, self.batch, table)
        repeated = 0.0
        if operations is not None and config.train.remat == "layers":
            repeated = _encoder_forward(learning.model, masked["token_ids"].shape)
        slots = masked["mask_positions"].shape[1]
        return Work(self.batch["token_ids"].size, slots, operations, repeated)

    def lowered(self) -> jax.stages.Lowered:
        """The step as StableHLO for the platform, whether its devices are here or not."""
        with _cudnn_version():
            traced = self.learning.step.trace(self.learning.state, self.batch)
            return traced.lower(lowering_platforms=(self.topology.platform,))


@dataclasses.dataclass(frozen=True)
class Compiled:
    """What a compiler says of a step, in bytes of a device.

    Attributes:
      text: optimised HLO; None: jax cannot read what the compiler wrote.
      seconds: that compiling took.
    """

    arguments: int
    outputs: int
    aliased: int  # outputs that take the place of arguments
    temporaries: int
    peak: int
    text: str | None
    seconds: float


class DoesNotFitError(Exception):
    """A step needs more memory than a chip has; in bytes."""

    def __init__(self, needed: float, available: float):
        super().__init__(f"{needed:.0f} of {available:.0f} bytes")
        self.needed, self.available = needed, available


def plan_step(
    config: ConfigDict, topology: Topology, *, say: Callable[[str], None] = print
) -> PlannedStep:
    """The step that `train.py` would run with this config on that machine.

    Only a tokenizer, a store or weights that the config names are read; no text is prepared.

    Raises:
      ConfigError: the config cannot work there.
      DataError, CheckpointError: what it names cannot be read.
    """
    devices = devices_of(topology)
    mesh = mesh_of(config, devices)
    processes = len({device.process_index for device in devices})
    check_counts(config, len(devices), len(devices) // processes, processes)
    config, text = sized(config, say=say)
    execution = execution_for(Chip(topology.platform, len(devices)), config)
    epoch = EPOCH * config.train.batch_size
    learning = make_learning(config, text, mesh, execution, epoch=epoch)
    return PlannedStep(config, topology, mesh, execution, learning, abstract_batch(config))


def compile_step(step: PlannedStep) -> Compiled:
    """The step, compiled for devices of a TPU or a CPU.

    Raises:
      DoesNotFitError: the compiler found that it needs more memory than the chip has.
    """
    began = time.monotonic()
    try:
        with quiet_stderr():
            compiled = step.lowered().compile()
    except jax.errors.JaxRuntimeError as error:
        if found := next(filter(None, (p.search(str(error)) for p in OUT_OF_MEMORY)), None):
            needed, n, available, m = found.groups()
            sizes = float(needed) * UNITS[n], float(available) * UNITS[m]
            raise DoesNotFitError(*sizes) from error
        raise
    seconds = time.monotonic() - began
    memory = compiled.memory_analysis()
    held = memory.argument_size_in_bytes + memory.output_size_in_bytes
    held += memory.temp_size_in_bytes - memory.alias_size_in_bytes
    return Compiled(
        arguments=memory.argument_size_in_bytes,
        outputs=memory.output_size_in_bytes,
        aliased=memory.alias_size_in_bytes,
        temporaries=memory.temp_size_in_bytes,
        # Of a CPU it leaves temporaries out (jax 0.10).
        peak=memory.peak_memory_in_bytes if step.topology.platform == "tpu" else held,
        text=_text(compiled),
        seconds=seconds,
    )


def _text(compiled: jax.stages.Compiled) -> str | None:
    # Of a libtpu that is newer than jax it may fail: 0.0.52 for tpu7x, with jax 0.10.2.
    with quiet_stderr(), contextlib.suppress(jax.errors.JaxRuntimeError):
        return compiled.as_text()
    return None


def _encoder_forward(model: DistilBertConfig, shape: tuple[int, int]) -> float:
    """Operations of the layers without their gradients, which are two thirds of training."""
    sizes = {n: getattr(model, n) for n in ("layers", "width", "hidden", "vocabulary_size")}
    return train_step_flops(rows=shape[0], length=shape[1], slots=0, **sizes) / 3


@contextlib.contextmanager
def _cudnn_version() -> Iterator[None]:
    """A version for jax, which asks cuDNN for its own when it traces, where there is none."""
    from jax._src.cudnn import fused_attention_stablehlo as attention

    if attention.cuda_versions is not None:
        yield
        return
    attention.cuda_versions = types.SimpleNamespace(cudnn_get_version=lambda: 91000)
    try:
        yield
    finally:
        attention.cuda_versions = None
