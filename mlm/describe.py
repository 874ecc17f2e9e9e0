"""The first lines of a run: what it was made of, so that a log alone says how to repeat it."""

import json
from collections.abc import Collection

import jax
import numpy as np
from ml_collections import ConfigDict
from rich.console import Console
from rich.table import Table

from mlm.conditions import environment
from mlm.data import epoch_counts, token_counts, useful_share
from mlm.experiment import Experiment
from mlm.models import parameter_count
from mlm.preparing import unknown_warning
from mlm.training.freezing import leaf_paths, split


def print_config(console: Console, config: ConfigDict) -> None:
    """Every field, a line per section."""
    for section, fields in config.to_dict().items():
        console.print(f"config.{section}: {json.dumps(fields)}", soft_wrap=True)


def print_experiment(console: Console, exp: Experiment) -> None:
    """Versions, devices, text, rows and parameters."""
    console.print("  ".join(f"{name}: {value}" for name, value in environment().items()))
    train, heldout = exp.text.train, exp.text.heldout
    epochs = exp.run.total_steps * exp.run.slots / exp.rows.length / len(exp.rows)
    console.print(
        f"text {exp.text.folder}\n"
        f"     {train.documents:,} documents, {train.token_count:,} tokens to train on; "
        f"{heldout.documents:,} documents, {heldout.token_count:,} tokens held out\n"
        f"rows {len(exp.rows):,} of {exp.rows.length} tokens ({exp.rows.mode}), "
        f"{useful_share(exp.rows):.3f} of their slots hold text; "
        f"{epochs:.1f} epochs in {exp.run.total_steps:,} steps"
    )
    for line in (*source_lines(exp), *start_lines(exp), *exp.execution.lines):
        console.print(line)
    if warning := unknown_warning(token_counts(train), exp.tokenizer):
        console.print(warning)
    console.print(parameter_table(exp.params))


def source_lines(exp: Experiment) -> list[str]:
    """What an epoch takes of each source, a line for each if they have shares."""
    shares, temperature = (exp.run.config[f"data.{n}"] for n in ("shares", "temperature"))
    counts = epoch_counts(exp.rows, shares=shares, temperature=temperature)
    if counts is None:
        return []
    sizes = np.diff(exp.rows.source_bounds)
    sources = zip(exp.text.train.sources, counts, sizes, strict=True)
    return [
        f"     {source['name']}: {count / counts.sum():.4f} of an epoch, {count:,} of its {size:,} "
        f"rows ({count / max(size, 1):.2f} visits)"
        for source, count, size in sources
    ]


def start_lines(exp: Experiment) -> list[str]:
    """Which pretrained weights the run starts from, and what of the model stays as it is."""
    lines = []
    if facts := exp.start.facts:
        place = f"{facts['place']} ({facts['kind']}, {facts['revision'] or 'no revision'})"
        began = "started" if exp.start.params is None else "starts"
        lines.append(f"init {began} from {place}, digest of the weights {facts['digest'][:12]}")
        lines += [f"     {note}" for note in facts["notes"]]
    if exp.frozen:
        params = exp.params
        trained, frozen = (parameter_count(part) for part in split(params, exp.frozen))
        arrays = len(exp.frozen)
        lines.append(
            f"frozen {arrays} of {len(leaf_paths(params))} arrays, {frozen:,} of "
            f"{trained + frozen:,} numbers; {trained:,} are trained"
        )
    return lines


def parameter_table(params: dict, *, frozen: Collection[str] | None = None) -> Table:
    """Parameters by part of the model, and in all; `params` may be abstract.

    Args:
      frozen: paths of those that are not trained; None: nothing is said of it.
    """
    sizes: dict[str, np.ndarray] = {}
    for path, leaf in zip(leaf_paths(params), jax.tree.leaves(params), strict=True):
        names = path.split("/")
        depth = 3 if "layers" in names else 2
        part = "/".join(names[: max(1, min(depth, len(names) - 1))])
        trained = 0 if path in (frozen or ()) else leaf.size
        sizes[part] = sizes.get(part, 0) + np.array([leaf.size, trained])
    columns = ("parameters",) if frozen is None else ("parameters", "trainable")
    table = Table("part", show_footer=True)
    table.columns[0].footer = "all parameters"
    for name, total in zip(columns, sum(sizes.values()), strict=False):
        table.add_column(name, justify="right", footer=f"{total:,}")
    for part, size in sizes.items():
        table.add_row(part, *(f"{n:,}" for n in size[: len(columns)]))
    return table
