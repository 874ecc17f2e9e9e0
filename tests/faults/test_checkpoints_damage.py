"""Checkpoints that were damaged on the disk while no run was there to see it."""

import shutil
from pathlib import Path

import pytest
from harm import array_byte, empty, flip, remove, same_until, truncate
from processes import digest, finish, last_error, losses

from mlm.training.workdir import saved_steps


@pytest.fixture(scope="module")
def ended(train_process, tmp_path_factory) -> Path:
    """A run that ended in step 60, with checkpoints 25 and 50."""
    workdir = tmp_path_factory.mktemp("ended")
    finish(train_process(workdir, inject="raise@60", checkpoint__keep_last=20), 1)
    assert saved_steps(workdir / "checkpoints") == [25, 50]
    return workdir


@pytest.fixture
def workdir(ended, tmp_path) -> Path:
    return shutil.copytree(ended, tmp_path / "run")


@pytest.fixture
def go_on(train_process):
    """`go_on(workdir, step)`: the same command, which fails in `step`; its output.

    The step before is not logged yet then.
    """

    def go_on(workdir: Path, step: int) -> tuple[str, str]:
        process = train_process(workdir, inject=f"raise@{step}", checkpoint__keep_last=20)
        return finish(process, 1)

    return go_on


def damaged(what: str, *, kept: str = "50.bad", step: int = 25) -> str:
    return f"warning: checkpoint 50 is damaged ({what}); kept as {kept}, going back to {step}"


@pytest.fixture(scope="module")
def after_a_flip(ended, train_process, tmp_path_factory):
    """What a run said and left that went on after a bit of its newest checkpoint was flipped."""
    workdir = shutil.copytree(ended, tmp_path_factory.mktemp("flipped") / "run")
    flip(workdir / "checkpoints/50")
    out, error = finish(train_process(workdir, checkpoint__keep_last=20))
    return workdir, out, error


@pytest.mark.smoke
@pytest.mark.fault(
    18,
    "a bit of the newest checkpoint's parameters is flipped",
    "found, the array is named, and the run goes on from the checkpoint before, bit for bit",
)
def test_a_flipped_bit(after_a_flip, undisturbed):
    workdir, out, error = after_a_flip
    [line] = [line for line in error.splitlines() if line.startswith("warning:")]
    assert line.startswith("warning: checkpoint 50 is damaged (leaf params/")
    assert line.endswith(": digest); kept as 50.bad, going back to 25")
    assert "continuing at step 25 of 400" in out
    assert losses(workdir) == undisturbed.losses and digest(workdir) == undisturbed.digest


@pytest.mark.fault(
    22,
    "the newest checkpoint is damaged, and training goes on",
    "it is kept as N.bad, and N is saved anew: no save is passed over",
)
def test_later_saves_are_not_passed_over(after_a_flip):
    folder = after_a_flip[0] / "checkpoints"
    assert saved_steps(folder) == list(range(25, 401, 25))
    assert (folder / "50.bad/params").is_dir()


@pytest.mark.parametrize("harm", [truncate, remove, empty])
@pytest.mark.fault(
    19,
    "a data file of the newest checkpoint is truncated, removed or emptied",
    "found, and the run goes on from the checkpoint before, bit for bit",
)
def test_a_data_file(workdir, go_on, undisturbed, harm):
    harm(*array_byte(workdir / "checkpoints/50"))
    out, error = go_on(workdir, 40)
    assert damaged("params: cannot be read") in error and "continuing at step 25" in out
    assert same_until(losses(workdir), undisturbed.losses, 38)


@pytest.mark.parametrize(
    ("name", "what"),
    [
        ("params/_METADATA", "params: cannot be read"),
        ("digests/metadata", "digests: cannot be read"),
    ],
)
@pytest.mark.fault(
    20,
    "a metadata or digest file of the newest checkpoint, or config.json, is truncated",
    "found, and the run goes on from the checkpoint before; without its config: exit 4",
)
def test_a_metadata_file(workdir, go_on, undisturbed, name, what):
    truncate(workdir / "checkpoints/50" / name)
    out, error = go_on(workdir, 40)
    assert damaged(what) in error and "continuing at step 25" in out
    assert same_until(losses(workdir), undisturbed.losses, 38)


@pytest.mark.fault(20, "config.json is truncated", "exit 4, one line")
def test_the_config_of_the_run(workdir, train_process):
    truncate(workdir / "config.json")
    line = last_error(finish(train_process(workdir), 4)[1])
    assert "no readable config.json" in line


@pytest.mark.fault(
    21,
    "an empty folder 75 and a folder abc lie among the checkpoints",
    "ignored with a warning; the run goes on from its newest checkpoint, and 75 can be saved",
)
def test_strays(workdir, go_on, undisturbed):
    for name in ("75", "abc"):
        (workdir / "checkpoints" / name).mkdir()
    out, error = go_on(workdir, 80)
    assert f"warning: no checkpoints, so ignored: 75, abc in {workdir}" in error
    assert "continuing at step 50 of 400" in out
    assert saved_steps(workdir / "checkpoints") == [25, 50, 75]
    assert same_until(losses(workdir), undisturbed.losses, 78)


@pytest.mark.fault(
    23, "every checkpoint has a flipped bit", "exit 4, one line; the run never begins again unasked"
)
def test_all_are_damaged(workdir, train_process):
    for step in (25, 50):
        flip(workdir / f"checkpoints/{step}")
    before = losses(workdir)
    for _ in range(2):
        line = last_error(finish(train_process(workdir), 4)[1])
        assert "all checkpoints" in line and "50 (leaf params/" in line and "25 (leaf" in line
    assert losses(workdir) == before
    for step in (25, 50):
        (workdir / f"checkpoints/{step}").rename(workdir / f"checkpoints/{step}.bad")
    assert "25.bad, 50.bad" in last_error(finish(train_process(workdir), 4)[1])


@pytest.fixture(scope="module")
def wider(train_process, tmp_path_factory) -> Path:
    """A checkpoint of step 25 of another model."""
    workdir = tmp_path_factory.mktemp("wider")
    finish(train_process(workdir, model__width=32, train__total_steps=25))
    return workdir / "checkpoints/25"


@pytest.mark.smoke
@pytest.mark.fault(
    45,
    "a checkpoint of another architecture, or another dtype asked for",
    "exit 4, at most five arrays named; of another config: exit 2, the field named; never cast",
)
def test_a_checkpoint_of_another_model(workdir, wider, train_process):
    shutil.rmtree(workdir / "checkpoints/50")
    shutil.copytree(wider, workdir / "checkpoints/50")
    line = last_error(finish(train_process(workdir), 4)[1])
    assert "50 holds another model or optimizer" in line and line.count(" -> ") == 5
    assert (workdir / "checkpoints/50").is_dir()  # it is no damage
    for field, value in (("width", 32), ("dtype", "bfloat16")):
        process = train_process(workdir, **{f"model__{field}": value})
        assert f"model.{field}" in last_error(finish(process, 2)[1])


@pytest.mark.fault(
    18,
    "of a checkpoint whose arrays two processes share, a bit in the part of one is flipped",
    "both go back to the same checkpoint",
)
def test_a_flipped_bit_in_the_part_of_one_of_two_processes(train_process, tmp_path):
    two = {"processes": 2, "mesh__data": 1, "mesh__fsdp": -1}
    two |= {"train__total_steps": 22, "checkpoint__every_steps": 10}
    finish(train_process(tmp_path, inject="raise@22", **two), 1)
    assert saved_steps(tmp_path / "checkpoints") == [10, 20]
    flip(tmp_path / "checkpoints/20")
    out, error = finish(train_process(tmp_path, **two))
    assert error.count("checkpoint 20 is damaged (") == 1
    assert "); kept as 20.bad, going back to 10" in error
    assert out.count("continuing at step 10 of 22") == 1
    assert saved_steps(tmp_path / "checkpoints") == [20, 22]


@pytest.mark.fault(
    50,
    "a checkpoint is copied on a disk without its marker files",
    "it is read like any other, bit for bit",
)
def test_without_markers(workdir, go_on, undisturbed):
    markers = list((workdir / "checkpoints/50").rglob("commit_success.txt"))
    for file in markers:
        file.unlink()
    out, error = go_on(workdir, 60)
    assert markers and "continuing at step 50 of 400" in out and "warning" not in error
    assert same_until(losses(workdir), undisturbed.losses, 58)
