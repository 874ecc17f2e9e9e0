"""train.py with faults inside: `INJECT=nan@12,hang@30#1 python tests/faults/injected.py ARGS`.

A fault is KIND@STEP or KIND@FIRST-LAST, of several processes with #PROCESS only in that one. `nan`,
`spike` and `unmasked` (no slot has a label) happen inside the compiled step, `raise`, `hang`,
`ahead` and `back` (a day, on the clock) before it is called; `endthread`, `stall` and `padding` (of
all rows) in the thread that makes the step's batch. `compile@1` makes the main thread work in C for
seconds when the step is traced, as a compiler does. `slowsave` keeps the save of a step from ending
for a second, `sloweval` every evaluation for two.
"""

import functools
import hashlib
import os
import re
import sys
import time
from pathlib import Path
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).parent.parent.parent))

import jax.numpy as jnp  # noqa: E402
from orbax.checkpoint._src.checkpointers import async_checkpointer  # noqa: E402

import train  # noqa: E402
from mlm import cluster, experiment, learning  # noqa: E402
from mlm.cli import leave, run_command  # noqa: E402
from mlm.training import loop  # noqa: E402

FAULT = re.compile(r"(\w+)@(\d+)(?:-(\d+))?(?:#(\d+))?")
FACTORS = {"spike": 100.0, "nan": jnp.nan}  # of the losses in the step
CLOCK = {"ahead": 86_400, "back": -86_400}  # seconds that it jumps
OUTSIDE = ("raise", "hang", *CLOCK)


class Fault(NamedTuple):
    kind: str
    first: int
    last: int


def faults_here(text: str) -> list[Fault]:
    """The faults of `INJECT` that happen in this process."""
    here = os.environ.get("JAX_LOCAL_DEVICE_IDS", "0")
    found = []
    for part in filter(None, text.split(",")):
        kind, first, last, process = FAULT.fullmatch(part).groups()
        if process in (None, here):
            found.append(Fault(kind, int(first), int(last or first)))
    return found


def with_faults(make_train_step, faults: list[Fault]):
    """`make_train_step`, whose masks mark the steps that fail and whose loss fails there."""

    @functools.wraps(make_train_step)
    def make(apply, mask, *args, loss, **settings):
        inside = [fault for fault in faults if fault.kind in FACTORS]
        if any(fault.kind == "compile" for fault in faults):
            loss = compiling(loss)
        if unmasked := [fault for fault in faults if fault.kind == "unmasked"]:
            mask = unlabelled(mask, unmasked)
        if inside:
            mask, loss = marking(mask, inside), failing(loss, inside)
        step = make_train_step(apply, mask, *args, loss=loss, **settings)
        outside = [fault for fault in faults if fault.kind in OUTSIDE]
        return before_steps(step, outside) if outside else step

    return make


SHIFT = 1_000_000  # added to the labels of a step, once for each fault from the first on


def marking(mask, faults: list[Fault]):
    def marked(batch, step, table):
        masked, counts = mask(batch, step, table)
        number = sum(
            jnp.where((step + 1 >= fault.first) & (step + 1 <= fault.last), i + 1, 0)
            for i, fault in enumerate(faults)
        )
        return masked | {"mask_ids": masked["mask_ids"] + SHIFT * number}, counts

    return marked


def failing(loss, faults: list[Fault]):
    factors = jnp.array([1.0] + [FACTORS[fault.kind] for fault in faults])

    def failed(logits, labels):
        return loss(logits, labels % SHIFT) * factors[labels // SHIFT]

    return failed


def unlabelled(mask, faults: list[Fault]):
    """`mask`, which selects nothing in some steps."""

    def masked_less(batch, step, table):
        masked, counts = mask(batch, step, table)
        hit = sum((step + 1 >= fault.first) & (step + 1 <= fault.last) for fault in faults)
        kept = jnp.where(hit, 0.0, 1.0)
        return masked | {"mask_weights": masked["mask_weights"] * kept}, counts

    return masked_less


def set_clock(seconds: float) -> None:
    """Moves the clock on the wall, as the user of a machine or NTP does."""
    before = time.time
    time.time = lambda: before() + seconds
    time.time_ns = lambda: int((before() + seconds) * 1e9)


def compiling(loss):
    def traced(logits, labels):
        os.write(2, b"compiling\n")
        hashlib.pbkdf2_hmac("sha256", b"", b"", 5_000_000)
        return loss(logits, labels)

    return traced


def before_steps(step, faults: list[Fault]):
    begun = []

    def called(state, batch):
        if not begun:
            begun.append(int(state.step))
        begun[0] += 1
        for kind in [f.kind for f in faults if f.first <= begun[0] <= f.last]:
            if kind == "raise":
                raise ArithmeticError(f"a fault in step {begun[0]}")
            if kind in CLOCK:
                set_clock(CLOCK[kind])
            if kind == "hang":
                time.sleep(3600)
        return step(state, batch)

    return called


def slow_saves(commit, faults: list[Fault]):
    """Orbax's background thread: it renames the folder when all is written."""

    @functools.wraps(commit)
    def committed(directory, *args, **settings):
        step = int(directory.name.partition(".")[0])
        if any(f.kind == "slowsave" and f.first <= step <= f.last for f in faults):
            time.sleep(1)
        return commit(directory, *args, **settings)

    return committed


def slow_evaluations(make_evaluate):
    def make(*args, **settings):
        evaluate = make_evaluate(*args, **settings)

        def slow(params):
            time.sleep(2)
            return evaluate(params)

        return slow

    return make


def with_faulty_batches(prefetch, faults: list[Fault]):
    """`prefetch`, whose thread is ended, stalls or has no text for the batch of a step."""

    def faulty(batch_at, **settings):
        def made(k):
            for kind in [f.kind for f in faults if f.first <= k + 1 <= f.last]:
                if kind == "endthread":
                    raise SystemExit
                if kind == "stall":
                    time.sleep(3600)
                if kind == "padding":
                    rows = {n: x for n, x in batch_at(k).items() if x.ndim > 1}
                    return batch_at(k) | {name: 0 * values for name, values in rows.items()}
            return batch_at(k)

        return prefetch(made, **settings)

    return faulty


if __name__ == "__main__":
    found = faults_here(os.environ["INJECT"])
    async_checkpointer._background_wait_for_commit_futures = slow_saves(
        async_checkpointer._background_wait_for_commit_futures, found
    )
    if any(fault.kind == "sloweval" for fault in found):
        experiment.make_evaluate = slow_evaluations(experiment.make_evaluate)
    learning.make_train_step = with_faults(learning.make_train_step, found)
    loop.prefetch = with_faulty_batches(loop.prefetch, found)
    leave(cluster.leave(run_command(train.main)))
