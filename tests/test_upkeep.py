"""`doctor` on the files of a run, and what `--repair` mends; no text and no config is needed."""

import json
import shutil

import jax
import jax.numpy as jnp
import optax
import pytest

from mlm.__main__ import main
from mlm.config import load_config
from mlm.errors import ConfigError, WorkdirLockedError
from mlm.training.checkpoint import checkpoints_in
from mlm.training.status import write_status
from mlm.training.step import TrainState
from mlm.training.workdir import locked_workdir, read_json, saved_steps
from mlm.upkeep import examine_files, repair_files

TX = optax.adamw(1e-3)


def noise(step):
    params = {"layers": {0: {"w": jax.random.normal(jax.random.key(step), (50, 40))}}}
    return TrainState(
        jnp.int32(step), params, TX.init(params), jnp.arange(5.0), jnp.full(8, jnp.nan)
    )


@pytest.fixture(scope="module")
def healthy(tmp_path_factory):
    """A run of 30 steps that was stopped at 20."""
    workdir = tmp_path_factory.mktemp("run")
    with checkpoints_in(workdir / "checkpoints", keep_last=2) as checkpoints:
        for step in (10, 20):
            checkpoints.save(step, noise(step), interval={}, loss=None)
    write_status(workdir, "stopped", 20, 30, digest=checkpoints.digest)
    (workdir / "metrics.jsonl").write_text('{"step": 1}\n{"step": 20}\n')
    return workdir


@pytest.fixture
def workdir(healthy, tmp_path):
    return shutil.copytree(healthy, tmp_path / "run")


def flip(workdir, step):
    files = (workdir / "checkpoints" / str(step) / "params").rglob("d/*")
    file = max(files, key=lambda file: file.stat().st_size)
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 64
    file.write_bytes(content)


def problems(workdir):
    return {f.name: f.words for f in examine_files(workdir) if f.verdict != "ok"}


def repaired(workdir):
    with locked_workdir(workdir):
        return list(repair_files(workdir))


def test_a_healthy_run_is_well_and_nothing_is_mended(workdir):
    before = {p: p.read_bytes() for p in workdir.rglob("*") if p.is_file()}
    words = {f.name: f.words for f in examine_files(workdir)}
    assert problems(workdir) == {} and repaired(workdir) == []
    assert words["lock"] == "free" and words["checkpoints"] == "steps 10, 20"
    assert "6,006 numbers, all finite" in words["checkpoint 10"]
    assert words["status.json"] == f"step 20, digest {read_json(workdir / 'status.json')['digest']}"
    assert {p: p.read_bytes() for p in before} == before


def test_a_damaged_checkpoint_is_named_set_aside_and_status_follows(workdir):
    flip(workdir, 20)
    [(name, words)] = problems(workdir).items()
    assert name == "checkpoint 20" and "(leaf params/layers/0/w: digest)" in words
    assert repaired(workdir) == [
        "checkpoint 20 is damaged (leaf params/layers/0/w: digest); kept as 20.bad",
        "status.json says step 10 now, it said 20",
    ]
    assert saved_steps(workdir / "checkpoints") == [10]
    assert list(problems(workdir)) == ["beside the checkpoints"] and repaired(workdir) == []
    status = read_json(workdir / "status.json")
    assert (status["state"], status["step"], status["total_steps"]) == ("stopped", 10, 30)


def test_the_last_checkpoint_stays_even_if_it_is_damaged(workdir):
    for step in (10, 20):
        flip(workdir, step)
    assert repaired(workdir) == [
        "all checkpoints are damaged and stay: 10, 20; put a copy of one back"
    ]
    assert saved_steps(workdir / "checkpoints") == [10, 20]


def test_what_kills_leave_is_mended(workdir):
    (workdir / "checkpoints/30.orbax-checkpoint-tmp/params").mkdir(parents=True)
    (workdir / "checkpoints/abc").mkdir()
    (workdir / "status.json").write_text('{"state": "running", "st')
    with (workdir / "metrics.jsonl").open("a") as file:
        file.write('{"step": 21, "train/lo')
    found = problems(workdir)
    assert list(found) == ["beside the checkpoints", "status.json", "metrics.jsonl"]
    assert "abc: no checkpoints" in found["beside the checkpoints"]
    assert "1 line is torn" in found["metrics.jsonl"]
    assert len(repaired(workdir)) == 3 and repaired(workdir) == []
    assert problems(workdir) == {"beside the checkpoints": "abc: no checkpoints, ignored"}
    assert (workdir / "metrics.jsonl").read_text() == '{"step": 1}\n{"step": 20}\n'


def test_another_digest_and_a_run_that_is_not_finite(workdir):
    status = read_json(workdir / "status.json")
    (workdir / "status.json").write_text(json.dumps(status | {"digest": "0" * 16}))
    assert "says digest 0000000000000000, checkpoint 20 has" in problems(workdir)["status.json"]
    now = status["digest"]
    assert repaired(workdir) == [f"status.json says digest {now} now, it said 0000000000000000"]
    (workdir / "status.json").unlink()
    (workdir / "config.json").write_text('{"train.total_steps": 20}')
    assert problems(workdir)["status.json"].startswith("says no step")
    assert repaired(workdir) == ["status.json says step 20 now, it said nothing"]
    assert read_json(workdir / "status.json") == status | {"state": "complete", "total_steps": 20}
    (workdir / "status.json").write_text(json.dumps(status | {"state": "non-finite", "step": 27}))
    assert problems(workdir) == {} and repaired(workdir) == []


def test_a_run_that_goes_on_is_told_and_not_mended(workdir, monkeypatch):
    (workdir / "checkpoints/30.orbax-checkpoint-tmp").mkdir()
    config = load_config("configs/default.py")
    monkeypatch.setattr("mlm.commands.masks.stored_config", lambda *_: config)
    with locked_workdir(workdir):
        found = {f.name: f for f in examine_files(workdir)}
        assert found["lock"].words.startswith("in use by process ")
        assert found["beside the checkpoints"].verdict == "ok" and "status.json" not in found
        with pytest.raises(WorkdirLockedError):
            main(["doctor", "--repair", f"--workdir={workdir}"])
    assert (workdir / "checkpoints/30.orbax-checkpoint-tmp").exists()
    with pytest.raises(ConfigError, match="name it as --workdir"):
        main(["doctor", "--repair", "--config=configs/quickstart.py"])
