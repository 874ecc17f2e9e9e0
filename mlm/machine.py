"""How a config is computed on the devices at hand; what they cannot run is refused here."""

import dataclasses
from collections.abc import Mapping, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from mlm.determinism import FLAGS, flags_are_set, not_bit_exact
from mlm.errors import ConfigError
from mlm.models import DistilBertConfig
from mlm.models.attention import obstacle
from mlm.training.flops import peak_flops, train_step_flops
from mlm.training.metrics import Hardware
from mlm.training.step import Mask

AMPERE = 8.0  # the first compute capability with cuDNN's flash attention


@dataclasses.dataclass(frozen=True)
class Chip:
    """What of the devices decides: 'cpu', 'tpu', 'cuda' or 'rocm', and how many there are."""

    platform: str
    count: int = 1
    capability: float = AMPERE  # of a CUDA device


@dataclasses.dataclass(frozen=True)
class Execution:
    """What the machine decides of a run: one of `mlm.models.attention.BACKENDS`, and what to say.

    Attributes:
      attention: the backend.
      lines: for the head of a run's log.
    """

    attention: str
    lines: tuple[str, ...]


def execution_on(devices: Sequence[jax.Device], config: ConfigDict) -> Execution:
    """How `config` is computed on `devices`.

    Raises:
      ConfigError: they cannot run it as it says.
    """
    chip = chip_of(devices)
    on_gpu = chip.platform in ("cuda", "rocm")
    if config.deterministic and on_gpu and not flags_are_set():
        raise ConfigError(
            "deterministic is True and jax has started without its flags; start Python with "
            f"XLA_FLAGS='{' '.join(FLAGS)}', or train by train.py, which sets them"
        )
    return execution_for(chip, config)


def execution_for(chip: Chip, config: ConfigDict) -> Execution:
    """How `config` is computed on a chip, whether it is here or not.

    Raises:
      ConfigError: it cannot run it as it says.
    """
    attention, reason = choose_attention(config, chip)
    note = not_bit_exact(chip.platform, deterministic=config.deterministic)
    return Execution(attention, (f"attention {attention}: {reason}", *([note] if note else [])))


def chip_of(devices: Sequence[jax.Device]) -> Chip:
    """The chip of a mesh's devices, which are all of a kind."""
    first = devices[0]
    if first.platform != "gpu":
        return Chip(first.platform, len(devices))
    version = getattr(first.client, "platform_version", "")
    capability = float(getattr(first, "compute_capability", AMPERE) or AMPERE)
    return Chip("cuda" if "cuda" in version else "rocm", len(devices), capability)


def choose_attention(config: ConfigDict, chip: Chip) -> tuple[str, str]:
    """The backend that `model.attention` stands for on a chip, and why.

    'auto' is cuDNN on a GPU and splash on a TPU where they can run, and einsum elsewhere.

    Raises:
      ConfigError: the backend that the config names cannot run there.
    """
    name = config.model.attention
    if name != "auto":
        if problem := _obstacle(name, config, chip):
            raise ConfigError(
                f"model.attention is {name!r}, which {problem}; choose 'auto', or 'einsum', which "
                "runs everywhere"
            )
        return name, "as the config says"
    fast = {"cuda": "cudnn", "tpu": "splash"}.get(chip.platform)
    if fast is None:
        return "einsum", f"on {chip.platform}"
    if problem := _unfit(fast, config) or _obstacle(fast, config, chip):
        return "einsum", f"{fast} {problem}"
    return fast, f"on {chip.platform}"


def _unfit(name: str, config: ConfigDict) -> str:
    """What of a run only einsum gives; a config that names another backend is refused by rules."""
    if config.model.attention_dropout:
        return f"has no dropout, model.attention_dropout is {config.model.attention_dropout}"
    if config.deterministic and name == "cudnn":
        return "adds up gradients in no fixed order, and config.deterministic is True"
    return ""


def _obstacle(name: str, config: ConfigDict, chip: Chip) -> str:
    """Why a backend cannot run a config on a chip; empty if it can."""
    needs = {"cudnn": "cuda", "splash": "tpu"}.get(name, chip.platform)
    if needs != chip.platform:
        kind = {"cuda": "an NVIDIA GPU", "tpu": "a TPU"}[needs]
        return f"needs {kind}, this machine computes on {chip.platform}"
    if name == "cudnn" and chip.capability < AMPERE:
        return f"needs compute capability {AMPERE}, this GPU has {chip.capability}"
    if name == "splash" and chip.count > 1:
        return f"runs on one device, there are {chip.count}"
    lengths = (config.data.length, config.eval.length, config.model.max_length)
    width = config.model.width // config.model.heads
    return obstacle(name, dtype=config.model.dtype, width=width, lengths=lengths)


def hardware_of(
    devices: Sequence[jax.Device],
    config: ConfigDict,
    model: DistilBertConfig,
    mask: Mask,
    batch: Mapping[str, np.ndarray],
    table: object,
) -> Hardware:
    """What the speeds of a run are related to; arguments as in `step_operations`."""
    peak = config.log.peak_flops or peak_flops(devices[0].device_kind)
    return Hardware(len(devices), step_operations(config, model, mask, batch, table), peak)


def step_operations(
    config: ConfigDict,
    model: DistilBertConfig,
    mask: Mask,
    batch: Mapping[str, np.ndarray],
    table: object,
) -> float | None:
    """Operations of a training step by formula.

    None: a model of one's own, or one of which a part is frozen, has none.

    Args:
      mask, table: of training; they tell how many mask slots a step has, and copies of rows.
      batch: any of training; its first axis is this process's share of the rows.
    """
    if config.model.custom or config.train.freeze:
        return None
    masked, _ = jax.eval_shape(mask, dict(batch), jnp.int32(0), table)
    copies = len(masked["token_ids"]) // len(batch["token_ids"])
    return train_step_flops(
        rows=config.train.batch_size * copies,
        length=config.data.length,
        slots=masked["mask_positions"].shape[1],
        layers=model.layers,
        width=model.width,
        hidden=model.hidden,
        vocabulary_size=model.vocabulary_size,
    )
