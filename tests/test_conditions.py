"""What decides about bits: gathered, kept with a run, and compared."""

import json
import os

import jax
import pytest

from mlm.conditions import (
    all_kept,
    attempts_before,
    conditions_of,
    differences,
    keep_attempt,
    numeric_flags,
    usable_cores,
)
from mlm.training.sharding import MeshShape, make_mesh
from mlm.training.workdir import write_json

FIELDS = {"train.remat": "none", "deterministic": False, "train.loss": ""}


def conditions(mesh=MeshShape(), **fields):  # noqa: B008 (frozen)
    return conditions_of(FIELDS | fields, make_mesh(mesh), attention="einsum")


@pytest.fixture
def said():
    return []


def keep(workdir, step, said, **changes):
    keep_attempt(workdir, step, conditions=CONDITIONS | changes, command="a", say=said.append)


CONDITIONS = {"jax": "0.10.2", "cores": 2, "XLA_FLAGS": ""}


def test_all_that_differs_is_in_them(monkeypatch):
    found = conditions()
    assert json.loads(json.dumps(found)) == found
    assert found["jax"] == jax.__version__ and found["cores"] == usable_cores()
    assert found["mesh"] == "slices 1 data 8 fsdp 1 tensor 1" and found["processes"] == 1
    assert found["jax_threefry_partitionable"] is True and "python" not in found
    assert differences([found, conditions()]) == []

    monkeypatch.setenv("XLA_FLAGS", os.environ["XLA_FLAGS"] + " --xla_cpu_enable_fast_math=true")
    other = conditions(MeshShape(data=4, fsdp=2), **{"train.remat": "dots"})
    assert differences([found, other]) == [
        "mesh slices 1 data 8 fsdp 1 tensor 1 -> slices 1 data 4 fsdp 2 tensor 1",
        "train.remat none -> dots",
        "XLA_FLAGS none -> --xla_cpu_enable_fast_math=true",
    ]


def test_cores_are_those_that_the_process_may_use():
    allowed = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(allowed)})
    try:
        assert conditions()["cores"] == 1
    finally:
        os.sched_setaffinity(0, allowed)
    assert conditions()["cores"] == len(allowed)


def test_flags_that_change_no_number_are_left_out():
    text = "--xla_b=1 --xla_force_host_platform_device_count=8 --xla_dump_to=x --xla_a=2"
    timeout = "--xla_cpu_collective_call_terminate_timeout_seconds=9"
    assert numeric_flags(f"{text} {timeout}") == "--xla_a=2 --xla_b=1"


def test_a_run_that_goes_on_as_it_began_says_nothing(tmp_path, said):
    keep(tmp_path, 0, said)
    keep(tmp_path, 10, said)
    assert said == []
    assert [a["step"] for a in attempts_before(tmp_path, 11)] == [0, 10]


def test_each_difference_is_told_and_stays_told(tmp_path, said):
    keep(tmp_path, 0, said)
    keep(tmp_path, 10, said, cores=1, jax="0.11.0")
    keep(tmp_path, 20, said)
    assert said == [
        "not bit-exact: jax 0.10.2 -> 0.11.0, cores 2 -> 1",
        "not bit-exact: jax 0.10.2 -> 0.11.0 -> 0.10.2, cores 2 -> 1 -> 2",
    ]
    facts = json.loads((tmp_path / "environment.json").read_text())
    assert [a["conditions"]["cores"] for a in facts["attempts"]] == [2, 1, 2]
    assert facts["command"] == "a" and facts["packages"]["jax"] == jax.__version__


def test_an_attempt_of_which_nothing_is_left_counts_for_nothing(tmp_path, said):
    keep(tmp_path, 0, said)
    keep(tmp_path, 10, said, cores=1)  # killed before it saved
    said.clear()
    keep(tmp_path, 10, said)
    assert said == []
    keep(tmp_path, 0, said, cores=1)  # and a run that begins anew has no past
    assert said == []
    assert [a["conditions"]["cores"] for a in attempts_before(tmp_path, 5)] == [1]


def test_a_run_from_before_they_were_kept(tmp_path, said):
    write_json(tmp_path / "environment.json", {"cores": 2})
    keep(tmp_path, 10, said)
    assert len(said) == 1 and "not known" in said[0]
    keep(tmp_path, 20, said)  # and it stays so
    assert len(said) == 2 and said[1] == said[0]
    assert not all_kept(attempts_before(tmp_path, 30))


@pytest.mark.parametrize("attempts", [{}, 3, [{}], ["step"], [{"step": "1", "conditions": {}}]])
def test_a_damaged_file_is_one_that_knows_nothing(tmp_path, attempts):
    write_json(tmp_path / "environment.json", {"attempts": attempts})
    assert attempts_before(tmp_path, 10) == []
