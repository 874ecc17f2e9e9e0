"""What a run has saved, read back: its tokenizer, params and state."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh
from ml_collections import ConfigDict

from mlm import models
from mlm.config import model_fields
from mlm.devices import mesh_of
from mlm.errors import CheckpointError, DataError
from mlm.evaluation.fill_mask import make_fill_mask
from mlm.network import make_network
from mlm.text import Tokenizer, load_tokenizer
from mlm.training.checkpoint import checkpoints_in, parts_of
from mlm.training.parameter_rules import parameter_shardings
from mlm.training.restoring import check_structure, stored_digests, without_later
from mlm.training.sharding import replicated
from mlm.training.step import TrainState
from mlm.training.workdir import read_json

WAY_OUT = "; put the file back, or choose another --workdir"


def evaluation_result(config: ConfigDict, workdir: Path, step: int, masks: dict) -> dict:
    """What eval.json holds: with pretrained weights, also how good they were before training."""
    before = read_json(workdir / "eval-0.json") if config.model.init_from else None
    return {"step": step, **({"before": before["masks"]} if before else {}), "masks": masks}


def saved_tokenizer(workdir: Path) -> Tokenizer:
    """The tokenizer of the run in `workdir`; raises CheckpointError if it cannot be read."""
    try:
        return load_tokenizer(workdir / "tokenizer.json")
    except DataError as error:
        raise CheckpointError(
            f"{workdir / 'tokenizer.json'}, which the run was trained with, is missing or damaged"
            f"{WAY_OUT}"
        ) from error


def restore_params(
    params: dict, workdir: Path, step: int, *, shardings: dict | None = None
) -> dict:
    """The params of a saved step, whatever mesh they were saved from.

    Args:
      params: their shapes and dtypes, as in `Network`.
      shardings: where they go; by default they are whole on each device.

    Raises:
      CheckpointError: they cannot be read, or have other shapes.
    """
    with checkpoints_in(workdir / "checkpoints", read_only=True) as checkpoints:
        return checkpoints.restore_params(step, _lying(params, shardings))


def restore_run(
    init_state: Callable[[], TrainState],
    workdir: Path,
    step: int,
    *,
    shardings: TrainState | None = None,
) -> tuple[TrainState, dict[str, float]]:
    """All of a saved step, and the sums of the log interval that was not at its end.

    As `restore_params`, with the shapes of `init_state()`.
    """
    like = _lying(jax.eval_shape(init_state), shardings)
    with checkpoints_in(workdir / "checkpoints", read_only=True) as checkpoints:
        return checkpoints.restore(step, like)


def check_state_fits(init_state: Callable[[], TrainState], workdir: Path, step: int) -> None:
    """Raises CheckpointError if a saved step is of another model or optimizer, or damaged."""
    checkpoint = workdir / "checkpoints" / str(step)
    if leaves := stored_digests(checkpoint)["leaves"]:  # there are none of older versions
        parts = parts_of(jax.eval_shape(init_state))
        check_structure(checkpoint, leaves, without_later(leaves, parts))


def restore_mask_table(table: Any, workdir: Path, step: int) -> Any:
    """What masking followed at a saved step, like `restore_params`; `()` where it did not adapt."""
    with checkpoints_in(workdir / "checkpoints", read_only=True) as checkpoints:
        return checkpoints.restore_mask_table(step, _lying(table))


def _lying(tree: Any, shardings: Any = None) -> Any:
    """The shapes and dtypes of a tree that goes there; by default to each device as a whole."""
    if shardings is None:
        # Of all devices, whatever the slices are that a mesh to train on would ask for.
        whole = replicated(Mesh(np.asarray(jax.devices()), ("devices",)))
        shardings = jax.tree.map(lambda _: whole, tree)
    return jax.tree.map(
        lambda leaf, at: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=at), tree, shardings
    )


def load_fill(config: ConfigDict, workdir: Path, step: int) -> tuple[Callable, dict]:
    """`fill` and the params of a saved step, from the workdir alone: no corpus is needed."""
    tokenizer = saved_tokenizer(workdir)
    model = models.DistilBertConfig(tokenizer.vocabulary_size, **model_fields(config))
    mesh = mesh_of(config)
    network = make_network(model, config.model.get("custom", ""), mesh=mesh)
    length = config.model.max_length
    fill = make_fill_mask(network.apply, tokenizer, length=length, out=replicated(mesh))
    shardings = parameter_shardings(network.params, mesh)
    return fill, restore_params(network.params, workdir, step, shardings=shardings)
