"""The files of a run as they lie there: what `python -m mlm doctor` says of them and mends.

Nothing here needs the text or the config of the run. What is mended is safe: a damaged checkpoint
is renamed, never removed, and only if a good one is left.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax

from mlm.bucket import is_in_bucket, names_in
from mlm.doctor import upkeep
from mlm.doctor.finding import Finding
from mlm.doctor.kept import check_checkpoints, check_state
from mlm.errors import CheckpointError
from mlm.training.damage import DamagedError
from mlm.training.freezing import leaf_paths
from mlm.training.metrics import read_metrics
from mlm.training.quarantine import (
    bad_names,
    remove_unfinished,
    set_aside,
    stray_names,
    unfinished_names,
)
from mlm.training.restoring import LATER, stored_digests, verify_checkpoint
from mlm.training.status import step_without_checkpoint
from mlm.training.workdir import (
    COMMITTED,
    SPARE,
    free_space,
    lock_owner,
    read_json,
    saved_steps,
    write_json,
)
from mlm.whole_file import write_whole


def examine_files(workdir: Path) -> Iterator[Finding]:
    """Every checkpoint read and verified, what lies beside them, lock, space, status, metrics."""
    folder, owner = workdir / "checkpoints", lock_owner(workdir)
    yield upkeep.check_lock(owner)
    yield check_checkpoints(steps := saved_steps(folder), lost=step_without_checkpoint(workdir))
    size = 0
    for step in reversed(steps):
        found, parts = _examine(folder, step)
        if found:
            yield found
        size = size or sum(leaf.nbytes for leaf in jax.tree.leaves(parts))
    yield upkeep.check_beside(
        strays=stray_names(folder),
        # While a run goes on it is saving.
        unfinished=[] if owner else unfinished_names(folder),
        bad=bad_names(folder),
        in_bucket=is_in_bucket(folder),
    )
    if steps and (free := free_space(workdir)) is not None:
        yield upkeep.check_free(free, size + SPARE)
    if steps and not owner:
        status = read_json(workdir / "status.json") or {}
        yield upkeep.check_status(status, steps[-1], _digest(folder, steps[-1]))
    yield upkeep.check_lines(_torn(workdir / "metrics.jsonl"))


def repair_files(workdir: Path) -> Iterator[str]:
    """Mends what is safe to mend, a line for each; the caller has locked `workdir`."""
    folder = workdir / "checkpoints"
    if is_in_bucket(folder):
        yield from _give_markers_back(folder)
    elif names := remove_unfinished(folder):
        yield f"removed {', '.join(names)}, left by saves that were killed"
    yield from _set_damaged_aside(folder)
    if steps := saved_steps(folder):
        yield from _correct_status(workdir, steps[-1])
    lines = workdir / "metrics.jsonl"
    if torn := _torn(lines):
        write_whole(lines, "".join(json.dumps(line) + "\n" for line in read_metrics(lines)))
        yield f"dropped what was torn of metrics.jsonl, lines: {torn}"


# ---- checkpoints ---------------------------------------------------------------------------------


def _examine(folder: Path, step: int) -> tuple[Finding | None, dict[str, Any]]:
    """What is to be said of a checkpoint, and its parts; nothing if a run has just removed it."""
    try:
        parts = verify_checkpoint(folder / str(step))
    except CheckpointError as error:
        damaged = isinstance(error, DamagedError)
        name = f"checkpoint {step}" if damaged else f"access to checkpoint {step}"
        gone = step not in saved_steps(folder)
        return None if gone else Finding("bad", name, str(error)), {}
    leaves = dict(zip(leaf_paths(parts), jax.tree.leaves(parts), strict=True))
    for path in LATER:  # NaN there means nothing yet
        leaves.pop(path, None)
    return check_state(step, leaves), parts


def _set_damaged_aside(folder: Path) -> Iterator[str]:
    steps, damaged = saved_steps(folder), {}
    for step in steps:
        try:
            verify_checkpoint(folder / str(step))
        except DamagedError as error:
            damaged[step] = error.reason
    if len(damaged) == len(steps):
        if steps:
            shown = ", ".join(map(str, steps))
            yield f"all checkpoints are damaged and stay: {shown}; put a copy of one back"
        return
    for step, reason in damaged.items():
        yield f"checkpoint {step} is damaged ({reason}); kept as {set_aside(folder, step)}"


def _give_markers_back(folder: Path) -> Iterator[str]:
    """To whole checkpoints that a copy has cost their markers; a save that was killed has none."""
    for name in unfinished_names(folder):
        checkpoint = folder / name
        try:
            verify_checkpoint(checkpoint)
        except CheckpointError:
            yield f"{checkpoint} is not whole, as a killed save leaves it; it is ignored and stays"
            continue
        items = (checkpoint / item for item in names_in(checkpoint))
        for place in [*(i for i in items if i.is_dir()), checkpoint]:
            if COMMITTED not in names_in(place):
                (place / COMMITTED).write_bytes(b"given back after all digests were verified\n")
        yield f"{checkpoint} is whole; its marker {COMMITTED} is there again"


def _digest(folder: Path, step: int) -> str:
    try:
        return stored_digests(folder / str(step))["total"]
    except CheckpointError:  # told by the check of the checkpoint
        return ""


# ---- files ---------------------------------------------------------------------------------------


def _correct_status(workdir: Path, newest: int) -> Iterator[str]:
    status = read_json(workdir / "status.json") or {}
    digest = _digest(workdir / "checkpoints", newest)
    if upkeep.check_status(status, newest, digest).verdict == "ok":
        return
    config = read_json(workdir / "config.json") or {}
    total = status.get("total_steps") or config.get("train.total_steps")
    state = "complete" if newest == total else "stopped"
    facts = {"state": state, "step": newest, "total_steps": total}
    write_json(workdir / "status.json", facts | ({"digest": digest} if digest else {}))
    if status.get("step") == newest:
        yield f"status.json says digest {digest} now, it said {status.get('digest', 'nothing')}"
        return
    yield f"status.json says step {newest} now, it said {status.get('step', 'nothing')}"


def _torn(file: Path) -> int:
    if not file.exists():
        return 0
    return len(file.read_bytes().splitlines()) - len(read_metrics(file))
