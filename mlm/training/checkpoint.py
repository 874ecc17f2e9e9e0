"""Checkpoints of a run, over Orbax: saved in the background, found again by the next attempt.

A step's folder holds three items, so that evaluation reads `params` alone. Orbax loses a save that
is still running when the process leaves by an exception; `checkpoints_in` therefore always waits
and closes. Saves are atomic: a killed run leaves a temporary folder that is never listed.
"""

import contextlib
import logging
from collections.abc import Iterator
from pathlib import Path

import jax
import orbax.checkpoint as ocp
from orbax.checkpoint import checkpoint_managers

from mlm.errors import CheckpointError, OutputError
from mlm.training.step import Params, TrainState


class Checkpoints:
    """The checkpoints of one run; made by `checkpoints_in`."""

    def __init__(self, manager: ocp.CheckpointManager, folder: Path):
        self._manager = manager
        self.folder = folder

    def latest(self) -> int | None:
        """The step of the newest complete checkpoint."""
        return self._manager.latest_step()

    def steps(self) -> list[int]:
        """All complete checkpoints, oldest first."""
        return sorted(self._manager.all_steps())

    def save(self, step: int, state: TrainState, *, loss: float | None) -> None:
        """Starts saving `state`; `loss` is the evaluation loss at this step, where there is one.

        Raises:
          OutputError: this save, or the one before it, could not be written.
        """
        if step in self.steps():
            return
        items = {
            "params": ocp.args.StandardSave(state.params),
            "opt_state": ocp.args.StandardSave(state.opt_state),
            "step": ocp.args.JsonSave({"step": step}),
        }
        metrics = None if loss is None else {"loss": loss}
        with self._as_output_error(step):
            saved = self._manager.save(step, args=ocp.args.Composite(**items), metrics=metrics)
        assert saved, f"orbax refused step {step}"

    def restore(self, step: int, like: TrainState) -> TrainState:
        """The state saved at `step`, with the shapes, dtypes and shardings of `like`.

        Raises:
          CheckpointError: the checkpoint cannot be read, or holds another model or optimizer.
        """
        args = {
            "params": ocp.args.StandardRestore(like.params),
            "opt_state": ocp.args.StandardRestore(like.opt_state),
        }
        items = self._restore(step, args)
        number = jax.device_put(jax.numpy.int32(step), like.step.sharding)
        return TrainState(number, items["params"], items["opt_state"])

    def restore_params(self, step: int, like: Params) -> Params:
        """The params saved at `step`; raises CheckpointError as `restore` does."""
        return self._restore(step, {"params": ocp.args.StandardRestore(like)})["params"]

    def wait(self) -> None:
        """Returns when the last save is on disk; raises OutputError if it could not be written."""
        with self._as_output_error(self.latest()):
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
    def _as_output_error(self, step: int | None) -> Iterator[None]:
        try:
            yield
        except Exception as error:
            raise OutputError(
                f"checkpoint {step} could not be written to {self.folder} ({_first_line(error)}); "
                "free some space or choose another --workdir"
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
    logging.getLogger("absl").setLevel(logging.ERROR)  # Orbax narrates every save
    policies = [checkpoint_managers.LatestN(keep_last)]
    if keep_best:
        best = checkpoint_managers.BestN(
            get_metric_fn=lambda metrics: metrics["loss"],
            reverse=True,
            n=keep_best,
            keep_checkpoints_without_metrics=False,
        )
        policies.append(best)
    options = ocp.CheckpointManagerOptions(
        preservation_policy=checkpoint_managers.AnyPreservationPolicy(policies),
        cleanup_tmp_directories=not read_only,
        create=not read_only,
        read_only=read_only,
    )
    manager = ocp.CheckpointManager(folder.absolute(), options=options)
    checkpoints = Checkpoints(manager, folder)
    try:
        yield checkpoints
        checkpoints.wait()
    finally:
        manager.close()


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0][:200] if lines else 'no message'}"
