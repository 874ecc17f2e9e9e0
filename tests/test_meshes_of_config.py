"""`config.mesh` through a whole run, its checkpoints, evaluation and fill-mask, and its table."""

import json
import shutil

import jax
import numpy as np
import pytest

import eval as eval_script
import train as train_script
from mlm import experiment, saved
from mlm.config import apply_overrides, load_config
from mlm.console import make_console
from mlm.devices import check_devices
from mlm.errors import ConfigError
from mlm.rules import validate
from mlm.shardings import print_shardings
from mlm.training.sharding import AXES, MeshShape, make_mesh
from mlm.training.workdir import read_json

pytestmark = pytest.mark.usefixtures("quick_compiles")
FSDP = {"mesh.data": 1, "mesh.fsdp": 8}
MIXED = {"mesh.fsdp": 2, "mesh.tensor": 2}
SHORT = {"train.total_steps": 4, "checkpoint.every_steps": 2, "eval.every_steps": 4}
TEXT = "the [MASK] dog sees a small bird."


@pytest.fixture(scope="module")
def make_config(tiny):
    def make_config(**fields):
        config = load_config("configs/default.py")
        apply_overrides(config, {**tiny, **SHORT, **fields})
        return config

    return make_config


@pytest.fixture(scope="module")
def fsdp_run(make_config, tmp_path_factory):
    """The workdir of a run on fsdp 8."""
    workdir = tmp_path_factory.mktemp("fsdp")
    assert train_script.run(make_config(**FSDP), workdir) == 0
    return workdir


def metrics(workdir):
    lines = map(json.loads, (workdir / "metrics.jsonl").read_text().splitlines())
    return [line["train/loss"] for line in lines if "train/loss" in line]


def test_a_run_under_fsdp_is_that_of_data_parallel(fsdp_run, make_config, tmp_path):
    assert train_script.run(make_config(), tmp_path / "data") == 0
    np.testing.assert_allclose(metrics(fsdp_run), metrics(tmp_path / "data"), atol=1e-5)
    masks = [
        json.loads((w / "eval.json").read_text())["masks"] for w in (fsdp_run, tmp_path / "data")
    ]
    for kind in masks[0]:
        assert masks[0][kind]["mask_hash"] == masks[1][kind]["mask_hash"]
        assert masks[0][kind]["loss"] == pytest.approx(masks[1][kind]["loss"], abs=1e-5)


def test_a_run_goes_on_under_another_mesh(fsdp_run, make_config, tmp_path):
    workdir = shutil.copytree(fsdp_run, tmp_path / "moved")
    shutil.rmtree(workdir / "checkpoints/4")
    (workdir / "eval.json").unlink()
    assert train_script.run(make_config(**MIXED), workdir) == 0
    assert json.loads((workdir / "status.json").read_text())["step"] == 4
    assert metrics(workdir)[:2] == metrics(fsdp_run)[:2]
    assert read_json(workdir / "config.json").items() >= MIXED.items()  # it was that mesh
    np.testing.assert_allclose(metrics(workdir), metrics(fsdp_run), atol=1e-5)


def test_eval_and_fill_mask_take_another_mesh_than_the_run(fsdp_run, capsys):
    before = json.loads((fsdp_run / "eval.json").read_text())["masks"]["token@0.15"]
    eval_script.run(fsdp_run, overrides={"mesh.data": "2", **MIXED})
    after = json.loads((fsdp_run / "eval.json").read_text())["masks"]["token@0.15"]
    assert after["mask_hash"] == before["mask_hash"]
    assert after["loss"] == pytest.approx(before["loss"], abs=1e-5)
    shown = []
    for overrides in ({}, {"mesh.fsdp": 1, "mesh.data": 8}):
        capsys.readouterr()
        eval_script.run(fsdp_run, fill=[TEXT], overrides=overrides)
        shown.append(capsys.readouterr().out)
    assert shown[0] == shown[1] and TEXT in shown[0]


def test_pretrained_weights_are_put_in_parts(fsdp_run, make_config):
    config = make_config(**{"model.init_from": str(fsdp_run), **MIXED})
    exp = experiment.build(config, say=str)
    assert dict(exp.mesh.shape) == {"slices": 1, "data": 2, "fsdp": 2, "tensor": 2}
    state = exp.run.init_state()
    assert jax.tree.map(lambda x: x.sharding, state) == exp.shardings
    restored = saved.restore_params(exp.params, fsdp_run, 4)
    pairs = zip(*map(jax.tree.leaves, (restored, state.params)), strict=True)
    assert all((np.asarray(a) == np.asarray(b)).all() for a, b in pairs)
    assert exp.fill(state.params, TEXT)[0][0].probability > 0


# ---- what cannot be -----------------------------------------------------------------------------


def problems_of(config):
    with pytest.raises(ConfigError) as error:
        validate(config)
    return error.value.problems


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"mesh.fsdp": 0}, "mesh.fsdp is 0; give a number of devices"),
        ({"mesh.data": -2}, "mesh.data is -2; give a number of devices"),
        ({"mesh.fsdp": -1}, "mesh.data and mesh.fsdp are -1"),
        ({"mesh.tensor": 4, "model.hidden": 32}, "mesh.tensor 4 does not divide model.heads 2"),
        ({"mesh.tensor": 2, "model.hidden": 33}, "mesh.tensor 2 does not divide model.hidden 33"),
        (
            {"mesh.fsdp": 3, "mesh.data": 2},
            "train.batch_size 16 is not divisible by mesh.slices 1 x mesh.data 2 x mesh.fsdp 3 x "
            "train.accumulation 1; make it a multiple of 6",
        ),
        (
            {"mesh.slices": 2, "mesh.fsdp": 4, "train.accumulation": 4},
            "train.batch_size 16 is not divisible by mesh.slices 2 x mesh.fsdp 4 x "
            "train.accumulation 4; make it a multiple of 32",
        ),
    ],
)
def test_a_mesh_that_is_wrong_on_any_devices(fields, words, make_config):
    [problem] = problems_of(make_config(**fields))
    assert problem.startswith(words), problem


@pytest.mark.parametrize(
    ("shape", "words"),
    [
        (MeshShape(data=3), "mesh.data 3 x mesh.fsdp 1 x mesh.tensor 1 is 3, and there are 8"),
        (MeshShape(fsdp=3), "is 3, which does not divide the 8 devices here"),
        (MeshShape(slices=2, data=8), "is 16, and there are 8 devices"),
    ],
)
def test_sizes_that_do_not_make_up_the_devices(shape, words):
    with pytest.raises(ConfigError, match="mesh.slices") as error:
        make_mesh(shape)
    assert words in str(error.value) and len(error.value.problems) == 1


def test_one_device_after_many_is_told_the_sizes_that_fit():
    with pytest.raises(ConfigError, match="is 8, and there is 1 device; .*=-1 does where the oth"):
        MeshShape(data=2, fsdp=4).over(1)
    assert MeshShape(data=-1).over(1)["data"] == 1


def test_the_devices_of_tensor_are_of_one_process(make_config, monkeypatch):
    config = make_config(**{"mesh.tensor": 8, "model.heads": 8})
    check_devices(config)
    monkeypatch.setattr(jax, "local_device_count", lambda: 4)
    with pytest.raises(ConfigError, match="mesh.tensor 8 does not divide the 4 devices of a pro"):
        check_devices(config)


def test_the_sizes_of_a_mesh():
    mesh = make_mesh(MeshShape(slices=2, fsdp=2))
    assert mesh.axis_names == AXES and tuple(mesh.shape.values()) == (2, 2, 2, 1)
    assert dict(make_mesh().shape) == {"slices": 1, "data": 8, "fsdp": 1, "tensor": 1}


def own_model(config):
    init = lambda key: {"table": jax.random.normal(key, (config.vocabulary_size, 8))}  # noqa: E731

    def apply(params, batch, *, key=None):
        x = params["table"][batch["token_ids"]]
        at = batch["mask_positions"]
        return jax.numpy.take_along_axis(x, at[..., None], axis=1) @ params["table"].T

    return init, apply


def test_a_model_of_ones_own_is_split_by_fsdp_and_refuses_tensor(make_config, tmp_path):
    own = {"model.custom": f"{__name__}:own_model", "model.heads": 2}
    exp = experiment.build(make_config(**own, **FSDP), say=str)
    assert "fsdp" in exp.shardings.params["table"].spec
    state, step = exp.run.init_state(), exp.run.step
    state, found = step(state, exp.run.put(exp.run.batch_at(0)))
    assert found.finite and state.params["table"].sharding == exp.shardings.params["table"]
    with pytest.raises(ConfigError, match="no rule splits a parameter of model.custom"):
        experiment.build(make_config(**own, **MIXED), say=str)


# ---- the table ----------------------------------------------------------------------------------


def test_the_table_tells_what_a_device_really_holds(make_config, capsys):
    config = make_config(**MIXED)
    exp = experiment.build(config, say=str)
    state = exp.run.init_state()
    with config.unlocked():  # the table knows the size of the vocabulary that was asked for
        config.data.vocabulary_size = exp.tokenizer.vocabulary_size
    capsys.readouterr()
    print_shardings(make_console(), config)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "8 devices: slices 1, data 2, fsdp 2, tensor 2"
    for name, part in (
        ("parameters", state.params),
        ("optimizer state", state.opt_state),
        ("all of the state", state),
    ):
        held = sum(x.addressable_shards[0].data.nbytes for x in jax.tree.leaves(part))
        [line] = [line for line in lines if line.strip().startswith(name)]
        assert line.split()[-1] == f"{held:,}"
    [query] = [line for line in lines if "query/kernel" in line]
    assert query.split()[1:] == ["[16,", "16]", "fsdp,", "tensor", f"{16 * 16:,}"]


def test_the_table_needs_no_workdir_and_not_the_devices(make_config, tiny, capsys):
    given = [f"--config.{name}={value}" for name, value in tiny.items()]
    flags = ["--config=configs/default.py", "--print_shardings", *given, "--config.mesh.data=1"]
    flags += ["--config.mesh.fsdp=16", "--config.model.layers=3"]
    assert train_script.main(flags) == 0
    shown = capsys.readouterr().out
    assert "16 devices" in shown and "backbone/layers/0-2/attention/key/kernel" in shown
    with pytest.raises(ConfigError, match="--workdir"):
        train_script.main([f for f in flags if f != "--print_shardings"])
