"""The contenders of benchmarks/train_step.py: one training step each, on the same masked batches.

AdamW, float32 unless the name says otherwise. Ours and KerasHub compute logits at the mask slots,
transformers at every position, as it does by itself.
"""

import json
import resource
import sys
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

import numpy as np

SIZES = {  # layers, width, heads, hidden, vocabulary
    "nano": (2, 32, 2, 64, 128),
    "tiny": (4, 256, 4, 1024, 8192),
    "base": (6, 768, 12, 3072, 30522),
}
RATE = 1e-4
BATCHES = 4


class Work(NamedTuple):
    """What is trained on what."""

    size: str
    rows: int
    length: int
    dropout: float
    steps: int  # in a turn
    slots: int  # of a row


def batches(work: Work) -> list[dict[str, np.ndarray]]:
    """The same for every contender: random ids, random positions, every slot used."""
    draw, vocabulary = np.random.default_rng(0), SIZES[work.size][-1]
    made = []
    for _ in range(BATCHES):
        ids = draw.integers(5, vocabulary, (work.rows, work.length), dtype=np.int32)
        positions = np.stack([draw.permutation(work.length)[: work.slots] for _ in ids])
        positions = np.sort(positions, axis=1).astype(np.int32)
        labels = np.take_along_axis(ids, positions, axis=1)
        masked = ids.copy()
        np.put_along_axis(masked, positions, 4, axis=1)
        made.append({"token_ids": masked, "mask_positions": positions, "mask_ids": labels})
    return made


def ours(
    work: Work, *, full_logits: bool = False, keep_memory: bool = True
) -> Callable[[int], None]:
    sys.path.insert(0, str(Path(__file__).parent.parent))
    from mlm.allocator import keep_freed_memory, use_one_heap

    keep_memory = keep_memory and use_one_heap()
    from mlm.models import DistilBertConfig

    layers, width, heads, hidden, vocabulary = SIZES[work.size]
    rates = {"dropout": work.dropout, "attention_dropout": work.dropout}
    config = DistilBertConfig(vocabulary, layers, width, heads, hidden, work.length, **rates)
    ready = []
    for batch in batches(work):
        batch["mask_weights"] = np.ones(batch["mask_ids"].shape, np.float32)
        batch["padding_mask"] = np.ones(batch["token_ids"].shape, bool)
        ready.append(_at_every_position(batch) if full_logits else batch)
    return our_steps(config, ready, wrap=keep_freed_memory if keep_memory else lambda step: step)


def our_steps(config, masked: list[dict], *, wrap: Callable = lambda step: step):
    """`run(steps)`: so many training steps of our model, on masked batches that take turns.

    Args:
      wrap: around the step.
    """
    import functools

    import jax
    import jax.numpy as jnp
    import optax

    from mlm import models
    from mlm.training.sharding import make_mesh, put_batch
    from mlm.training.step import MaskCounts, make_init_state, make_train_step

    graphdef, _ = models.create_abstract(config)
    mesh, tx = make_mesh(), optax.adamw(RATE)
    init = make_init_state(lambda key: models.create(config, key)[1], tx, mesh)
    nothing = MaskCounts(*[jnp.zeros(())] * 3)
    key = jax.random.key(0)
    step = make_train_step(
        functools.partial(models.apply, graphdef),
        lambda batch, step, table: (batch, nothing),  # it is masked
        tx,
        lambda step: RATE,
        dropout_key=key,
        mesh=mesh,
    )
    step = wrap(step)
    ready = [put_batch(mesh, batch) for batch in masked]
    state = init(key)

    def run(steps: int) -> None:
        nonlocal state
        for k in range(steps):
            state, metrics = step(state, ready[k % len(ready)])
        jax.block_until_ready(metrics)

    return run


def _at_every_position(batch: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The batch with a slot for each token, of which those at mask positions have weight 1."""
    positions, shape = batch.pop("mask_positions"), batch["token_ids"].shape
    labels, weights = np.zeros(shape, np.int32), np.zeros(shape, np.float32)
    np.put_along_axis(labels, positions, batch["mask_ids"], axis=1)
    np.put_along_axis(weights, positions, 1, axis=1)
    return batch | {"mask_ids": labels, "mask_weights": weights}


def keras_model(work, vocabulary_size: int, **compiled):
    """KerasHub's model with AdamW; of `work` count size, length and dropout."""
    import keras
    import keras_hub

    layers, width, heads, hidden, _ = SIZES[work.size]
    backbone = keras_hub.models.DistilBertBackbone(
        vocabulary_size=vocabulary_size,
        num_layers=layers,
        num_heads=heads,
        hidden_dim=width,
        intermediate_dim=hidden,
        dropout=work.dropout,
        max_sequence_length=work.length,
    )
    model = keras_hub.models.DistilBertMaskedLM(backbone, preprocessor=None)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(optimizer=keras.optimizers.AdamW(RATE), loss=loss, **compiled)
    return model


def keras_jax(work: Work) -> Callable[[int], None]:
    model = keras_model(work, SIZES[work.size][-1])
    made = batches(work)
    inputs = {n: np.concatenate([b[n] for b in made]) for n in ("token_ids", "mask_positions")}
    inputs["padding_mask"] = np.ones(inputs["token_ids"].shape, bool)
    labels = np.concatenate([b["mask_ids"] for b in made])

    def run(steps: int) -> None:
        rows = np.arange(steps * work.rows) % len(labels)
        given = {name: values[rows] for name, values in inputs.items()}
        model.fit(given, labels[rows], batch_size=work.rows, shuffle=False, verbose=0)

    return run


def torch_step(work: Work, *, compiled: bool = False, bf16: bool = False, device: str = "cpu"):
    import torch
    from transformers import DistilBertConfig, DistilBertForMaskedLM

    layers, width, heads, hidden, vocabulary = SIZES[work.size]
    config = DistilBertConfig(
        vocab_size=vocabulary,
        n_layers=layers,
        dim=width,
        n_heads=heads,
        hidden_dim=hidden,
        max_position_embeddings=work.length,
        dropout=work.dropout,
        attention_dropout=work.dropout,
    )
    model = DistilBertForMaskedLM(config).to(device).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=RATE)
    call = torch.compile(model) if compiled else model
    ready = []
    for batch in batches(work):
        labels = np.full(batch["token_ids"].shape, -100, np.int64)
        np.put_along_axis(labels, batch["mask_positions"].astype(np.int64), batch["mask_ids"], 1)
        arrays = {"input_ids": batch["token_ids"].astype(np.int64), "labels": labels}
        arrays["attention_mask"] = np.ones_like(labels)
        ready.append({n: torch.from_numpy(a).to(device) for n, a in arrays.items()})

    def run(steps: int) -> None:
        for k in range(steps):
            with torch.autocast(device, torch.bfloat16, enabled=bf16):
                loss = call(**ready[k % BATCHES]).loss
            loss.backward()
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        loss.item()  # waits

    return run


CONTENDERS = {
    "ours": ours,
    "ours_full_logits": lambda work: ours(work, full_logits=True),
    "ours_plain_malloc": lambda work: ours(work, keep_memory=False),
    "keras_jax": keras_jax,
    "torch_eager": torch_step,
    "torch_bf16": lambda work: torch_step(work, bf16=True),
    "torch_compiled": lambda work: torch_step(work, compiled=True),
}
PACKAGES = {"ours": ("jax",), "keras": ("keras-hub", "jax"), "torch": ("transformers", "torch")}


def main(name: str, facts: str) -> None:
    """Answers the first call, then one line for each line read: seconds of a step."""
    work = Work(**json.loads(facts))
    began = time.perf_counter()
    run = CONTENDERS[name](work)
    run(1)
    seconds = time.perf_counter() - began
    run(work.steps)  # what a second shape or a fit of several steps compiles
    packages = PACKAGES[name.split("_")[0]]
    versions = ", ".join(f"{p} {version(p)}" for p in packages)
    print("answer", json.dumps({"seconds": seconds, "versions": versions}), flush=True)
    for _ in sys.stdin:
        began = time.perf_counter()
        run(work.steps)
        print("answer", (time.perf_counter() - began) / work.steps, flush=True)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print("answer", peak, flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
