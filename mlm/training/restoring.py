"""Reading a checkpoint: its structure by name first, then its arrays, then their digests.

Each of several processes reads what its own devices need, without waiting for the others, and then
all agree on what came of it: what is damaged may be read by one of them only.
"""

import contextlib
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from jax.sharding import Mesh

from mlm.bucket import absolute
from mlm.errors import CheckpointError
from mlm.training.damage import DamagedError, agree, reading, warn
from mlm.training.digests import Facts, changed_leaves, digests_of, shapes_of, total_of
from mlm.training.processes import is_first
from mlm.training.sharding import replicated
from mlm.training.step import TrainState

# Fields of the state that older checkpoints do not have; they come back as NaN: nothing yet.
LATER = ("recent_losses",)
SHOWN = 5  # leaves that an error names


def read_checkpoint(
    checkpoint: Path, like: Mapping[str, Any], *, interval: bool = False
) -> tuple[dict[str, Any], dict[str, float], str]:
    """Parts of a state, the sums of its interval if asked for, and the digest of the whole state.

    Of several processes all must call this. A checkpoint from before digests is taken with a
    warning, and the digest is '' then.

    Args:
      checkpoint: the folder of a step.
      like: parts by name, with the shapes, dtypes and shardings that are wanted.

    Raises:
      DamagedError: it cannot be read, or is not what was saved, as at least one process finds.
      CheckpointError: it holds another model or optimizer, or there is no access to it.
    """
    found, sums, stored, total, problem = {}, {}, {}, "", None
    try:
        kept = stored_digests(checkpoint)
        stored, total = kept["leaves"], kept["total"]
        stored = stored or _facts_of_orbax(checkpoint, like)
        wanted = without_later(stored, like)
        check_structure(checkpoint, stored, wanted)
        found = {name: _read_part(checkpoint, name, part) for name, part in wanted.items()}
        sums = _read_sums(checkpoint, kept) if interval else {}
    except CheckpointError as error:
        problem = error
    agree(checkpoint, problem)
    if total:
        changed = changed_leaves(found, stored)
        agree(checkpoint, DamagedError(checkpoint, _told(changed)) if changed else None)
    elif is_first():
        warn(f"checkpoint {checkpoint} is from before digests, so what was read is not verified")
    nothing = {name: _nan(part) for name, part in like.items() if name not in found}
    return found | nothing, sums, total


def verify_checkpoint(checkpoint: Path) -> dict[str, Any]:
    """All parts of a checkpoint if they are what was saved, of whatever model.

    They are whole on one device of each process, all of which must call this. Their containers are
    plain ones; paths are the same.

    Raises:
      DamagedError, CheckpointError: as `read_checkpoint`.
    """
    leaves = stored_digests(checkpoint)["leaves"]
    names = {path.partition("/")[0] for path in leaves} or _parts_on_disk(checkpoint)
    # Arrays of all processes: those that each has by itself would be summed as parts of one.
    devices = {device.process_index: device for device in reversed(jax.devices())}
    here = replicated(Mesh(np.asarray(list(devices.values())), ("processes",)))
    like = {}
    for name in sorted(names):
        tree = _tree_of_orbax(checkpoint, name)
        tree = tree["table"] if name in leaves else tree
        like[name] = jax.tree.map(
            lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=here), tree
        )
    return read_checkpoint(checkpoint, like, interval=True)[0]


def stored_digests(checkpoint: Path) -> dict[str, Any]:
    """What `saved_digests` was when the checkpoint was saved; from before digests all is empty.

    Raises:
      DamagedError: it is not what was written.
    """
    if not (checkpoint / "digests").exists():
        if "digests" in _items(checkpoint):
            raise DamagedError(checkpoint, "digests: missing")
        return {"leaves": {}, "total": "", "interval": "", "loss": None}
    found = _read_json(checkpoint, "digests")
    with contextlib.suppress(KeyError, TypeError, AttributeError):
        sound = found["total"] == total_of(found["leaves"]) and found.keys() >= {"interval", "loss"}
        if sound:
            return found
    raise DamagedError(checkpoint, "digests: changed")


def saved_digests(
    parts: Mapping[str, Any], interval: Mapping[str, float], loss: float | None
) -> dict[str, Any]:
    """The item `digests` of a checkpoint: of all arrays and numbers that it holds."""
    leaves = digests_of(parts)
    total = total_of(leaves)
    return {"leaves": leaves, "total": total, "interval": _text_digest(interval), "loss": loss}


# ---- structure -----------------------------------------------------------------------------------


def _items(checkpoint: Path) -> list[str]:
    """The items that Orbax says there are; none if that cannot be read."""
    try:
        facts = json.loads((checkpoint / "_CHECKPOINT_METADATA").read_text())
        return list(facts["item_handlers"])
    except (OSError, ValueError, TypeError, KeyError):
        return []


def _facts_of_orbax(checkpoint: Path, like: Mapping[str, Any]) -> Facts:
    """Shapes and dtypes of a checkpoint from before digests."""
    names = _parts_on_disk(checkpoint) & like.keys()
    return shapes_of({name: _bare(_tree_of_orbax(checkpoint, name), like[name]) for name in names})


def _parts_on_disk(checkpoint: Path) -> set[str]:
    """The items that are parts of a state."""
    return {name for name in TrainState._fields if (checkpoint / name).is_dir()}


def _tree_of_orbax(checkpoint: Path, name: str) -> Any:
    with reading(checkpoint, name):
        return ocp.StandardCheckpointHandler().metadata(absolute(checkpoint / name)).tree


def without_later(stored: Facts, like: Mapping[str, Any]) -> dict[str, Any]:
    """The parts of `like` that a checkpoint should have."""
    there = {path.partition("/")[0] for path in stored}
    return {name: part for name, part in like.items() if name in there or name not in LATER}


def check_structure(checkpoint: Path, stored: Facts, wanted: Mapping[str, Any]) -> None:
    """Raises CheckpointError unless the parts `wanted` have the paths, shapes and dtypes stored."""
    there = {p: _kind(f) for p, f in stored.items() if p.partition("/")[0] in wanted}
    asked = {path: _kind(facts) for path, facts in shapes_of(wanted).items()}
    paths = [p for p in sorted({*there, *asked}) if there.get(p) != asked.get(p)]
    if not paths:
        return
    missing = "not there"
    shown = ", ".join(
        f"{p} {there.get(p, missing)} -> {asked.get(p, missing)}" for p in paths[:SHOWN]
    )
    more = f" and {len(paths) - SHOWN} more" if len(paths) > SHOWN else ""
    raise CheckpointError(
        f"checkpoint {checkpoint} holds another model or optimizer ({shown}{more}); take the "
        "config and the version that it was saved with, or choose another --workdir"
    )


def _kind(facts: Mapping[str, Any]) -> str:
    return f"{facts['dtype']}{list(facts['shape'])}".replace(" ", "")


# ---- arrays --------------------------------------------------------------------------------------


def named(part: Any) -> Any:
    """`part` as Orbax takes it: no bare array."""
    return {"table": part} if jax.tree_util.all_leaves([part]) else part


def _bare(part: Any, like: Any) -> Any:
    """What `named` was given."""
    return part["table"] if jax.tree_util.all_leaves([like]) else part


def _read_part(checkpoint: Path, name: str, like: Any) -> Any:
    with reading(checkpoint, name):
        handler = ocp.StandardCheckpointHandler()
        args = ocp.args.StandardRestore(named(like))
        return _bare(handler.restore(absolute(checkpoint / name), args=args), like)


def _read_json(checkpoint: Path, name: str) -> dict[str, Any]:
    with reading(checkpoint, name):
        value = json.loads((checkpoint / name / "metadata").read_text())
        if isinstance(value, dict):
            return value
    raise DamagedError(checkpoint, f"{name}: changed")


def _read_sums(checkpoint: Path, kept: Mapping[str, Any]) -> dict[str, float]:
    sums = _read_json(checkpoint, "interval")
    if kept["interval"] and kept["interval"] != _text_digest(sums):
        raise DamagedError(checkpoint, "interval: changed")
    return sums


def _text_digest(value: Mapping[str, float]) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:16]


def _nan(part: Any) -> Any:
    """Arrays as in `part`, which an older checkpoint does not have."""
    return jax.tree.map(
        lambda leaf: jax.device_put(np.full(leaf.shape, np.nan, leaf.dtype), leaf.sharding), part
    )


def _told(changed: list[str]) -> str:
    more = f" and {len(changed) - 1} more" if len(changed) > 1 else ""
    return f"leaf {changed[0]}{more}: digest"
