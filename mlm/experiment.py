"""From a config to the functions of a run: the one file that sees every room.

    text -> token store -> rows -> batch k -> masks -> model -> step -> evaluation

Below this file no function sees a config: values and small frozen dataclasses go down.
"""

import dataclasses
import functools
from collections.abc import Callable, Iterable

import jax
import numpy as np
from jax.sharding import Mesh
from ml_collections import ConfigDict

from mlm import models
from mlm.conditions import Conditions, conditions_of, keep_attempt
from mlm.config import duration, flat
from mlm.data import Rows, token_counts
from mlm.devices import mesh_of
from mlm.evaluation.fill_mask import check_prompt, make_fill_mask
from mlm.evaluation.frozen import make_evaluate, unigram_log_probs
from mlm.evaluation.rows import eval_rows
from mlm.input import batch_function, heldout_rows, prepare_text, training_rows
from mlm.learning import Learning, make_learning
from mlm.machine import Execution, execution_on, hardware_of
from mlm.masks import make_evaluation_masks
from mlm.origin import keep_origin
from mlm.own import load_function
from mlm.preparing import PreparedText
from mlm.rules import validate, validate_sizes
from mlm.start import Start, find_start, with_sizes_of
from mlm.text import Tokenizer
from mlm.training.loop import Run
from mlm.training.processes import check_same, put_whole
from mlm.training.sharding import batch_places, by_row, put_batch, replicated, row_parts
from mlm.training.step import Batch, TrainState
from mlm.training.watchdog import Pulse

# Fields that may name a function of the user.
OWN = ("masking.unit", "masking.weights", "masking.schedule", "model.custom", "train.loss")


@dataclasses.dataclass(frozen=True)
class Experiment:
    """A config, built: what a notebook, train.py and eval.py work with.

    Attributes:
      start: what the run starts from.
      text: tokenizer and token stores.
      rows, heldout_rows: what training and evaluation read.
      model: static settings of the architecture.
      params: shapes and dtypes of the model's parameters.
      apply: `apply(params, batch, *, key=None) -> float32[B, P, V]` logits.
      fill: `fill(params, text, top_k)`, see `make_fill_mask`.
      execution: how the devices compute it.
      frozen: paths of the params that training leaves as they are.
      mesh: all devices.
      shardings: where each leaf of the state lies on it.
      conditions: what decides whether its bits repeat.
      run: everything that `mlm.training.train` needs.
    """

    start: Start
    text: PreparedText
    rows: Rows
    heldout_rows: Rows
    model: models.DistilBertConfig
    params: dict
    apply: Callable[..., jax.Array]
    fill: Callable
    execution: Execution
    frozen: frozenset[str]
    mesh: Mesh
    shardings: TrainState
    conditions: Conditions
    run: Run

    @property
    def tokenizer(self) -> Tokenizer:
        return self.text.tokenizer


def build(
    config: ConfigDict,
    *,
    documents: Iterable[str] | None = None,
    start: Start | None = None,
    say: Callable = print,
) -> Experiment:
    """The experiment that a config describes; prepares its text if need be.

    Args:
      documents: anything that yields texts, in place of `data.corpus`.
      start: of a run that has begun; by default what the config says is read.
      say: called with a line on what is being done.

    Raises:
      ConfigError: the config cannot work, the optimizer does not take its arguments, or a function
        that it names cannot be used.
      DataError: the text, the tokenizer or the store cannot be used.
      CheckpointError: the weights to start from cannot be used.
    """
    validate(config)
    fields = flat(config)
    for field in OWN:  # found now rather than when text is prepared
        if ":" in fields[field]:
            load_function(field, fields[field])
    mesh = mesh_of(config)

    start = start or find_start(config, say=say)
    config = with_sizes_of(start, config, say=say)
    validate_sizes(config)
    execution = execution_on(mesh.devices.flat, config)
    text = prepare_text(config, documents=documents, tokenizer=start.tokenizer, say=say)
    check_same("text or tokenizer", text.train.fingerprint + text.tokenizer.hash)
    check_same("weights to start from", str((start.facts or {}).get("digest")))
    for prompt in config.eval.fill:  # found now rather than at the end of the run
        check_prompt(text.tokenizer, prompt, config.model.max_length)
    rows = training_rows(config, text, say=say)
    held_out = heldout_rows(config, text, say=say)

    learning = make_learning(config, text, mesh, execution, epoch=len(rows), given=start.params)
    apply = learning.apply
    length, whole = config.model.max_length, replicated(mesh)
    fill = make_fill_mask(apply, text.tokenizer, length=length, out=whole)
    pulse = Pulse()
    evaluate = _make_evaluate(config, text, held_out, apply, mesh, pulse)
    run = _make_run(config, rows, learning, evaluate, mesh)
    conditions = conditions_of(flat(config), mesh, attention=execution.attention)
    made_of = {"start": start, "text": text, "rows": rows, "weights": config.masking.weights}
    run = dataclasses.replace(
        run,
        pulse=pulse,
        keep=functools.partial(keep_origin, **made_of),
        begin=functools.partial(keep_attempt, conditions=conditions, say=say),
    )
    return Experiment(
        start,
        text,
        rows,
        held_out,
        learning.model,
        learning.params,
        apply,
        fill,
        execution,
        learning.frozen,
        mesh,
        learning.shardings,
        conditions,
        run,
    )


def _make_run(config, rows: Rows, learning: Learning, evaluate, mesh: Mesh) -> Run:
    """The functions and numbers of the training loop."""
    batch_size, total = config.train.batch_size, learning.total_steps
    every = functools.partial(
        duration, stem="every", epoch=len(rows), batch_size=batch_size, total=total
    )
    batch_at = batch_function(
        config,
        rows,
        places=batch_places(mesh, batch_size),
    )
    return Run(
        init_state=learning.init_state,
        step=learning.step,
        batch_at=batch_at,
        put=functools.partial(put_batch, mesh, size=batch_size),
        evaluate=evaluate,
        total_steps=total,
        step_seconds=config.train.step_timeout_seconds,
        log_every=every(config.log),
        eval_every=every(config.eval),
        save_every=every(config.checkpoint),
        slots=batch_size * rows.length,
        hardware=hardware_of(
            mesh.devices.flat,
            config,
            learning.model,
            learning.mask,
            batch_at(0),
            learning.table,
        ),
        evaluate_first=bool(config.model.init_from),
        max_nonfinite_in_a_row=config.train.max_nonfinite_in_a_row,
        keep_last=config.checkpoint.keep_last,
        keep_best=config.checkpoint.keep_best,
        tensorboard=config.log.tensorboard,
        config=flat(config),
    )


def _make_evaluate(
    config, text: PreparedText, rows: Rows, apply, mesh: Mesh, pulse: Pulse
) -> Callable:
    """Evaluation on masks that no training setting changes, so that runs can be compared."""
    special = text.tokenizer.special
    size = min(config.eval.max_examples, len(rows))
    # The last batch is filled up anyway, so any number of devices can share the rows.
    parts = row_parts(mesh)
    batch_size = -(-config.eval.batch_size // parts) * parts
    whole = by_row(mesh)

    def put(batch: dict[str, np.ndarray]) -> Batch:
        pulse.beat()
        return put_whole(whole, batch)

    return make_evaluate(
        apply,
        make_evaluation_masks(config, text.tokenizer),
        lambda: eval_rows(rows, size, batch_size, special.pad),
        mask_token_id=special.mask,
        unigram_log_probs=unigram_log_probs(token_counts(text.train)),
        put=put,
        replicated=replicated(mesh),
    )
