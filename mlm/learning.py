"""How a config learns: its model, its optimizer and its training step on a mesh.

The mesh is one of devices that are there, on which `mlm.experiment` trains, or one of a machine
that `mlm.planning` only compiles for. Nothing here reads a row or puts anything on a device.
"""

import dataclasses
import functools
from collections.abc import Callable

import jax
import numpy as np
from jax.sharding import Mesh
from ml_collections import ConfigDict

from mlm import models
from mlm.config import duration
from mlm.devices import check_tensor
from mlm.machine import Execution
from mlm.masks import TrainingMask, adaptive, make_mask
from mlm.network import make_loss, make_network
from mlm.preparing import PreparedText
from mlm.settings import model_config, optimizer_settings, run_keys
from mlm.training.adaptive import Adaptive, init_table
from mlm.training.freezing import frozen_paths
from mlm.training.optimizer import make_optimizer, make_schedule
from mlm.training.parameter_rules import state_shardings
from mlm.training.step import (
    Apply,
    Batch,
    Params,
    StepMetrics,
    TrainState,
    make_init_state,
    make_train_step,
)


@dataclasses.dataclass(frozen=True)
class Learning:
    """The functions of training, and what they work on.

    Attributes:
      model: static settings of the architecture.
      params: shapes and dtypes of the model's parameters.
      apply: `apply(params, batch, *, key=None) -> float32[B, P, V]` logits.
      frozen: paths of the params that training leaves as they are.
      adapt: what masking follows; None: nothing.
      init_state: a fresh state on the mesh.
      state: its shapes and dtypes.
      shardings: where each leaf of it lies.
      total_steps: of the run.
      mask: the masks of training.
      step: `step(state, batch) -> (state, metrics)`.
    """

    model: models.DistilBertConfig
    params: Params
    apply: Apply
    frozen: frozenset[str]
    adapt: Adaptive | None
    init_state: Callable[[], TrainState]
    state: TrainState
    shardings: TrainState
    total_steps: int
    mask: TrainingMask
    step: Callable[[TrainState, Batch], tuple[TrainState, StepMetrics]]

    @property
    def table(self) -> object:
        """What the masks of step 0 follow."""
        return () if self.adapt is None else init_table(self.adapt)


def make_learning(
    config: ConfigDict,
    text: PreparedText,
    mesh: Mesh,
    execution: Execution,
    *,
    epoch: int,
    given: dict[str, np.ndarray] | None = None,
) -> Learning:
    """The training of a config.

    Args:
      text: of it the tokenizer, and the counts of its ids where masking follows them.
      execution: how the devices of the mesh compute the model.
      epoch: rows in one, for durations that are told in epochs.
      given: params to start from in place of random ones.

    Raises:
      ConfigError: the model does not fit the mesh, the optimizer does not take its arguments, or a
        function that the config names cannot be used.
    """
    size = text.tokenizer.vocabulary_size
    model = dataclasses.replace(
        model_config(config, size), attention=execution.attention, remat=config.train.remat
    )
    network = make_network(model, config.model.custom, mesh=mesh)
    check_tensor(config, network.params, mesh)
    frozen = frozen_paths(network.params, config.train.freeze)
    adapt = adaptive(config, size)
    steps = functools.partial(duration, epoch=epoch, batch_size=config.train.batch_size)
    total = steps(config.train, "total")
    optimizer = optimizer_settings(config, warmup=steps(config.optimizer, "warmup", total=total))
    schedule = make_schedule(optimizer, total_steps=total)
    tx = make_optimizer(optimizer, schedule)
    init_key, mask_key, dropout_key = run_keys(config.seed)
    init_state = make_init_state(network.init, tx, mesh, frozen=frozen, given=given, adapt=adapt)
    state = jax.eval_shape(init_state, init_key)
    shardings = state_shardings(state, mesh)
    mask = make_mask(config, text, root=mask_key, total_steps=total)
    step = make_train_step(
        network.apply,
        mask,
        tx,
        schedule,
        dropout_key=dropout_key,
        mesh=mesh,
        shardings=shardings,
        accumulation=config.train.accumulation,
        frozen=frozen,
        loss=make_loss(config.train.loss, size),
        adapt=adapt,
        skip_spikes=config.train.skip_spikes,
    )
    return Learning(
        model=model,
        params=network.params,
        apply=network.apply,
        frozen=frozen,
        adapt=adapt,
        init_state=lambda: init_state(init_key),
        state=state,
        shardings=shardings,
        total_steps=total,
        mask=mask,
        step=step,
    )
