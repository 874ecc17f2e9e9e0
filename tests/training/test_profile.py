"""Profiles of a step that does next to nothing; what is in them is looked up in the timeline."""

import gzip
import json
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest

from mlm.errors import ConfigError
from mlm.training.profile import Steps, check_within, profiled, read_steps
from mlm.training.step import TrainState

ROOT = Path(__file__).parent.parent.parent


@jax.jit
def small_step(state, batch):
    return state._replace(step=state.step + 1), jnp.sum(batch @ batch)


def take(folder, steps, *, start=0, total=6, fails_at=None):
    """What was said in the steps up to `total`."""
    said, state = [], TrainState(jnp.int32(start), {}, ())
    with suppress(KeyError), profiled(small_step, steps, folder, say=said.append) as step:
        for k in range(start, total):
            state, metrics = step(state, jnp.ones((8, 8)))
            if k + 1 == fails_at:
                raise KeyError
    assert int(state.step) == (fails_at or total)
    return said


def timeline(folder):
    """Events by name, from the one profile in `folder`."""
    [file] = folder.glob("plugins/profile/*/*.trace.json.gz")
    assert len(list(file.parent.glob("*.xplane.pb"))) == 1
    events = {}
    for event in json.loads(gzip.decompress(file.read_bytes()))["traceEvents"]:
        events.setdefault(event.get("name"), []).append(event)
    return events


def steps_in(folder):
    return [int(event["args"]["step_num"]) for event in timeline(folder)["train"]]


def test_the_steps_and_no_others_are_in_the_profile(tmp_path):
    [line] = take(tmp_path, Steps(2, 4))
    assert line.startswith(f"the profile of steps 2-4 lies in {tmp_path}: open it by xprof ")
    assert steps_in(tmp_path) == [2, 3, 4]
    assert any("small_step" in str(name) for name in timeline(tmp_path))


def test_the_last_step_is_waited_for(tmp_path, monkeypatch):
    order = []
    wait, stop = jax.block_until_ready, jax.profiler.stop_trace
    monkeypatch.setattr(jax, "block_until_ready", lambda x: order.append("wait") or wait(x))
    monkeypatch.setattr(jax.profiler, "stop_trace", lambda: order.append("stop") or stop())
    take(tmp_path, Steps(6, 6))
    assert order == ["wait", "wait", "stop"]  # for the step before, and for the last one


def test_a_profile_that_cannot_be_written_stops_no_run(tmp_path):
    (tmp_path / "file").write_text("")
    code = (
        "import sys; from pathlib import Path; sys.path.insert(0, sys.argv[2])\n"
        "from test_profile import Steps, take; print(*take(Path(sys.argv[1]), Steps(2, 3)))"
    )  # in a process of its own: jax's profiler stays occupied
    command = [sys.executable, "-c", code, str(tmp_path / "file"), str(Path(__file__).parent)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.stdout.startswith("the profile of steps 2-3 could not be written to "), done.stderr


def test_a_run_that_ends_early_leaves_what_it_had(tmp_path):
    [line] = take(tmp_path, Steps(2, 5), fails_at=3)
    assert "steps 2-3 lies" in line and steps_in(tmp_path) == [2, 3]


def test_a_run_that_continues_profiles_what_is_left(tmp_path):
    [line] = take(tmp_path / "left", Steps(2, 5), start=3)
    assert "steps 4-5 lies" in line and steps_in(tmp_path / "left") == [4, 5]
    [line] = take(tmp_path / "past", Steps(2, 3), start=3)
    assert line == "--profile_steps is 2-3, which the run has behind it: nothing is profiled"
    assert not (tmp_path / "past").exists()


def test_without_steps_nothing_changes(tmp_path):
    with profiled(small_step, None, tmp_path / "profile", say=print) as step:
        assert step is small_step
    assert not (tmp_path / "profile").exists()


@pytest.mark.parametrize("text", ["5", "0-3", "5-4", "1-2-3", "-1-3", "a-b", "100-", ""])
def test_what_is_no_range_of_steps_is_refused(text):
    with pytest.raises(ConfigError, match="needs two steps of the run"):
        read_steps(text)


def test_steps_that_the_run_does_not_have_are_refused():
    assert read_steps("100-105") == Steps(100, 105)
    check_within(Steps(100, 105), 105)
    check_within(None, 1)
    with pytest.raises(ConfigError, match="is 100-105 and the run ends at step 104"):
        check_within(Steps(100, 105), 104)
