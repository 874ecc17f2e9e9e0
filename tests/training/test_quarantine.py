import pytest

from mlm.errors import CheckpointError, OutputError
from mlm.training.quarantine import (
    bad_names,
    check_some_left,
    clear_way,
    remove_unfinished,
    set_aside,
    stray_names,
    unfinished_names,
)
from mlm.training.workdir import saved_steps


@pytest.fixture
def folder(tmp_path):
    names = "4/params 8/params 5 abc 8.bad/params 12.orbax-checkpoint-tmp/params".split()
    for name in names:
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / ".probe.tmp").touch()
    return tmp_path


def test_what_lies_there_is_told_apart(folder):
    assert saved_steps(folder) == [4, 8]
    assert bad_names(folder) == ["8.bad"]
    assert unfinished_names(folder) == ["12.orbax-checkpoint-tmp"]
    assert stray_names(folder) == ["5", "abc"]
    assert bad_names(folder / "none") == stray_names(folder / "none") == []


def test_a_checkpoint_that_is_set_aside_never_replaces_another_one(folder):
    assert set_aside(folder, 8) == "8.bad-2" and set_aside(folder, 4) == "4.bad"
    assert saved_steps(folder) == [] and bad_names(folder) == ["4.bad", "8.bad", "8.bad-2"]
    with pytest.raises(OutputError, match="9 cannot be renamed to 9.bad .*No such file"):
        set_aside(folder, 9)


def test_only_a_stray_is_in_the_way_of_a_save(folder):
    for step in (4, 5, 6):
        clear_way(folder, step)
    assert saved_steps(folder) == [4, 8] and bad_names(folder) == ["5.bad", "8.bad"]


def test_only_what_saves_left_is_removed(folder):
    assert remove_unfinished(folder) == ["12.orbax-checkpoint-tmp"]
    assert remove_unfinished(folder) == []
    assert {p.name for p in folder.iterdir()} == {"4", "8", "5", "abc", "8.bad", ".probe.tmp"}


def test_a_run_of_which_all_checkpoints_are_set_aside_does_not_begin_again(folder):
    check_some_left(folder / "none")
    check_some_left(folder)
    set_aside(folder, 4)
    set_aside(folder, 8)
    with pytest.raises(CheckpointError, match=r"\(4.bad, 8.bad, 8.bad-2\); put a copy back, or re"):
        check_some_left(folder)
