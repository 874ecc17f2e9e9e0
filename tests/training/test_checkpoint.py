import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from mlm.errors import CheckpointError
from mlm.training import TrainState
from mlm.training.checkpoint import checkpoints_in

TX = optax.adamw(1e-3)
SUMS = {"steps": 3.0, "loss": 0.1 + 0.2}


def make_state(step, scale=1.0, shape=(2, 3)):
    params = {"layers": {0: {"w": scale * jnp.ones(shape)}, 1: {"w": jnp.arange(3.0)}}}
    return TrainState(jnp.int32(step), params, TX.init(params))


def equal(a, b):
    return jax.tree.structure(a) == jax.tree.structure(b) and all(
        (x == y).all() for x, y in zip(*map(jax.tree.leaves, (a, b)), strict=True)
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run") / "checkpoints"
    with checkpoints_in(folder, keep_last=2, keep_best=1) as checkpoints:
        assert checkpoints.latest() is None
        for step, loss in [(1, 3.0), (2, 1.0), (3, 2.0), (4, None), (5, 2.5)]:
            checkpoints.save(step, make_state(step, scale=step), interval=SUMS, loss=loss)
            checkpoints.save(
                step, make_state(step), interval=SUMS, loss=loss
            )  # the second one is no news
    return folder


def test_the_last_two_and_the_best_stay(folder):
    with checkpoints_in(folder, read_only=True) as checkpoints:
        assert checkpoints.steps() == [2, 4, 5] and checkpoints.latest() == 5


def test_a_state_comes_back_whole_and_params_alone(folder):
    with checkpoints_in(folder, read_only=True) as checkpoints:
        state, sums = checkpoints.restore(5, like=make_state(0))
        assert equal(state, make_state(5, scale=5)) and sums == SUMS
        like = jax.eval_shape(lambda: make_state(0).params)
        assert equal(checkpoints.restore_params(2, like), make_state(2, scale=2).params)


def test_the_best_is_remembered_by_the_next_attempt(tmp_path):
    for losses in ({1: 3.0, 2: 1.0, 3: 2.0}, {4: 1.5, 5: 4.0, 6: None}, {7: 1.2}):
        with checkpoints_in(tmp_path, keep_last=1, keep_best=1) as checkpoints:
            for step, loss in losses.items():
                checkpoints.save(step, make_state(step), interval=SUMS, loss=loss)
        with checkpoints_in(tmp_path, read_only=True) as checkpoints:
            assert checkpoints.steps() == [2, max(losses)]


def test_another_model_is_refused(folder):
    with checkpoints_in(folder, read_only=True) as checkpoints:
        with pytest.raises(CheckpointError, match=r"5 holds another model .*\(params/layers/0/w"):
            checkpoints.restore_params(5, make_state(0, shape=(2, 4)).params)


def test_what_a_killed_save_left_is_removed_by_the_next_save_and_not_by_a_reader(tmp_path):
    unfinished = tmp_path / "6.orbax-checkpoint-tmp"
    unfinished.mkdir()
    with checkpoints_in(tmp_path, read_only=True) as checkpoints:
        assert checkpoints.latest() is None
    assert unfinished.is_dir()
    with checkpoints_in(tmp_path) as checkpoints:
        checkpoints.save(7, make_state(7), interval=SUMS, loss=None)
    assert not unfinished.exists()


def test_a_save_is_complete_although_the_run_fails(tmp_path):
    with pytest.raises(RuntimeError, match="on purpose"), checkpoints_in(tmp_path) as checkpoints:
        checkpoints.save(1, make_state(1), interval=SUMS, loss=None)
        raise RuntimeError("on purpose")
    with checkpoints_in(tmp_path) as checkpoints:
        assert equal(checkpoints.restore(1, like=make_state(0))[0], make_state(1))


def test_reused_buffers_do_not_reach_a_running_save(tmp_path):
    # The step donates its state, so a save must have copied it before it returns.
    bump = jax.jit(lambda x: jax.tree.map(lambda leaf: leaf + 1, x), donate_argnums=0)
    state = make_state(1, shape=(512, 512))
    expected = np.asarray(state.params["layers"][0]["w"]).copy()
    with checkpoints_in(tmp_path) as checkpoints:
        checkpoints.save(1, state, interval=SUMS, loss=None)
        for _ in range(20):
            state = bump(state)
        checkpoints.wait()
        restored, _ = checkpoints.restore(1, like=make_state(0, shape=(512, 512)))
    np.testing.assert_array_equal(restored.params["layers"][0]["w"], expected)


FULL_DISK = """
import os, resource, signal, sys
from pathlib import Path
import jax.numpy as jnp
from jax import random
from mlm.errors import OutputError
from mlm.training import TrainState
from mlm.training.checkpoint import checkpoints_in

noise = random.normal(random.key(0), (256, 256))  # ones would be compressed to nothing
state = TrainState(jnp.int32(1), {"w": noise}, {"m": jnp.ones(())})
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
try:
    with checkpoints_in(Path(sys.argv[1]), keep_last=3) as checkpoints:
        checkpoints.save(1, state, interval={}, loss=None)
        checkpoints.wait()
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
        checkpoints.save(2, state, interval={}, loss=None)
        if sys.argv[2] == "wait":
            checkpoints.wait()
        raise RuntimeError("the run's own error")
except (OutputError, RuntimeError) as error:
    print(type(error).__name__, error, "latest", checkpoints.latest(), flush=True)
os._exit(0)  # as mlm.cli.leave: an ordinary exit would wait for Orbax for five minutes
"""


@pytest.mark.parametrize("then", ["wait", "fail"])
def test_a_save_that_does_not_fit_is_told_and_hides_no_other_error(tmp_path, then):
    # In a process of its own: the limit on file sizes, which stands in for a full disk, is its.
    done = subprocess.run(
        [sys.executable, "-c", FULL_DISK, str(tmp_path), then], capture_output=True, text=True
    )
    told = "OutputError a checkpoint could not be written" if then == "wait" else "RuntimeError the"
    assert done.stdout.startswith(told), done.stderr
    assert done.stdout.endswith("latest 1\n")
    assert then == "fail" or "newest complete one is 1; free some space" in done.stdout


# ---- what masking follows -----------------------------------------------------------------------


def test_a_mask_table_is_an_item_of_its_own_where_there_is_one(tmp_path, folder):
    table = {"mean": jnp.arange(4.0)}
    with checkpoints_in(tmp_path) as checkpoints:
        checkpoints.save(1, make_state(1)._replace(mask_table=table), interval=SUMS, loss=None)
    assert (tmp_path / "1/mask_table").is_dir() and not (folder / "5/mask_table").exists()
    like = make_state(0)._replace(mask_table={"mean": jnp.zeros(4)})
    with checkpoints_in(tmp_path, read_only=True) as checkpoints:
        state, _ = checkpoints.restore(1, like=like)
        assert equal(state, make_state(1)._replace(mask_table=table))
        assert equal(checkpoints.restore_mask_table(1, like.mask_table), table)
        assert equal(checkpoints.restore_params(1, like.params), state.params)


def test_a_bare_array_is_a_mask_table_too(tmp_path):
    with checkpoints_in(tmp_path) as checkpoints:
        state = make_state(1)._replace(mask_table=jnp.arange(3.0))
        checkpoints.save(1, state, interval=SUMS, loss=None)
        checkpoints.wait()
        assert equal(checkpoints.restore_mask_table(1, jnp.zeros(3)), jnp.arange(3.0))


def test_a_mask_table_that_is_not_there(folder):
    with checkpoints_in(folder, read_only=True) as checkpoints:
        assert checkpoints.restore_mask_table(5, ()) == ()
        with pytest.raises(CheckpointError, match=r"another model .*\(mask_table not there"):
            checkpoints.restore_mask_table(5, jnp.zeros(3))


# ---- where a run goes on ------------------------------------------------------------------------


@pytest.fixture
def three(tmp_path):
    """Checkpoints 1, 2 and 3, of noise."""
    with checkpoints_in(tmp_path, keep_last=3) as checkpoints:
        for step in (1, 2, 3):
            checkpoints.save(step, noise(step), interval={"steps": step}, loss=None)
    return tmp_path


def noise(step):
    state = make_state(step, shape=(50, 40))
    values = jax.random.normal(jax.random.key(step), (50, 40))
    state.params["layers"][0]["w"] = values
    return state


def flip(checkpoint):
    file = max((checkpoint / "params").rglob("d/*"), key=lambda file: file.stat().st_size)
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 64
    file.write_bytes(content)


def newest(folder):
    with checkpoints_in(folder, keep_last=3) as checkpoints:
        return checkpoints.restore_newest(make_state(0, shape=(50, 40)))


def test_the_newest_is_taken_and_its_digest_known(three, tmp_path_factory):
    assert newest(tmp_path_factory.mktemp("none")) is None
    with checkpoints_in(three, keep_last=3) as checkpoints:
        step, state, sums = checkpoints.restore_newest(make_state(0, shape=(50, 40)))
        assert step == 3 and sums == {"steps": 3} and equal(state, noise(3))
        digest = checkpoints.digest
        checkpoints.save(4, state, interval={}, loss=None)
        assert checkpoints.digest == digest  # of the same arrays
        checkpoints.save(5, noise(5), interval={}, loss=None)
        assert checkpoints.digest != digest and len(digest) == 16


def test_damaged_ones_are_set_aside_and_later_saves_are_not_passed_over(three, capsys):
    flip(three / "3")
    (three / "2/opt_state/_METADATA").write_text("{")
    with checkpoints_in(three, keep_last=3) as checkpoints:
        step, state, _ = checkpoints.restore_newest(make_state(0, shape=(50, 40)))
        assert step == 1 and equal(state, noise(1))
        told = [
            "warning: checkpoint 3 is damaged (leaf params/layers/0/w: digest); kept as 3.bad, "
            "going back to 1",
            "warning: checkpoint 2 is damaged (opt_state: cannot be read); kept as 2.bad, "
            "going back to 1",
        ]
        assert capsys.readouterr().err.splitlines() == told
        for number in (2, 3):
            checkpoints.save(number, noise(number), interval={}, loss=None)
    assert newest(three)[0] == 3 and capsys.readouterr().err == ""
    assert {p.name for p in three.iterdir()} == {"1", "2", "3", "2.bad", "3.bad"}


def test_if_all_are_damaged_the_run_does_not_begin_again(three):
    for step in (1, 2, 3):
        flip(three / str(step))
    for _ in range(2):  # and nothing has changed for the next attempt
        with pytest.raises(
            CheckpointError, match=r"all .* damaged: 3 \(leaf .*\), 2 .*, 1 .*; put"
        ):
            newest(three)
    assert {p.name for p in three.iterdir()} == {"1", "2", "3"}
    for step in (1, 2, 3):
        (three / str(step)).rename(three / f"{step}.bad")
    with pytest.raises(CheckpointError, match=r"set aside \(1.bad, 2.bad, 3.bad\)"):
        newest(three)


def test_another_model_is_not_set_aside(three):
    with pytest.raises(CheckpointError, match="3 holds another model"):
        with checkpoints_in(three) as checkpoints:
            checkpoints.restore_newest(make_state(0, shape=(4, 4)))
    assert (three / "3").is_dir()


def test_strays_are_no_checkpoints_and_not_in_the_way(three, capsys):
    (three / "9").mkdir()
    (three / "4/notes").mkdir(parents=True)
    (three / "abc").mkdir()
    with checkpoints_in(three, keep_last=1) as checkpoints:
        assert checkpoints.restore_newest(make_state(0, shape=(50, 40)))[0] == 3
        checkpoints.save(4, noise(4), interval={}, loss=None)
        checkpoints.save(9, noise(9), interval={}, loss=None)
    assert f"warning: no checkpoints, so ignored: 4, 9, abc in {three}" in capsys.readouterr().err
    assert {p.name for p in three.iterdir()} == {"9", "4.bad", "9.bad", "abc"}
    assert newest(three)[0] == 9


@pytest.mark.parametrize("content", ["", '{"loss": 9.0}', '{"loss": "low"}'])
def test_a_damaged_loss_does_not_make_the_best(tmp_path, capsys, content):
    with checkpoints_in(tmp_path, keep_last=1, keep_best=1) as checkpoints:
        for step, loss in ((1, 1.0), (2, 2.0)):
            checkpoints.save(step, make_state(step), interval=SUMS, loss=loss)
    (tmp_path / "1/metrics/metrics").write_text(content)
    with checkpoints_in(tmp_path, keep_last=1, keep_best=1) as checkpoints:
        checkpoints.save(3, make_state(3), interval=SUMS, loss=3.0)
    assert "the loss in checkpoint 1 is damaged" in capsys.readouterr().err
    assert {p.name for p in tmp_path.iterdir()} == {"2", "3"}
