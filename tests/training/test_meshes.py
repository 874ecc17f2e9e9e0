"""One tiny model on eight meshes: the same masks, the same losses, and what devices exchange."""

import functools
import math
import re

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from mlm.masking import MaskingSpec
from mlm.models import DistilBertConfig
from mlm.network import make_network
from mlm.strategy import Strategy, mask_batch
from mlm.training import make_init_state, make_train_step
from mlm.training.adaptive import Adaptive, table_weights
from mlm.training.checkpoint import checkpoints_in
from mlm.training.parameter_rules import state_shardings
from mlm.training.sharding import MeshShape, make_mesh, put_batch
from mlm.training.step import new_state

ROWS, LENGTH, SLOTS, V = 48, 12, 5, 40  # 48 rows: no other axis of a step has that length
CONFIG = DistilBertConfig(V, layers=1, width=16, heads=4, hidden=32, max_length=LENGTH, dropout=0.1)
SPEC = MaskingSpec(V, 4, SLOTS, (0, 2, 3, 4), count="stochastic")
TX = optax.chain(optax.clip_by_global_norm(1.0), optax.adamw(1e-2))
KEY = jax.random.key(3)
SHAPES = {
    "one": MeshShape(data=1),
    "data": MeshShape(data=8),
    "fsdp": MeshShape(data=1, fsdp=8),
    "tensor": MeshShape(data=-1, tensor=4),
    "mixed": MeshShape(slices=2, data=1, fsdp=2, tensor=2),
}


def batch_at(k):
    rng = np.random.default_rng(k)
    ids = rng.integers(5, V, (ROWS, LENGTH)).astype(np.int32)
    real = np.arange(LENGTH) < rng.integers(3, LENGTH + 1, ROWS)[:, None]
    return {
        "token_ids": np.where(real, ids, 0).astype(np.int32),
        "padding_mask": real,
        "example_ids": (k * ROWS + np.arange(ROWS)).astype(np.int32),
        "visits": np.zeros(ROWS, np.int32),
    }


@functools.cache
def setup(name, accumulation=1, adaptive=False):
    shape = SHAPES[name]
    mesh = make_mesh(shape, devices=jax.devices()[:1] if name == "one" else None)
    network = make_network(CONFIG, mesh=mesh)
    adapt = Adaptive("loss", V, decay=0.5) if adaptive else None
    like = jax.eval_shape(lambda p: new_state(p, TX, adapt=adapt), network.params)
    shardings = state_shardings(like, mesh)
    init = make_init_state(network.init, TX, mesh, adapt=adapt)

    def mask(batch, step, table):
        strategy = Strategy(SPEC)
        if adaptive:
            weights = lambda keys, ids, table: table_weights(table, "loss")  # noqa: E731
            strategy = Strategy(SPEC, weights=weights, copies=2)
        return mask_batch(batch, strategy, root=KEY, rate=0.2, table=table)

    step = make_train_step(
        network.apply,
        mask,
        TX,
        lambda step: 1e-2,
        dropout_key=KEY,
        mesh=mesh,
        shardings=shardings,
        accumulation=accumulation,
        adapt=adapt,
    )
    compiled = step.lower(jax.eval_shape(init, KEY), jax.eval_shape(lambda: batch_at(0))).compile()
    return init, compiled, functools.partial(put_batch, mesh), mesh
