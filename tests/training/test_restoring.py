"""Every way in which a checkpoint can be another one than was saved."""

import errno
import json
import shutil
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from mlm.errors import CheckpointError
from mlm.training.checkpoint import checkpoints_in, parts_of
from mlm.training.damage import DamagedError
from mlm.training.restoring import read_checkpoint, stored_digests
from mlm.training.step import TrainState

TX = optax.adamw(1e-3)
SUMS = {"steps": 3.0, "loss": 0.1 + 0.2}


class LaterState(NamedTuple):
    """A state with a field that older checkpoints do not have."""

    step: jax.Array
    params: dict
    opt_state: Any
    mask_table: Any = ()
    recent_losses: Any = ()


def make_state(step, kind=TrainState, **more):
    noise = jax.random.normal(jax.random.key(step), (40, 30))  # ones would be compressed
    params = {"layers": {0: {"w": noise}, 1: {"w": jnp.arange(3.0)}}}
    return kind(jnp.int32(step), params, TX.init(params), jnp.arange(7.0), **more)


def equal(a, b):
    return jax.tree.structure(a) == jax.tree.structure(b) and all(
        np.array_equal(x, y) for x, y in zip(*map(jax.tree.leaves, (a, b)), strict=True)
    )


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    """Checkpoints 1 and 2."""
    folder = tmp_path_factory.mktemp("run") / "checkpoints"
    with checkpoints_in(folder, keep_last=3, keep_best=1) as checkpoints:
        for step in (1, 2):
            checkpoints.save(step, make_state(step), interval=SUMS, loss=float(step))
    return folder


@pytest.fixture
def folder(two, tmp_path):
    shutil.copytree(two, tmp_path / "checkpoints")
    return tmp_path / "checkpoints"


def read(checkpoint, state=None, **settings):
    return read_checkpoint(checkpoint, parts_of(state or make_state(0)), **settings)


def flip(file):
    content = bytearray(file.read_bytes())
    content[len(content) * 2 // 3] ^= 1
    file.write_bytes(content)


def largest(folder):
    return max(folder.rglob("d/*"), key=lambda file: file.stat().st_size)


def test_what_was_saved_comes_back_with_its_digest(two):
    parts, sums, total = read(two / "2", interval=True)
    assert equal(parts, parts_of(make_state(2))) and sums == SUMS
    kept = stored_digests(two / "2")
    assert total == kept["total"] and len(total) == 16 and kept["loss"] == 2.0
    assert "opt_state/0/mu/layers/0/w" in kept["leaves"] and "mask_table" in kept["leaves"]
    assert read(two / "1")[2] != total


def test_a_flipped_bit_of_an_array_is_found_and_the_leaf_named(folder):
    flip(largest(folder / "2/params"))
    with pytest.raises(DamagedError, match=r"2 is damaged \(leaf params/layers/0/w: digest\); pyt"):
        read(folder / "2")
    opt_state = {"opt_state": make_state(0).opt_state}
    assert equal(read_checkpoint(folder / "2", opt_state)[0]["opt_state"], make_state(2).opt_state)


def damage(file, how):
    content = file.read_bytes()
    if how == "remove":
        file.unlink()
    elif how == "flip":
        flip(file)
    else:
        file.write_bytes(content[: len(content) // 2] if how == "half" else b"")


@pytest.mark.parametrize("how", ["remove", "empty", "half", "flip"])
def test_whatever_happens_to_a_file_nothing_else_comes_back(two, tmp_path, how):
    """Some files can be done without; then it is what was saved."""
    wanted, outcomes = parts_of(make_state(2)), []
    names = sorted(p.relative_to(two / "2") for p in (two / "2").rglob("*") if p.is_file())
    for name in names:
        shutil.copytree(two / "2", tmp_path / "2", dirs_exist_ok=True)
        damage(tmp_path / "2" / name, how)
        try:
            parts, sums, total = read(tmp_path / "2", interval=True)
            assert equal(parts, wanted) and sums == SUMS and total, name
            outcomes.append("fine")
        except DamagedError as error:
            outcomes.append(error.reason)
    assert outcomes.count("fine") < len(names) - 5
    assert any(reason.startswith(("params", "leaf params")) for reason in outcomes)
    assert any(reason.startswith("digests") for reason in outcomes)


def test_a_digest_that_is_gone_or_edited(folder):
    file = folder / "2/digests/metadata"
    kept = json.loads(file.read_text())
    kept["leaves"]["mask_table"]["digest"] = "0" * 16
    for content in (json.dumps(kept), "[]", '{"leaves": 3, "total": ""}', "{}"):
        file.write_text(content)
        with pytest.raises(DamagedError, match=r"\(digests: changed\)"):
            read(folder / "2")
    shutil.rmtree(folder / "2/digests")
    with pytest.raises(DamagedError, match=r"\(digests: missing\)"):
        read(folder / "2")


def other_states():
    state = make_state(0)
    cast = jax.tree.map(lambda x: x.astype(jnp.bfloat16), state.params)
    yield state._replace(params=cast), r"params/layers/0/w float32\[40,30\] -> bfloat16\[40,30\]"
    deeper = state.params | {"head": jnp.ones(2)}
    yield state._replace(params=deeper), r"\(params/head not there -> float32\[2\]\)"
    yield (
        state._replace(params={"layers": {0: {"w": jnp.ones((40, 30))}}}),
        r"w float32\[3\] -> not",
    )
    sgd = optax.sgd(0.1).init(state.params)
    yield state._replace(opt_state=(sgd, {"m": jnp.ones(2)})), r"opt_state.* and 1 more\)"
    yield state._replace(mask_table={"a": jnp.ones(7)}), "mask_table.* not there"


@pytest.mark.parametrize(("state", "words"), list(other_states()))
def test_another_model_optimizer_or_dtype_is_refused_and_never_cast(two, state, words):
    with pytest.raises(CheckpointError, match=f"holds another model or optimizer .*{words}") as e:
        read(two / "2", state)
    assert not isinstance(e.value, DamagedError) and str(e.value).count("->") <= 5


def before_digests(checkpoint):
    """As version 7 wrote it."""
    shutil.rmtree(checkpoint / "digests")
    file = checkpoint / "_CHECKPOINT_METADATA"
    facts = json.loads(file.read_text())
    del facts["item_handlers"]["digests"]
    file.write_text(json.dumps(facts))


def test_a_checkpoint_from_before_digests_is_taken_with_a_warning(folder, capsys):
    before_digests(folder / "2")
    parts, sums, total = read(folder / "2", interval=True)
    assert equal(parts, parts_of(make_state(2))) and (sums, total) == (SUMS, "")
    assert capsys.readouterr().err.count("is from before digests, so what was read is not ver") == 1
    for state, words in other_states():
        with pytest.raises(CheckpointError, match=f"another model .*{words}"):
            read(folder / "2", state)
    file = largest(folder / "2/params")
    file.write_bytes(file.read_bytes()[:50])
    with pytest.raises(DamagedError, match=r"\(params: cannot be read\)"):
        read(folder / "2")


def test_a_part_that_came_later_is_nothing_yet(two, tmp_path):
    later = make_state(0, LaterState, recent_losses=jnp.zeros(4))
    losses = read(two / "2", later)[0]["recent_losses"]
    assert losses.dtype == jnp.float32 and np.isnan(losses).tolist() == [True] * 4
    with checkpoints_in(tmp_path) as checkpoints:
        state = later._replace(recent_losses=jnp.float32([1, 2, jnp.nan, 4]))
        checkpoints.save(1, state, interval=SUMS, loss=None)
        checkpoints.wait()
        restored, _ = checkpoints.restore(1, later)
    np.testing.assert_array_equal(restored.recent_losses, [1, 2, np.nan, 4])


@pytest.mark.parametrize(
    "error",
    [
        ValueError("UNAVAILABLE: no route to host"),
        ValueError("ABORTED: Error reading params: Stale file handle"),
        OSError(errno.EIO, "Input/output error"),
        OSError(errno.EMFILE, "Too many open files"),
        PermissionError(errno.EACCES, "Permission denied"),
        MemoryError("no memory"),
    ],
)
def test_no_access_is_not_damage(folder, monkeypatch, error):
    def refused(*args, **kwargs):
        raise error

    monkeypatch.setattr("orbax.checkpoint.StandardCheckpointHandler.restore", refused)
    words = f"cannot be read now .*{str(error)[-12:]}.* same command again, or move"
    with pytest.raises(CheckpointError, match=words) as e:
        read(folder / "2")
    assert not isinstance(e.value, DamagedError)


@pytest.mark.parametrize(
    ("worst", "words"), [(1, "as another process has found"), (2, "by another")]
)
def test_what_one_process_finds_holds_for_all(two, monkeypatch, worst, words):
    monkeypatch.setattr("mlm.training.damage.worst_of_all", lambda own: max(own, worst))
    with pytest.raises(CheckpointError, match=words) as e:
        read(two / "2")
    assert isinstance(e.value, DamagedError) == (worst == 1)
    # A process that refuses says why itself, and damage elsewhere does not make it one to rename.
    with pytest.raises(CheckpointError, match="another model") as e:
        read(two / "2", next(other_states())[0])
    assert not isinstance(e.value, DamagedError)
