"""`python -m mlm plan`: the step that it plans is the one that trains, and its numbers add up."""

import importlib.util
import os
import re
import subprocess
import sys
import textwrap
from pathlib import Path

import jax
import pytest

from mlm import experiment
from mlm.__main__ import main
from mlm.config import apply_overrides, load_config
from mlm.errors import ConfigError
from mlm.planning import lowering
from mlm.planning.collectives import read_collectives
from mlm.planning.lowering import PlannedStep, compile_step, plan_step
from mlm.planning.stand_in import abstract_batch, stand_in_text
from mlm.planning.topology import Topology, read_topology

pytestmark = pytest.mark.usefixtures("quick_compiles")
CPU8 = read_topology("cpu:8")
NO_DROPOUT = "--config.model.attention_dropout=0.0"
# What splash and cuDNN take.
FAST = {
    "data.length": 128,
    "eval.length": 128,
    "model.max_length": 128,
    "model.attention_dropout": 0.0,
    "model.dtype": "bfloat16",
}


@pytest.fixture(scope="module")
def make_config(tiny):
    def make_config(**fields):
        config = load_config("configs/default.py")
        apply_overrides(config, {**tiny, **fields})
        return config

    return make_config


@pytest.fixture(scope="module")
def flags(tiny):
    """The flags that make a config tiny."""
    given = [f"--config.{name}={value}" for name, value in tiny.items()]
    return ["--config=configs/default.py", *given]


# ---- the step -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"mesh.fsdp": 2, "train.accumulation": 2, "train.remat": "layers"},
        {"masking.unit": "span", "masking.weights": "loss", "data.rows": "document"},
    ],
    ids=["plain", "fsdp", "spans"],
)
def test_the_planned_step_is_the_one_that_trains(make_config, fields):
    exp = experiment.build(make_config(**fields), say=str)
    tokenizer = str(exp.text.folder / "tokenizer.json")
    step = plan_step(make_config(**fields, **{"data.tokenizer": tokenizer}), CPU8)
    batch = exp.run.batch_at(0)
    shapes = {name: (x.shape, x.dtype) for name, x in batch.items()}
    assert {name: (x.shape, x.dtype) for name, x in step.batch.items()} == shapes
    trained = exp.run.step.trace(jax.eval_shape(exp.run.init_state), batch).lower()
    assert functions(step.lowered()) == functions(trained)


def functions(lowered) -> set[str]:
    """The functions of a module, without the numbers that tell apart those of one name.

    Of helpers that are equal jax keeps one, or several if they were traced apart.
    """
    text = re.sub(r"@(\w+?)_\d+\b", r"@\1", lowered.as_text().rstrip("}\n"))
    return {function.rstrip("}\n ") for function in text.split("  func.func ")}


def test_a_batch_of_units_has_their_bitmaps(make_config):
    batch = abstract_batch(make_config(**{"masking.unit": "pmi", "data.rows": "blocks"}))
    assert set(batch) == {"token_ids", "padding_mask", "unit_starts", "example_ids", "visits"}


def test_a_text_that_stands_in_serves_every_kind_of_mask(make_config):
    text = stand_in_text(None, 96)
    assert text.tokenizer.vocabulary_size == 96 and text.train.counts.tolist() == [1] * 96
    ways = {"masking.weights": "frequency", "masking.random_ids": "unigram"}
    step = plan_step(make_config(**ways, **{"masking.unit": "ngram"}), CPU8)
    assert step.work.slots > 0


def planned_on(platform, devices, config, monkeypatch) -> PlannedStep:
    """The step for a platform, whose devices virtual ones stand for."""
    monkeypatch.setattr(lowering, "devices_of", lambda topology: jax.devices()[:devices])
    return plan_step(config, Topology("some", platform, "some", (devices,)))


def test_the_step_lowers_for_a_tpu(make_config, monkeypatch):  # lowered, not run
    one = planned_on("tpu", 1, make_config(**FAST), monkeypatch)
    assert one.execution.attention == "splash"
    assert one.lowered().as_text().count("tpu_custom_call") >= 3
    many = planned_on("tpu", 8, make_config(**FAST, **{"mesh.fsdp": 2}), monkeypatch)
    assert many.execution.attention == "einsum" and "stablehlo" in many.lowered().as_text()


def test_the_step_lowers_for_a_gpu(make_config):  # lowered, not run
    one = plan_step(make_config(**FAST), read_topology("cuda:1"))
    text = one.lowered().as_text()
    assert "__cudnn$fmhaScaleBiasSoftmax(" in text and "SoftmaxBackward(" in text
    many = plan_step(make_config(**FAST), read_topology("cuda:8"))
    assert many.execution.attention == "cudnn"
    assert "CustomSPMDPartitioning" in many.lowered().as_text()  # holds the kernel until compiled


# ---- the report ---------------------------------------------------------------------------------


def test_the_numbers_of_a_report_add_up(flags, capsys):
    main(["plan", "--topology=cpu:8", *flags])
    out = capsys.readouterr().out
    assert max(map(len, out.splitlines())) <= 100
    lines = {line[:24].strip(): line[24:].split() for line in out.splitlines() if line[24:]}
    assert "not known" not in out and "of the CPU's compiler" in out
    v, d, f, length, rows = 96, 16, 32, 16, 16
    layer = 4 * (d * d + d) + 2 * d * f + f + d + 4 * d
    parameters = v * d + length * d + 2 * d + layer + (d * d + d) + 2 * d + v
    # Params and two moments, three counters, 128 losses; of each device's rows ids, segments,
    # positions, a byte for padding, and two numbers of the row.
    arguments = 4 * 3 * parameters + 4 * 3 + 4 * 128 + rows // 8 * (length * (4 + 4 + 4 + 1) + 8)
    step = plan_step(load_tiny(flags), CPU8)
    assert step.argument_bytes == arguments
    compiled = compile_step(step)
    assert compiled.arguments == arguments
    assert compiled.peak == arguments + compiled.outputs - compiled.aliased + compiled.temporaries
    # Gradients and a few sums; the embedding has two, of rows and of logits.
    megabytes = float(lines["all-reduce"][2])
    assert 4 * parameters / 1e6 - 0.05 <= megabytes <= 4 * (parameters + v * d + 200) / 1e6 + 0.05
    slots = step.work.slots
    layers = length * (4 * d * d + 2 * d * f + 2 * length * d)
    operations = 6 * rows * (layers + slots * (d * d + d * v))
    assert step.work.operations == operations
    assert f"{operations / rows / length / 1e6:,.1f} MFLOP a token" in out


def test_what_microbatches_send_is_counted_for_each(make_config):
    sent = {}
    for accumulation in (1, 2):
        config = make_config(**{"train.accumulation": accumulation, "mesh.fsdp": 4})
        found = read_collectives(compile_step(plan_step(config, CPU8)).text, 8)
        assert not any(c.unbounded for c in found)
        sent[accumulation] = sum(c.payload for c in found if c.kind == "all-reduce")
    assert sent[2] > 1.5 * sent[1]  # the gradients of each are summed by themselves


def load_tiny(flags):
    config = load_config("configs/default.py")
    apply_overrides(config, dict(f.removeprefix("--config.").split("=", 1) for f in flags[1:]))
    return config


def test_a_gpu_is_told_of_by_formula(flags, capsys):
    main(["plan", "--topology=h100:4", "--slices=2", *flags])
    out = capsys.readouterr().out
    assert "h100:4, 2 slices: 8 devices" in out and "slices 2, data 4" in out
    assert out.count("not known") == 3 and "MFU at most" in out and "of 74.51: state" in out
    main(["plan", "--topology=cuda:8", *flags])
    assert "nothing is known of the chip; --config.log.peak_flops" in capsys.readouterr().out
    main(["plan", "--topology=cuda:8", "--config.log.peak_flops=1e9", *flags])
    assert re.search(r"matrix products +[\d.]+ +0.0 MFLOP .* 0 TFLOP/s", capsys.readouterr().out)


def test_a_program_that_jax_cannot_read_leaves_the_rest(flags, capsys, monkeypatch):
    def fail(compiled):
        raise jax.errors.JaxRuntimeError("INTERNAL: a newer form")

    monkeypatch.setattr(jax.stages.Compiled, "as_text", fail)
    main(["plan", "--topology=cpu:8", *flags])
    out = capsys.readouterr().out
    assert "not known: jax cannot read" in out and re.search(r"peak +0.00", out)


def test_in_a_process_of_its_own_a_cpu_has_as_many_devices_as_asked(flags):
    run = plan_process("--topology=cpu:3", *flags, "--config.train.batch_size=6")
    assert run.returncode == 0 and run.stderr == ""
    assert "for cpu:3: 3 devices" in run.stdout and "data 3" in run.stdout


def plan_process(*arguments):
    environment = {n: v for n, v in os.environ.items() if n not in ("XLA_FLAGS", "JAX_PLATFORMS")}
    command = [sys.executable, "-m", "mlm", "plan", *arguments]
    return subprocess.run(command, capture_output=True, text=True, env=environment)


def test_the_plan_of_a_node_is_the_one_that_its_config_shows(capsys):
    config = "configs/gpu_node_8.py"
    main(["plan", "--topology=h100:8", f"--config={config}"])
    printed = re.sub(r"jax [\d.]+", "jax 0.10.2", capsys.readouterr().out)
    assert textwrap.indent(printed, "    ") in Path(config).read_text()


# ---- what cannot be -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (["--topology=v5e-16"], "--topology is 'v5e-16'; known are v5e:16x16, .*cpu:8"),
        (["--topology=v5e:2x2x2"], "known are"),
        (["--topology=v4:2x2x1"], "known are"),
        (["--topology=cpu:0"], "known are"),
        (["--topology=cpu:8", "--slices=0"], "--slices is 0; give a number"),
        (["--topology=cpu:4", "--slices=2", "--config.mesh.slices=4"], "leave one of them out"),
        (["--topology=cpu:1000000"], "1,000,000 devices; this machine can stand in for 4,096"),
        (["--topology=cpu:8", "--config.mesh.data=4"], "is 4, and there are 8 devices"),
        (["--topology=cpu:6"], "train.batch_size 16 is not divisible by mesh.data 6"),
        (["--topology=cpu:16"], "has started with 8 virtual devices and cpu:16 takes 16"),
        (["--topology=h100:8", "--config.model.attention=splash", NO_DROPOUT], "needs a TPU, this"),
        (["--topology=cuda:8", "--config.train.freeze=('x',)"], "train.freeze"),
    ],
)
def test_what_cannot_be_planned_is_told_in_a_line(given, words, flags):
    with pytest.raises(ConfigError, match=words) as error:
        main(["plan", *flags, *given])
    assert len(error.value.problems) == 1 and "\n" not in str(error.value)


def test_libtpu_is_named_where_it_is_missing(flags, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match="libtpu is not installed, .* pip install libtpu"):
        main(["plan", "--topology=v5e:2x2", *flags])


MESSAGES = (
    "RESOURCE_EXHAUSTED: E1000: CompileTimeHbmOom: Ran out of memory on HBM, the total memory "
    "required for HLO temporaries (28.28G) exceeds available HBM (15.75G). HLO module: jit_step.",
    "RESOURCE_EXHAUSTED: Ran out of memory in memory space hbm. Used 28.28G of 15.75G hbm.",
)


@pytest.mark.parametrize("message", MESSAGES)
def test_a_compiler_that_runs_out_of_memory_becomes_a_line(message, flags, monkeypatch):
    def fail(step):
        raise jax.errors.JaxRuntimeError(message)

    monkeypatch.setattr(PlannedStep, "lowered", fail)
    with pytest.raises(ConfigError) as error:
        main(["plan", "--topology=cpu:8", *flags])
    [line] = error.value.problems
    assert line.startswith("the step needs 28.28 GiB of a device of cpu:8, which has 15.75: 12.53 ")
    assert "train.remat='layers', or train.accumulation=2 or more, or train.batch_size=8 or" in line


def test_a_state_that_no_gpu_holds_is_refused(flags):
    large = ["--config.model.width=65536", "--config.model.hidden=65536"]
    with pytest.raises(ConfigError) as error:
        main(["plan", "--topology=a100:8", *flags, *large])
    [line] = error.value.problems
    assert "of a100:8, which has 74.51" in line and line.endswith("try mesh.fsdp=8")


def test_other_failures_of_a_compiler_stay_what_they_are(make_config, monkeypatch):
    def fail(step):
        raise jax.errors.JaxRuntimeError("INTERNAL: something else")

    monkeypatch.setattr(PlannedStep, "lowered", fail)
    with pytest.raises(jax.errors.JaxRuntimeError, match="something else"):
        compile_step(plan_step(make_config(), CPU8))


# ---- with libtpu --------------------------------------------------------------------------------


def test_a_step_compiles_for_a_tpu_without_one(flags):
    pytest.importorskip("libtpu")
    run = plan_process("--topology=v5e:2x2", *flags, "--config.train.batch_size=8")
    assert (run.returncode, run.stderr) == (0, "")
    assert "of 15.75 that a program can use" in run.stdout and "all-reduce" in run.stdout
    assert re.search(r"^  links +[\d.]+ +collectives, at 200 GB/s$", run.stdout, re.M)
    run = plan_process("--topology=v5e:3x5", *flags)
    assert run.returncode == 2 and run.stderr.startswith("error: --topology is 'v5e:3x5', of which")
    run = plan_process("--topology=v5e:2x2", *flags, "--config.train.batch_size=16000000")
    assert run.returncode == 2 and run.stderr.startswith("error: the step needs ")
    assert run.stderr.count("\n") == 1


def test_meshes_split_the_axes_of_a_torus():
    pytest.importorskip("libtpu")
    code = (
        "import sys; from mlm.planning.topology import *; from mlm.training.sharding import *\n"
        "for slices in (1, 2):\n"
        "    machine = read_topology('v5e:16x16', slices); prepare_process(machine)\n"
        "    devices = devices_of(machine)\n"
        "    mesh = make_mesh(MeshShape(slices=slices, fsdp=8), devices=devices)\n"
        "    ours = mesh.devices.reshape(slices, -1)\n"
        "    assert all(len({getattr(d, 'slice_index', 0) for d in row}) == 1 for row in ours)\n"
        "    print(dict(mesh.shape)['data'])\n"
    )
    environment = os.environ | {"JAX_PLATFORMS": "cpu", "TPU_SKIP_MDS_QUERY": "1"}
    run = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=environment
    )
    assert run.stdout.split() == ["32", "32"], run.stderr
