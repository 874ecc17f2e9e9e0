"""Checkpoints of a run, over Orbax: saved in the background, found again by the next attempt.

A step's folder holds items of their own, so that evaluation reads `params` alone; `mask_table` is
there only where masking adapts. Orbax loses a save that is still running when the process leaves by
an exception; `checkpoints_in` therefore always waits and closes. Saves are atomic: a killed run
leaves a temporary folder, never listed.
"""

import contextlib
import logging
import sys
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
import orbax.checkpoint as ocp
from orbax.checkpoint import checkpoint_managers

from mlm.bucket import absolute
from mlm.errors import CheckpointError, OutputError
from mlm.training.step import Params, TrainState
from mlm.training.workdir import saved_steps

OTHERS_SECONDS = 4  # that a process which fails waits for a save that all of several must end


class Checkpoints:
    """The checkpoints of one run; made by `checkpoints_in`."""

    def __init__(self, manager: ocp.CheckpointManager, folder: Path):
        self._manager = manager
        self.folder = folder

    def steps(self) -> list[int]:
        """All complete checkpoints on disk, oldest first."""
        # Not the manager's list: it names a step whose background save has failed.
        return saved_steps(self.folder)

    def latest(self) -> int | None:
        """The step of the newest complete checkpoint."""
        return max(self.steps(), default=None)

    def save(
        self, step: int, state: TrainState, *, interval: Mapping[str, float], loss: float | None
    ) -> None:
        """Starts saving.

        Args:
          step: the folder's name; a step that is there already is not saved again.
          state: the whole state.
          interval: sums since the last log line.
          loss: the evaluation loss at this step, where there is one.

        Raises:
          OutputError: this save, or the one before it, could not be written.
        """
        if step in self._manager.all_steps():
            return
        items = {
            "params": ocp.args.StandardSave(state.params),
            "opt_state": ocp.args.StandardSave(state.opt_state),
            "interval": ocp.args.JsonSave(dict(interval)),
        }
        if _is_there(state.mask_table):
            items["mask_table"] = ocp.args.StandardSave(_named(state.mask_table))
        metrics = None if loss is None else {"loss": loss}
        with self._as_output_error():
            saved = self._manager.save(step, args=ocp.args.Composite(**items), metrics=metrics)
        assert saved, f"orbax refused step {step}"

    def restore(self, step: int, like: TrainState) -> tuple[TrainState, dict[str, float]]:
        """The state saved at `step`, and the sums of its unfinished log interval.

        Args:
          step: a complete checkpoint.
          like: a state with the shapes, dtypes and shardings that are wanted.

        Raises:
          CheckpointError: the checkpoint cannot be read, or holds another model or optimizer.
        """
        args = {
            "params": ocp.args.StandardRestore(like.params),
            "opt_state": ocp.args.StandardRestore(like.opt_state),
            "interval": ocp.args.JsonRestore(),
        }
        items = self._restore(step, args)
        number = jax.device_put(jax.numpy.int32(step), like.step.sharding)
        table = self.restore_mask_table(step, like.mask_table)
        return TrainState(number, items["params"], items["opt_state"], table), items["interval"]

    def restore_mask_table(self, step: int, like: Any) -> Any:
        """What masking followed at `step`, `()` for a `like` of `()`.

        Raises:
          CheckpointError: as `restore`; also where the run's masking did not adapt.
        """
        if not _is_there(like):
            return like
        args = {"mask_table": ocp.args.StandardRestore(_named(like))}
        return self._restore(step, args)["mask_table"]["table"]

    def restore_params(self, step: int, like: Params) -> Params:
        """The params saved at `step`; raises CheckpointError as `restore` does."""
        return self._restore(step, {"params": ocp.args.StandardRestore(like)})["params"]

    def wait(self) -> None:
        """Returns when the last save is on disk; raises OutputError if it could not be written."""
        with self._as_output_error():
            self._manager.wait_until_finished()

    def _restore(self, step: int, args: dict) -> dict:
        try:
            return self._manager.restore(step, args=ocp.args.Composite(**args))
        except Exception as error:
            raise CheckpointError(
                f"checkpoint {self.folder / str(step)} cannot be restored ({_first_line(error)}); "
                "if it is damaged, remove that folder to continue from the one before"
            ) from error

    @contextlib.contextmanager
    def _as_output_error(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:
            raise OutputError(
                f"a checkpoint could not be written to {self.folder} ({_first_line(error)}), the "
                f"newest complete one is {self.latest()}; free some space and start the same "
                "command again"
            ) from error


@contextlib.contextmanager
def checkpoints_in(
    folder: Path, *, keep_last: int = 1, keep_best: int = 0, read_only: bool = False
) -> Iterator[Checkpoints]:
    """The checkpoints in `folder`; complete on disk when left.

    Args:
      folder: made if need be.
      keep_last: how many of the newest stay.
      keep_best: how many with the smallest evaluation loss stay besides.
      read_only: nothing is made or removed; for reading beside a run that writes.
    """
    logging.getLogger("absl").setLevel(logging.CRITICAL)  # Orbax narrates; errors are raised too
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
        cleanup_tmp_directories=not read_only,
        create=not read_only,
        read_only=read_only,
        async_options=ocp.AsyncOptions(barrier_sync_fn=_wait_for_others),
    )
    manager = ocp.CheckpointManager(absolute(folder), options=options)
    checkpoints = Checkpoints(manager, folder)
    try:
        yield checkpoints
        checkpoints.wait()
    except BaseException:
        # Whatever ended the run is what it reports, not a save that failed besides.
        closing = threading.Thread(target=_close, args=(manager,), daemon=True)
        closing.start()
        # Others may wait for this process and not for the save, which then never ends.
        closing.join(OTHERS_SECONDS if jax.process_count() > 1 else None)
        raise
    manager.close()


def _wait_for_others(*, key: str, timeout_ms: int) -> None:
    """Of several processes, a save waits for all; one whose own part has failed waits for none.

    Orbax calls this in a `finally` as well: all would stay there, and the error untold.
    """
    if sys.exc_info()[1] is None:
        ocp.multihost.get_barrier_sync_fn()(key=key, timeout_ms=timeout_ms)


def _close(manager: ocp.CheckpointManager) -> None:
    with contextlib.suppress(Exception):
        manager.close()


def _is_there(mask_table: Any) -> bool:
    return bool(jax.tree.leaves(mask_table))


def _named(mask_table: Any) -> dict[str, Any]:
    """Orbax takes no bare array."""
    return {"table": mask_table}


def _loss(metrics: Mapping[str, float]) -> float:
    return metrics["loss"]


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0][:120] if lines else 'no message'}"
