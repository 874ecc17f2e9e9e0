"""From a config to the functions of a run: the one file that sees every room.

    text -> token store -> rows -> batch k -> masks -> model -> step -> evaluation

Below this file no function sees a config: values and small frozen dataclasses go down.
"""

import dataclasses
import functools
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

import jax
import numpy as np
from jax.sharding import Mesh
from ml_collections import ConfigDict

from mlm import models, saved
from mlm.config import duration, flat
from mlm.data import Rows, locate, read_rows, token_counts
from mlm.devices import check_tensor, mesh_of
from mlm.evaluation.fill_mask import check_prompt, make_fill_mask
from mlm.evaluation.frozen import EvalRows, make_evaluate, unigram_log_probs
from mlm.input import batch_function, heldout_rows, prepare_text, training_rows
from mlm.machine import Execution, execution_on, hardware_of
from mlm.masks import adaptive, make_evaluation_masks, make_mask
from mlm.network import make_loss, make_network
from mlm.own import load_function
from mlm.preparing import PreparedText
from mlm.rules import validate, validate_sizes
from mlm.settings import model_config, optimizer_settings, run_keys
from mlm.start import Start, find_start, with_sizes_of
from mlm.text import Tokenizer
from mlm.training.adaptive import init_table
from mlm.training.freezing import frozen_paths
from mlm.training.loop import Run
from mlm.training.optimizer import make_optimizer, make_schedule
from mlm.training.parameter_rules import state_shardings
from mlm.training.processes import check_same, put_whole
from mlm.training.sharding import batch_places, by_row, put_batch, replicated, row_parts
from mlm.training.step import TrainState, make_init_state, make_train_step

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
    text = prepare_text(config, documents=documents, tokenizer=start.tokenizer, say=say)
    check_same("text or tokenizer", text.train.fingerprint + text.tokenizer.hash)
    check_same("weights to start from", str((start.facts or {}).get("digest")))
    for prompt in config.eval.fill:  # found now rather than at the end of the run
        check_prompt(text.tokenizer, prompt, config.model.max_length)
    rows = training_rows(config, text, say=say)
    held_out = heldout_rows(config, text, say=say)

    execution = execution_on(mesh.devices.flat, config)
    model = dataclasses.replace(
        model_config(config, text.tokenizer.vocabulary_size),
        attention=execution.attention,
        remat=config.train.remat,
    )
    network = make_network(model, config.model.custom, mesh=mesh)
    params, apply = network.params, network.apply
    check_tensor(config, params, mesh)
    length, whole = config.model.max_length, replicated(mesh)
    fill = make_fill_mask(apply, text.tokenizer, length=length, out=whole)
    evaluate = _make_evaluate(config, text, held_out, apply, mesh)
    frozen = frozen_paths(params, config.train.freeze)
    weights = _Weights(network.init, start.params, frozen)
    run, shardings = _make_run(config, text, rows, model, weights, apply, evaluate, mesh)
    origin = {"start": start, "text": text, "rows": rows, "weights": config.masking.weights}
    run = dataclasses.replace(run, keep=functools.partial(saved.keep_origin, **origin))
    return Experiment(
        start,
        text,
        rows,
        held_out,
        model,
        params,
        apply,
        fill,
        execution,
        frozen,
        mesh,
        shardings,
        run,
    )


class _Weights(NamedTuple):
    """A model's params before training, and which of them stay so."""

    init: Callable[[jax.Array], dict]
    given: dict | None
    frozen: frozenset[str]


def _make_run(
    config, text: PreparedText, rows: Rows, model, weights: _Weights, apply, evaluate, mesh: Mesh
) -> tuple[Run, TrainState]:
    """The functions and numbers of the training loop, and where the state lies."""
    batch_size = config.train.batch_size
    steps = functools.partial(duration, epoch=len(rows), batch_size=batch_size)
    total = steps(config.train, "total")
    optimizer = optimizer_settings(config, warmup=steps(config.optimizer, "warmup", total=total))
    schedule = make_schedule(optimizer, total_steps=total)
    tx = make_optimizer(optimizer, schedule)

    init_key, mask_key, dropout_key = run_keys(config.seed)
    adapt = adaptive(config, text.tokenizer.vocabulary_size)
    table = () if adapt is None else init_table(adapt)
    init_state = make_init_state(
        weights.init,
        tx,
        mesh,
        frozen=weights.frozen,
        given=weights.given,
        adapt=adapt,
    )
    shardings = state_shardings(jax.eval_shape(init_state, init_key), mesh)
    mask = make_mask(config, text, root=mask_key, total_steps=total)
    batch_at = batch_function(
        config,
        rows,
        places=batch_places(mesh, batch_size),
    )
    step = make_train_step(
        apply,
        mask,
        tx,
        schedule,
        dropout_key=dropout_key,
        mesh=mesh,
        shardings=shardings,
        accumulation=config.train.accumulation,
        frozen=weights.frozen,
        loss=make_loss(config.train.loss, text.tokenizer.vocabulary_size),
        adapt=adapt,
    )
    run = Run(
        init_state=lambda: init_state(init_key),
        step=step,
        batch_at=batch_at,
        put=functools.partial(put_batch, mesh, size=batch_size),
        evaluate=evaluate,
        total_steps=total,
        log_every=steps(config.log, "every", total=total),
        eval_every=steps(config.eval, "every", total=total),
        save_every=steps(config.checkpoint, "every", total=total),
        slots=batch_size * rows.length,
        hardware=hardware_of(mesh.devices.flat, config, model, mask, batch_at(0), table),
        evaluate_first=bool(config.model.init_from),
        keep_last=config.checkpoint.keep_last,
        keep_best=config.checkpoint.keep_best,
        tensorboard=config.log.tensorboard,
        config=flat(config),
    )
    return run, shardings


def _make_evaluate(config, text: PreparedText, rows: Rows, apply, mesh: Mesh) -> Callable:
    """Evaluation on masks that no training setting changes, so that runs can be compared."""
    special = text.tokenizer.special
    size = min(config.eval.max_examples, len(rows))
    # The last batch is filled up anyway, so any number of devices can share the rows.
    parts = row_parts(mesh)
    batch_size = -(-config.eval.batch_size // parts) * parts
    return make_evaluate(
        apply,
        make_evaluation_masks(config, text.tokenizer),
        lambda: eval_rows(rows, size, batch_size, special.pad),
        mask_token_id=special.mask,
        unigram_log_probs=unigram_log_probs(token_counts(text.train)),
        put=functools.partial(put_whole, by_row(mesh)),
        replicated=replicated(mesh),
    )


def eval_rows(rows: Rows, size: int, batch_size: int, pad: int) -> Iterator[EvalRows]:
    """Rows 0 to size - 1 in batches; the last one is filled up with rows of padding."""
    for start in range(0, size, batch_size):
        indices = np.arange(start, min(start + batch_size, size))
        missing = batch_size - len(indices)
        batch = read_rows(rows, indices)
        batch["example_ids"] = indices.astype(np.int32)
        batch["visits"] = np.zeros_like(batch["example_ids"])
        fill = {"token_ids": pad}
        batch = {
            name: np.pad(
                values,
                [(0, missing)] + [(0, 0)] * (values.ndim - 1),
                constant_values=fill.get(name, 0),
            )
            for name, values in batch.items()
        }
        places = (np.pad(a, ((0, missing), (0, 0))) for a in locate(rows, indices))
        yield EvalRows(batch, *places)
