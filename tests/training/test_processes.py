"""What several processes must see alike in a folder that they share; one process stands for all."""

import numpy as np
import pytest

from mlm.errors import ConfigError
from mlm.training import processes
from mlm.training.workdir import write_json


@pytest.fixture
def seen(tmp_path, monkeypatch):
    """`seen(first)`: the folder of this process, beside process 0 that sees `first`."""
    share = processes.multihost_utils
    monkeypatch.setattr(share, "sync_global_devices", lambda name: None)
    monkeypatch.setattr(processes, "VISIBLE_SECONDS", 0.1)
    (tmp_path / "own").mkdir()

    def seen(first):
        mark = np.uint32(processes._mark(first))
        monkeypatch.setattr(share, "broadcast_one_to_all", lambda own: mark)
        processes.check_same_folder(tmp_path / "own")

    return seen


def fill(folder, *, steps, state="running", lock="process 1"):
    folder.mkdir(exist_ok=True)
    (folder / ".lock").write_text(lock)
    write_json(folder / "status.json", {"state": state})
    for step in steps:
        (folder / "checkpoints" / str(step) / "params").mkdir(parents=True)


def test_a_folder_that_shows_the_same_is_the_same(tmp_path, seen):
    fill(tmp_path / "first", steps=(4, 8))
    fill(tmp_path / "own", steps=(4, 8))
    seen(tmp_path / "first")


@pytest.mark.parametrize(
    "other", [{"steps": (4,)}, {"state": "complete"}, {"lock": "process 2"}], ids=str
)
def test_a_folder_that_shows_another_state_of_the_run_is_refused(tmp_path, seen, other):
    """Such as a disk that does not show the newest checkpoint to all of its machines yet."""
    fill(tmp_path / "first", steps=(4, 8))
    fill(tmp_path / "own", **{"steps": (4, 8)} | other)
    with pytest.raises(ConfigError, match="is not the folder of process 0, or shows other files"):
        seen(tmp_path / "first")
