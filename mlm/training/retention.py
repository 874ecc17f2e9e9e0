"""Which checkpoints Orbax sees, and which of them it keeps: the newest and the best."""

import contextlib
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import orbax.checkpoint as ocp
from orbax.checkpoint import checkpoint_managers

from mlm.bucket import absolute, is_in_bucket
from mlm.errors import CheckpointError
from mlm.training.damage import warn
from mlm.training.quarantine import (
    remove_loss,
    remove_unfinished,
    stray_names,
    unfinished_names,
)
from mlm.training.restoring import stored_digests
from mlm.training.workdir import COMMITTED, read_json, saved_steps

# Orbax ends a save after so long, by the clock on the wall, which jumps where a machine wakes up or
# is set right. So it is longer than any jump, and what hangs is the watchdog's to find.
SAVE_SECONDS = 30 * 24 * 3600
BARRIER_SECONDS = 600  # that processes wait for each other at the end of a save


def make_manager(folder: Path, *, keep_last: int, keep_best: int) -> ocp.CheckpointManager:
    """Saves into `folder` in the background; see `mlm.training.checkpoint.checkpoints_in`."""
    policies = [checkpoint_managers.LatestN(keep_last)]
    if keep_best:
        policies.append(
            checkpoint_managers.BestN(
                get_metric_fn=_loss,
                reverse=True,
                n=keep_best,
                keep_checkpoints_without_metrics=False,
            )
        )
    options = ocp.CheckpointManagerOptions(
        preservation_policy=checkpoint_managers.AnyPreservationPolicy(policies),
        best_fn=_loss,  # without it Orbax writes no losses, and a restarted run forgets its best
        best_mode="min",
        step_name_format=OwnSteps(folder),
        create=True,
        async_options=ocp.AsyncOptions(timeout_secs=SAVE_SECONDS, barrier_sync_fn=_wait_for_others),
    )
    return ocp.CheckpointManager(absolute(folder), options=options)


def tidy(folder: Path) -> None:
    """Removes what killed saves left; names what was never a checkpoint, and losses that are lost.

    Orbax reads all losses when it starts.
    """
    remove_unfinished(folder)
    for step in saved_steps(folder):
        if not _has_its_loss(folder / str(step)):
            remove_loss(folder / str(step))
            warn(
                f"the loss in checkpoint {step} is damaged, so it does not count as one of the best"
            )
    if is_in_bucket(folder) and (names := unfinished_names(folder)):
        warn(
            f"{', '.join(names[:5])} in {folder} without {COMMITTED}, as a killed save or a copy "
            f"leaves it, so ignored; python -m mlm doctor --repair --workdir {folder.parent} looks "
            "at it"
        )
    if strays := stray_names(folder):
        warn(f"no checkpoints, so ignored: {', '.join(strays[:5])} in {folder}")


def _has_its_loss(checkpoint: Path) -> bool:
    file = checkpoint / "metrics" / "metrics"
    if not file.exists():
        return True
    loss = (read_json(file) or {}).get("loss")
    with contextlib.suppress(CheckpointError):  # told when it is read
        kept = stored_digests(checkpoint)
        return isinstance(loss, float) and (not kept["total"] or repr(loss) == repr(kept["loss"]))
    return isinstance(loss, float)


def _wait_for_others(*, key: str, timeout_ms: int) -> None:
    """Of several processes, a save waits for all; one whose own part has failed waits for none.

    Orbax calls this in a `finally` as well: all would stay there, and the error untold.
    """
    if sys.exc_info()[1] is None:
        timeout_ms = min(timeout_ms, 1000 * BARRIER_SECONDS)
        ocp.multihost.get_barrier_sync_fn()(key=key, timeout_ms=timeout_ms)


class OwnSteps:
    """How Orbax finds checkpoints: to itself any folder with a number is one."""

    def __init__(self, folder: Path):
        self._folder, self._any = folder, ocp.path.step.standard_name_format()

    def build_name(self, step: int) -> str:
        return self._any.build_name(step)

    def find_all(self, base_path: Path) -> Iterator[ocp.path.step.Metadata]:
        steps = saved_steps(self._folder)
        return (found for found in self._any.find_all(base_path) if found.step in steps)

    def find_step(self, base_path: Path, step: int) -> ocp.path.step.Metadata:
        return self._any.find_step(base_path, step)


def _loss(metrics: Mapping[str, float]) -> float:
    return metrics["loss"]
