import pytest

from mlm.conversion.new_folder import new_folder
from mlm.errors import CheckpointError, OutputError


def test_it_is_there_when_it_is_whole(tmp_path):
    with new_folder(tmp_path / "a/b") as folder:
        (folder / "inner").mkdir()
        (folder / "inner/file").write_text("all")
        assert not (tmp_path / "a/b").exists()
    assert (tmp_path / "a/b/inner/file").read_text() == "all"
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["b"]


@pytest.mark.parametrize("error", [CheckpointError("bad"), KeyboardInterrupt(), ValueError("x")])
def test_an_error_leaves_nothing_and_passes(tmp_path, error):
    with pytest.raises(type(error)), new_folder(tmp_path / "new") as folder:
        (folder / "file").write_text("half")
        raise error
    assert not list(tmp_path.iterdir())


def test_a_full_disk_is_one_line(tmp_path, full_disk):
    with (
        pytest.raises(OutputError, match="new cannot be written .*; free some space"),
        new_folder(tmp_path / "new") as folder,
        full_disk(1000),
    ):
        (folder / "file").write_bytes(bytes(2000))
    assert not list(tmp_path.iterdir())


def test_an_error_names_the_folder_that_was_asked_for(tmp_path):
    with pytest.raises(OutputError) as error, new_folder(tmp_path / "new") as folder:
        raise OutputError(f"{folder / 'file'} cannot be written (for a reason)")
    assert str(error.value) == f"{tmp_path / 'new/file'} cannot be written (for a reason)"


def test_what_is_there_stays(tmp_path):
    (tmp_path / "mine").write_text("mine")
    with pytest.raises(OutputError, match="exists already"), new_folder(tmp_path):
        raise AssertionError("never entered")
    assert (tmp_path / "mine").read_text() == "mine"
