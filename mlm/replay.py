"""`python -m mlm replay`: the batch, masks and labels that one step of a run consumed.

They follow from the run's config and text: batch k from the seed, masks from each row's example id
and visit, rates from the step. Only weights that adapt ('accuracy', 'loss') need a checkpoint
besides, the one that the step went on from. B batch (with copies: of the masked one), L length, P
mask slots.
"""

import dataclasses
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from mlm import experiment, origin, saved
from mlm.config import duration
from mlm.data import Rows, locate
from mlm.errors import CheckpointError, ConfigError, OutputError
from mlm.input import batch_function, prepare_text, training_rows
from mlm.masked_rows import mask_hash
from mlm.masks import adaptive, copies, make_mask, training_rates
from mlm.retraining import last_before, train_again
from mlm.settings import run_keys
from mlm.text import Tokenizer
from mlm.training.adaptive import Adaptive, init_table
from mlm.training.workdir import saved_steps

LEGEND = "shown<label> is predicted, shown(original) corrupted and not predicted"


@dataclasses.dataclass(frozen=True)
class Replayed:
    """What step `step` of a run consumed.

    Attributes:
      step: as metrics.jsonl counts: the update that made `step` of `step - 1`.
      total_steps: of the run.
      arrays: what the model and the loss were given (`token_ids`, `mask_positions`, `mask_ids`,
        `mask_weights`, `padding_mask`, `example_ids`, `visits`, of packed rows `segment_ids` and
        `position_ids`), and beside it `original_ids`, `documents` and `offsets`, `[B, L]` each:
        where in the token store's documents the tokens stand, -1 for special ones.
      rates: the requested ones of this step.
      selectable: tokens that could have been selected, before rows are copied.
      mask_hash: sha256 of every (document, offset, label), as in evaluations.
      tokenizer: of the run.
    """

    step: int
    total_steps: int
    arrays: dict[str, np.ndarray]
    rates: dict[str, float]
    selectable: int
    mask_hash: str
    tokenizer: Tokenizer


def replay(
    config: ConfigDict, workdir: Path, step: int, *, retrain: bool = False, say: Callable = print
) -> Replayed:
    """What step `step` of the run in `workdir` consumed, bit for bit, on any number of devices.

    Args:
      config: of the run, from `stored_config`.
      step: 1 for the first.
      retrain: where weights adapt and no checkpoint stands just before the step, take the steps
        from the last one before it again. That is exact where training is: on the same machine,
        with as many devices.
      say: called with a line on what is being done.

    Raises:
      ConfigError: the run has no such step.
      CheckpointError: text or tokenizer are not the run's, or adaptive weights are not known.
    """
    start = origin.kept_start(config, workdir)
    text = prepare_text(config, tokenizer=start and start.tokenizer, say=say)
    rows = training_rows(config, text, say=say)
    origin.check_text(workdir, text, rows, weights=config.masking.weights)
    size = config.train.batch_size
    total = duration(config.train, "total", epoch=len(rows), batch_size=size)
    if not 1 <= step <= total:
        raise ConfigError(f"--step is {step}; the run in {workdir} has steps 1 to {total}")
    origin.check_unchanged(workdir, step)
    adapt = adaptive(config, text.tokenizer.vocabulary_size)
    kept = [s for s in saved_steps(workdir / "checkpoints") if s < total]
    table = () if adapt is None else _table(config, workdir, step, kept, adapt, retrain, start, say)

    batch = batch_function(config, rows)(step - 1)
    mask = make_mask(config, text, root=run_keys(config.seed).masks, total_steps=total)
    masked, counts = jax.device_get(jax.jit(mask)(batch, jnp.int32(step - 1), table))
    arrays = {**masked, **_origin(rows, batch, copies(config))}
    requested = training_rates(config, total_steps=total).at(step - 1)
    return Replayed(
        step=step,
        total_steps=total,
        arrays=arrays,
        rates={name: float(rate) for name, rate in requested.items() if rate is not None},
        selectable=int(counts.selectable),
        mask_hash=mask_hash(arrays["documents"], arrays["offsets"], arrays),
        tokenizer=text.tokenizer,
    )


def _origin(rows: Rows, batch: dict[str, np.ndarray], times: int) -> dict[str, np.ndarray]:
    """The ids before masking and where they are from, for every copy of a row."""
    documents, offsets = locate(rows, batch["example_ids"])
    found = {"original_ids": batch["token_ids"], "documents": documents, "offsets": offsets}
    return {name: np.repeat(values, times, axis=0) for name, values in found.items()}


# ---- weights that adapt ------------------------------------------------------------------------


def _table(
    config: ConfigDict,
    workdir: Path,
    step: int,
    steps: list[int],
    adapt: Adaptive,
    retrain: bool,
    start: Any,
    say: Callable,
) -> Any:
    """What masking followed at `step`: what the one before it left; `steps` are those kept."""
    if step == 1:
        return init_table(adapt)
    if step - 1 in steps:
        like = jax.eval_shape(lambda: init_table(adapt))
        return saved.restore_mask_table(like, workdir, step - 1)
    if not retrain:
        exact = ", ".join(str(s + 1) for s in (0, *steps))
        raise CheckpointError(
            f"the weights of masking.weights {adapt.kind!r} at step {step} are in no checkpoint of "
            f"{workdir}; of this run steps {exact} can be replayed, or add --retrain to take the "
            "steps from the checkpoint before it again (exact on the machine of the run)"
        )
    before = last_before(config, workdir, step, steps)
    say(f"training again from step {before} to {step - 1}")
    exp = experiment.build(config, start=start, say=say)
    state, _ = train_again(exp, workdir, before, step - 1)
    return jax.device_get(state.mask_table)


# ---- for people and for files ------------------------------------------------------------------


def replay_lines(found: Replayed, row: int | None = None) -> Iterator[str]:
    """The step in a few lines, then one row of the (masked) batch or all of them.

    Raises:
      ConfigError: the batch has no such row.
    """
    count = len(found.arrays["token_ids"])
    if row is not None and not 0 <= row < count:
        raise ConfigError(f"--row is {row}; the batch has rows 0 to {count - 1}")
    yield from summary(found)
    yield LEGEND
    for number in range(count) if row is None else (row,):
        yield ""
        yield from _row_lines(found, number)


def summary(found: Replayed) -> list[str]:
    """What step it is, and how much was masked."""
    count = len(found.arrays["token_ids"])
    rates = "  ".join(f"{name} {rate:g}" for name, rate in found.rates.items())
    predicted = int(found.arrays["mask_weights"].sum())
    share = predicted / max(found.selectable, 1)
    return [
        f"step {found.step} of {found.total_steps}, as in metrics.jsonl: batch {found.step - 1}, "
        f"masked at state.step {found.step - 1}, before the update that made it {found.step}",
        f"requested: {rates}",
        f"{count} rows, {predicted:,} tokens predicted of {found.selectable:,} selectable "
        f"({share:.4f})",
        f"mask hash {found.mask_hash}",
    ]


def _row_lines(found: Replayed, row: int) -> Iterator[str]:
    a = {name: values[row] for name, values in found.arrays.items()}
    token, length = found.tokenizer.token, int(a["padding_mask"].sum())
    labels = dict(zip(a["mask_positions"].tolist(), a["mask_ids"].tolist(), strict=True))
    filled = a["mask_positions"][a["mask_weights"] > 0].tolist()
    shown = [
        _token(token, a["token_ids"][i], a["original_ids"][i], predicted=i in filled)
        for i in range(length)
    ]
    padding = len(a["token_ids"]) - length
    yield (
        f"row {row}: example {a['example_ids']}, visit {a['visits']}, {length} tokens, "
        f"{padding} of padding, {len(filled)} predicted"
    )
    yield f"    {' '.join(shown)}"
    for i in filled:
        yield (
            f"    position {i:>4}  document {a['documents'][i]} token {a['offsets'][i]}  "
            f"shown {token(int(a['token_ids'][i]))}  label {token(labels[i])} ({labels[i]})"
        )


def _token(token: Callable[[int], str], shown: int, original: int, *, predicted: bool) -> str:
    if predicted:
        return f"{token(int(shown))}<{token(int(original))}>"
    changed = shown != original
    return f"{token(int(shown))}({token(int(original))})" if changed else token(int(shown))


def save_replay(found: Replayed, file: Path) -> None:
    """Writes all arrays, `step` and `mask_hash` as .npz; whole or not at all.

    Raises:
      OutputError: it cannot be written.
    """
    partial = file.with_name(f".{file.name}.partial")
    try:
        with partial.open("wb") as stream:
            np.savez_compressed(stream, step=found.step, mask_hash=found.mask_hash, **found.arrays)
        partial.replace(file)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise OutputError(
            f"--out {file} cannot be written ({error.strerror}); choose another file"
        ) from error
