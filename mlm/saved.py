"""What a run keeps in its workdir about its start, text and weights, and reads back later."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh
from ml_collections import ConfigDict

from mlm import models
from mlm.config import model_fields
from mlm.data import ORDER_VERSION, Rows
from mlm.data.store import sha256
from mlm.devices import mesh_of
from mlm.errors import CheckpointError, DataError
from mlm.evaluation.fill_mask import make_fill_mask
from mlm.network import make_network
from mlm.preparing import PreparedText
from mlm.start import Start
from mlm.text import Tokenizer, load_tokenizer
from mlm.training.checkpoint import checkpoints_in
from mlm.training.parameter_rules import parameter_shardings
from mlm.training.sharding import replicated
from mlm.training.step import TrainState
from mlm.training.workdir import read_json, saved_steps, write_json

WAY_OUT = "; put the file back, or choose another --workdir"


def keep_origin(
    workdir: Path, *, start: Start, text: PreparedText, rows: Rows, weights: str = ""
) -> None:
    """Stores with the run what it is made from, or compares it with what is stored.

    Args:
      weights: `masking.weights`, of which a file counts by its content.

    Raises:
      CheckpointError: the run began with another tokenizer, text, units or weights.
    """
    keep_start(workdir, start)
    keep_text(workdir, text, rows, weights=weights)


def keep_start(workdir: Path, start: Start) -> None:
    """Stores where the weights of a run that begins are from: init.json."""
    if saved_steps(workdir / "checkpoints"):
        return
    if start.facts is None:
        (workdir / "init.json").unlink(missing_ok=True)  # of an attempt that saved nothing
    else:
        write_json(workdir / "init.json", start.facts)


def kept_start(config: ConfigDict, workdir: Path) -> Start | None:
    """What the run in `workdir` started from, without its weights; None if it is yet to begin.

    Nothing but the workdir is read, so a run goes on where there is no network.
    """
    if not config.model.init_from or not saved_steps(workdir / "checkpoints"):
        return None
    return Start(saved_tokenizer(workdir), facts=read_json(workdir / "init.json"))


def evaluation_result(config: ConfigDict, workdir: Path, step: int, masks: dict) -> dict:
    """What eval.json holds: with pretrained weights, also how good they were before training."""
    before = read_json(workdir / "eval-0.json") if config.model.init_from else None
    return {"step": step, **({"before": before["masks"]} if before else {}), "masks": masks}


def keep_text(workdir: Path, text: PreparedText, rows: Rows, *, weights: str = "") -> None:
    """Stores the tokenizer and where the text is from with the run: tokenizer.json, text.json.

    Raises:
      CheckpointError: the run began with another tokenizer, text, units or weights.
    """
    if saved_steps(workdir / "checkpoints"):
        check_text(workdir, text, rows, weights=weights)
        return
    text.tokenizer.save(workdir / "tokenizer.json")
    write_json(workdir / "text.json", _text_facts(text, rows, weights))


def _text_facts(text: PreparedText, rows: Rows, weights: str) -> dict[str, object]:
    return {
        "text": text.train.fingerprint,
        "order": ORDER_VERSION,
        "rows": rows.source_bounds.tolist(),
        "units": rows.units.meta["units_sha256"] if rows.units else "",
        "weights": _digest(Path(weights)) if weights.endswith(".npy") else "",
        "source": text.train.meta["source"],
    }


def _digest(file: Path) -> str:
    try:
        return sha256(file)
    except OSError as error:
        return f"missing ({error.strerror})"


def check_text(workdir: Path, text: PreparedText, rows: Rows, *, weights: str = "") -> None:
    """Raises CheckpointError unless text, tokenizer and what masks follow are those of the run.

    Bitmaps of units and a file of `masking.weights` stand in the config by their place alone.
    """
    stored, facts = read_json(workdir / "text.json"), _text_facts(text, rows, weights)
    if stored is None:
        raise CheckpointError(f"{workdir} holds a run but no readable text.json{WAY_OUT}")
    stored["tokenizer"] = saved_tokenizer(workdir).hash
    for name in ("rows", "units", "weights"):  # a run from before they were kept
        stored.setdefault(name, facts[name])
    facts["tokenizer"] = text.tokenizer.hash
    for name in ("tokenizer", "text", "order", "rows", "units", "weights"):
        then, now = stored.get(name), facts[name]
        if then != now:
            back = f"masking.{name}" if name in ("units", "weights") else "the text and tokenizer"
            raise CheckpointError(
                f"the run in {workdir} began with {name} {str(then)[:12]}, it is {str(now)[:12]} "
                f"now; give {back} back, or choose another --workdir"
            )


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


def restore_state(
    init_state: Callable[[], TrainState],
    workdir: Path,
    step: int,
    *,
    shardings: TrainState | None = None,
) -> TrainState:
    """All of a saved step, with the shapes of `init_state()`; else as `restore_params`."""
    like = _lying(jax.eval_shape(init_state), shardings)
    with checkpoints_in(workdir / "checkpoints", read_only=True) as checkpoints:
        return checkpoints.restore(step, like)[0]


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
