"""Checkpoints of a run, over Orbax: saved in the background, verified when they are read.

A step's folder holds an item for each part of the state, so that evaluation reads `params` alone,
and `digests`, which tells whether what is read is what was saved. A run goes on from the newest
checkpoint that is good; a damaged one is set aside.

Orbax loses a save that is still running when the process leaves by an exception; `checkpoints_in`
therefore always waits and closes. Saves are atomic: a killed run leaves a temporary folder, never
listed.
"""

import contextlib
import logging
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
import orbax.checkpoint as ocp
from jax.experimental import multihost_utils

from mlm.bucket import is_in_bucket
from mlm.errors import CheckpointError, OutputError
from mlm.training.damage import DamagedError, first_line, hush, warn
from mlm.training.processes import first_of_all, is_first
from mlm.training.quarantine import (
    check_some_left,
    clear_way,
    remove_unfinished,
    set_aside,
    unfinished_names,
)
from mlm.training.restoring import named, read_checkpoint, saved_digests, verify_checkpoint
from mlm.training.retention import make_manager, tidy
from mlm.training.step import Params, TrainState
from mlm.training.workdir import COMMITTED, check_space, saved_steps

OTHERS_SECONDS = 4  # that a process which fails waits for a save that all of several must end


class Checkpoints:
    """The checkpoints of one run; made by `checkpoints_in`.

    Attributes:
      digest: of the whole state that was saved or restored last, 16 hex digits.
    """

    def __init__(self, manager: ocp.CheckpointManager | None, folder: Path):
        self._manager, self.folder = manager, folder
        self.digest = ""
        self._saving = False

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
        parts = parts_of(state)
        # Of what is on the devices, before anything is written.
        digests = saved_digests(parts, interval, loss)
        items = {name: ocp.args.StandardSave(named(part)) for name, part in parts.items()}
        items["interval"] = ocp.args.JsonSave(dict(interval))
        items["digests"] = ocp.args.JsonSave(digests)
        metrics = None if loss is None else {"loss": loss}
        with self._as_output_error():
            if is_first():
                clear_way(self.folder, step)
            saved = self._manager.save(step, args=ocp.args.Composite(**items), metrics=metrics)
        assert saved, f"orbax refused step {step}"
        self._saving, self.digest = True, digests["total"]

    def check(self) -> None:
        """Raises OutputError once a save in the background has failed; costs nothing till then."""
        if self._saving and not self._manager.is_saving_in_progress():
            self._saving = False
            self.wait()

    def check_space(self, state: TrainState) -> None:
        """Raises OutputError if there is no room for one more checkpoint of `state`."""
        if is_first():
            size = sum(leaf.nbytes for leaf in jax.tree.leaves(parts_of(state)))
            check_space(self.folder, size)

    def restore(self, step: int, like: TrainState) -> tuple[TrainState, dict[str, float]]:
        """The state saved at `step`, and the sums of its unfinished log interval.

        Args:
          step: a complete checkpoint.
          like: a state with the shapes, dtypes and shardings that are wanted.

        Raises:
          DamagedError: it cannot be read, or is not what was saved; one of several processes that
            finds it so is enough.
          CheckpointError: it holds another model or optimizer, or there is no access to it.
        """
        parts, sums, self.digest = read_checkpoint(self._at(step), parts_of(like), interval=True)
        number = jax.device_put(jax.numpy.int32(step), like.step.sharding)
        return like._replace(step=number, **parts), sums

    def restore_newest(self, like: TrainState) -> tuple[int, TrainState, dict[str, float]] | None:
        """Step, state and sums of the newest checkpoint that is good; None if there is none yet.

        Newer ones, which are damaged, are set aside with a line on stderr.

        Raises:
          CheckpointError: as `restore`; also if all are damaged, and then none is set aside.
        """
        damaged: dict[int, DamagedError] = {}
        while step := first_of_all(max((s for s in self.steps() if s not in damaged), default=0)):
            try:
                state, sums = self.restore(step, like)
            except DamagedError as error:
                damaged[step] = error
                continue
            self._set_aside(damaged, step)
            return step, state, sums
        if damaged:
            shown = ", ".join(f"{step} ({e.reason})" for step, e in list(damaged.items())[:3])
            raise CheckpointError(
                f"all checkpoints in {self.folder} are damaged: {shown}; put a copy back, or "
                "choose another --workdir"
            )
        check_some_left(self.folder)
        self._check_markers()
        return None

    def restore_mask_table(self, step: int, like: Any) -> Any:
        """What masking followed at `step`, `()` for a `like` of `()`.

        Raises:
          CheckpointError: as `restore`; also where the run's masking did not adapt.
        """
        if not jax.tree.leaves(like):
            return like
        return read_checkpoint(self._at(step), {"mask_table": like})[0]["mask_table"]

    def restore_params(self, step: int, like: Params) -> Params:
        """The params saved at `step`; raises CheckpointError as `restore` does."""
        return read_checkpoint(self._at(step), {"params": like})[0]["params"]

    def wait(self) -> None:
        """Returns when the last save is on disk; raises OutputError if it could not be written."""
        with self._as_output_error():
            self._manager.wait_until_finished()

    def _check_markers(self) -> None:
        """Raises CheckpointError if what a bucket holds is whole but for a marker."""
        if not is_in_bucket(self.folder):
            return
        for name in unfinished_names(self.folder):
            with contextlib.suppress(DamagedError):
                verify_checkpoint(self.folder / name)
                raise CheckpointError(
                    f"checkpoint {self.folder / name} is whole but has no {COMMITTED}, as a copy "
                    f"leaves it; python -m mlm doctor --repair --workdir {self.folder.parent} "
                    "gives it back"
                )

    def _at(self, step: int) -> Path:
        return self.folder / str(step)

    def _set_aside(self, damaged: Mapping[int, DamagedError], step: int) -> None:
        """Keeps damaged checkpoints out of the way of the saves that follow."""
        if not damaged:
            return
        for number, error in damaged.items():
            if is_first():
                name = set_aside(self.folder, number)
                warn(
                    f"checkpoint {number} is damaged ({error.reason}); kept as {name}, going back "
                    f"to {step}"
                )
        _all_here("damaged checkpoints are set aside")
        self._manager.reload()  # or it would save nothing up to their numbers

    @contextlib.contextmanager
    def _as_output_error(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:
            raise OutputError(
                f"a checkpoint could not be written to {self.folder} ({first_line(error)}), the "
                f"newest complete one is {self.latest() or 'none'}; free some space and start the "
                "same command again"
            ) from error


def parts_of(state: TrainState) -> dict[str, Any]:
    """What a checkpoint holds of a state as items of their own: its fields that have arrays."""
    fields = state._asdict()
    return {n: part for n, part in fields.items() if n != "step" and jax.tree.leaves(part)}


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
    hush()
    if read_only:
        yield Checkpoints(None, folder)
        return
    if is_first():
        tidy(folder)
    _all_here("checkpoints are tidy")
    manager = make_manager(folder, keep_last=keep_last, keep_best=keep_best)
    checkpoints = Checkpoints(manager, folder)
    try:
        yield checkpoints
        checkpoints.wait()
    except BaseException:
        # Whatever ended the run is what it reports, not a save that failed besides.
        closing = threading.Thread(target=_close, args=(manager, folder), daemon=True)
        closing.start()
        # Others may wait for this process and not for the save, which then never ends.
        closing.join(OTHERS_SECONDS if jax.process_count() > 1 else None)
        raise
    manager.close()


def _all_here(event: str) -> None:
    """Waits for the other processes."""
    if jax.process_count() > 1:
        multihost_utils.sync_global_devices(event)


def _close(manager: ocp.CheckpointManager, folder: Path) -> None:
    """Waits for the last save; what it leaves if it failed would keep a full disk full."""
    with contextlib.suppress(Exception):
        manager.close()
    for _ in range(20):
        if not unfinished_names(folder):
            break
        remove_unfinished(folder)
        time.sleep(0.1)  # some of its threads may still write there
