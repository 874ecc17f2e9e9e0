import errno
import json
import subprocess
import sys

import pytest

from mlm.errors import CheckpointError, ConfigError, OutputError, WorkdirLockedError
from mlm.training.workdir import check_config, locked_workdir, read_json, saved_steps, write_json


def test_a_second_owner_is_refused_and_named_until_the_first_leaves(tmp_path):
    with locked_workdir(tmp_path / "run") as workdir:
        assert workdir.is_dir()
        with pytest.raises(WorkdirLockedError, match="in use by process [0-9]+ on "):
            with locked_workdir(tmp_path / "run"):
                pass
    with locked_workdir(tmp_path / "run"):
        pass


def test_a_killed_owner_leaves_no_lock(tmp_path):
    code = (
        "import os, sys; from mlm.training.workdir import locked_workdir\n"
        "with locked_workdir(sys.argv[1]): os.kill(os.getpid(), 9)"
    )
    assert subprocess.run([sys.executable, "-c", code, str(tmp_path)]).returncode == -9
    with locked_workdir(tmp_path):
        pass


def test_a_disk_without_locks_is_refused(tmp_path, monkeypatch):
    def flock(*_):
        raise OSError(errno.ENOSYS, "Function not implemented")

    monkeypatch.setattr("fcntl.flock", flock)
    with pytest.raises(OutputError, match=r"locks no files \(Function not .*; choose another disk"):
        with locked_workdir(tmp_path):
            pass


def test_a_file_is_no_workdir(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="cannot be written .*choose a folder"):
        with locked_workdir(tmp_path / "file"):
            pass


def test_a_folder_that_cannot_be_made(tmp_path):
    with pytest.raises(OutputError, match="cannot be written"):
        with locked_workdir("/proc/no/such/place"):
            pass


def test_another_config_is_refused_field_by_field(tmp_path):
    write_json(tmp_path / "config.json", {"masking.rate": 0.15, "log.every_steps": 5, "a.b": [1]})
    check_config(tmp_path, {"masking.rate": 0.3})  # no checkpoint: nothing to protect
    (tmp_path / "checkpoints/3/params").mkdir(parents=True)
    same = {"masking.rate": 0.15, "log.every_steps": 50, "a.b": (1,)}
    check_config(tmp_path, same)
    with pytest.raises(ConfigError, match=r"another config \(masking.rate 0.15 -> 0.3\)"):
        check_config(tmp_path, {**same, "masking.rate": 0.3})


def test_other_data_is_refused_side_by_side_unless_it_is_allowed(tmp_path):
    (tmp_path / "checkpoints/3/params").mkdir(parents=True)
    stored = {"seed": 1, "data.length": 16, "data.corpus": "a.txt", "masking.weights": "a.npy"}
    write_json(tmp_path / "config.json", stored)
    now = {"seed": 2, "data.length": 32, "data.corpus": "b.txt", "masking.weights": "b.npy"}
    with pytest.raises(ConfigError, match="--allow_data_change") as caught:
        check_config(tmp_path, now)
    assert list(caught.value.problems[:3]) == [
        "data.length: 16 then, 32 now",
        "masking.weights: a.npy then, b.npy now",
        "seed: 1 then, 2 now",
    ]
    found = check_config(tmp_path, now, allow_data_change=True)
    assert [change.field for change in found] == ["data.length", "masking.weights", "seed"]
    assert check_config(tmp_path, stored, allow_data_change=True) == []
    for other in ({"train.batch_size": 8}, {"data.vocabulary_size": 9}, {"masking.weights": "tf"}):
        with pytest.raises(ConfigError, match=r"another config \("):
            check_config(tmp_path, now | other, allow_data_change=True)


def test_another_machine_may_compute_the_run_in_another_way(tmp_path):
    (tmp_path / "checkpoints/3/params").mkdir(parents=True)
    write_json(
        tmp_path / "config.json", {"model.attention": "splash", "model.attention_dropout": 0}
    )
    check_config(tmp_path, {"model.attention_dropout": 0, "train.remat": "dots"})
    with pytest.raises(ConfigError, match=r"\(model.attention_dropout 0 -> 0.1\)"):
        check_config(tmp_path, {"model.attention": "auto", "model.attention_dropout": 0.1})


def test_checkpoints_without_a_readable_config_are_not_continued(tmp_path):
    (tmp_path / "checkpoints/3/params").mkdir(parents=True)
    (tmp_path / "config.json").write_text('{"seed": 1, "mas')
    with pytest.raises(CheckpointError, match="up to step 3 but no readable config.json"):
        check_config(tmp_path, {"seed": 1})


def test_folders_named_after_a_step_count_if_they_hold_anything_of_a_checkpoint(tmp_path):
    assert saved_steps(tmp_path / "none") == []
    for name in (
        "10/params",
        "9/_CHECKPOINT_METADATA",
        "8/notes",
        "11",
        "12.orbax-checkpoint-tmp/params",
        "notes/params",
    ):
        (tmp_path / name).mkdir(parents=True)
    assert saved_steps(tmp_path) == [9, 10]


def test_json_is_replaced_whole(tmp_path):
    file = tmp_path / "status.json"
    write_json(file, {"step": 1})
    write_json(file, {"step": 2})
    assert json.loads(file.read_text()) == {"step": 2} and len(list(tmp_path.iterdir())) == 1
    file.write_text('{"step"')
    assert read_json(file) is None and read_json(tmp_path / "none.json") is None
    file.write_text("[]")
    assert read_json(file) is None
