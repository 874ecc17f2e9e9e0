"""Which attention a config gets on which chip, what is refused, and what a GPU does not repeat."""

import math
import subprocess
import sys

import jax
import numpy as np
import pytest

from mlm import machine
from mlm.commands import masks
from mlm.config import apply_overrides, load_config
from mlm.determinism import FLAGS, make_deterministic
from mlm.errors import ConfigError
from mlm.machine import Chip, choose_attention, execution_on, hardware_of
from mlm.models import DistilBertConfig
from mlm.rules import validate

BASE = {"model.width": 768, "model.heads": 12, "data.length": 512, "eval.length": 512}
GPU, TPU = Chip("cuda"), Chip("tpu")
FAST = BASE | {"model.dtype": "bfloat16", "model.attention_dropout": 0.0}


def config_of(**fields):
    config = load_config("configs/default.py")
    apply_overrides(config, FAST | {n.replace("__", "."): v for n, v in fields.items()})
    return config


@pytest.mark.parametrize(
    ("chip", "fields", "backend", "reason"),
    [
        (Chip("cpu", 8), {}, "einsum", "on cpu"),
        (Chip("rocm"), {}, "einsum", "on rocm"),
        (GPU, {}, "cudnn", "on cuda"),
        (Chip("cuda", 8), {}, "cudnn", "on cuda"),
        (GPU, {"model__attention_dropout": 0.1}, "einsum", "cudnn has no dropout"),
        (GPU, {"model__dtype": "float32"}, "einsum", "cudnn takes bfloat16, not float32"),
        (GPU, {"deterministic": True}, "einsum", "no fixed order"),
        (GPU, {"data__length": 127}, "einsum", "even length, not 127"),
        (GPU, {"model__heads": 4}, "einsum", "up to 128 wide, not 192"),
        (Chip("cuda", 1, 7.0), {}, "einsum", "this GPU has 7.0"),
        (TPU, {}, "splash", "on tpu"),
        (TPU, {"model__dtype": "float32", "deterministic": True}, "splash", "on tpu"),
        (TPU, {"eval__length": 64}, "einsum", "a multiple of 128 tokens, not 64"),
        (Chip("tpu", 4), {}, "einsum", "runs on one device, there are 4"),
        (TPU, {"model__attention": "xla"}, "xla", "as the config says"),
        (Chip("cpu"), {"model__attention": "xla"}, "xla", "as the config says"),
    ],
)
def test_the_attention_of_a_chip(chip, fields, backend, reason):
    config = config_of(**fields)
    validate(config)
    found, why = choose_attention(config, chip)
    assert found == backend and reason in why


@pytest.mark.parametrize(
    ("name", "words"),
    [("cudnn", "needs an NVIDIA GPU, this machine computes on cpu"), ("splash", "needs a TPU")],
)
def test_a_backend_that_the_machine_cannot_run_is_refused(name, words):
    with pytest.raises(ConfigError, match=f"model.attention is '{name}', which {words}.*'einsum'"):
        execution_on(jax.devices(), config_of(model__attention=name))


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"model__attention_dropout": 0.1}, "'cudnn' has no dropout"),
        ({"model__dtype": "float32"}, "takes bfloat16 and model.dtype is 'float32'"),
        ({"deterministic": True}, "no fixed order and deterministic is True"),
        ({"log__peak_flops": -1.0}, "log.peak_flops is -1.0"),
        ({"log__peak_flops": math.nan}, "log.peak_flops is nan; give a finite number"),
    ],
)
def test_what_no_machine_can_run_is_refused_before_jax(fields, words):
    with pytest.raises(ConfigError, match=words) as error:
        validate(config_of(model__attention="cudnn", **fields))
    assert len(error.value.problems) == 1


def test_a_gpu_run_says_what_it_does_not_repeat(monkeypatch):
    monkeypatch.setattr(machine, "chip_of", lambda devices: GPU)
    monkeypatch.delenv("XLA_FLAGS")
    lines = execution_on(jax.devices(), config_of()).lines
    assert len(lines) == 2 and lines[1].startswith("not bit-exact on this GPU")
    with pytest.raises(ConfigError, match="jax has started without its flags; .*XLA_FLAGS='--xla"):
        execution_on(jax.devices(), config_of(deterministic=True))
    monkeypatch.setenv("XLA_FLAGS", f"--more=1 {' '.join(FLAGS)}")
    [line] = execution_on(jax.devices(), config_of(deterministic=True)).lines
    assert line.startswith("attention einsum: cudnn adds up gradients")


def test_a_cpu_run_repeats_everything():
    assert execution_on(jax.devices(), config_of()).lines == ("attention einsum: on cpu",)


def test_flags_come_before_jax_or_not_at_all(monkeypatch):
    code = "import os; from mlm.determinism import make_deterministic as make; make({}); "
    code += "import jax.numpy as jnp; jnp.ones(1) + 1; print(os.environ.get('XLA_FLAGS'))"
    for wanted, printed in ((True, "--xla_dummy " + " ".join(FLAGS)), (False, "--xla_dummy")):
        environment = {"XLA_FLAGS": "--xla_dummy", "PATH": ""}
        run = subprocess.run(
            [sys.executable, "-c", code.format(wanted).replace("jnp.ones(1) + 1; ", "")],
            env=environment,
            capture_output=True,
            text=True,
        )
        assert run.stdout.strip() == printed, run.stderr
    # This process has jax already; and XLA knows the flags, or it would end here.
    known = [sys.executable, "-c", code.format(True)]
    assert subprocess.run(known, env={"JAX_PLATFORMS": "cpu", "PATH": ""}).returncode == 0
    monkeypatch.setenv("XLA_FLAGS", "")
    with pytest.raises(RuntimeError, match="jax was imported before"):
        make_deterministic(True)


@pytest.mark.parametrize(("command", "flags"), [("doctor", []), ("replay", ["--step=1"])])
def test_what_builds_a_run_again_tells_xla_as_training_does(command, flags, saved_run, monkeypatch):
    """On a GPU the run would be refused otherwise, as jax has started without the flags."""

    class Told(Exception):
        pass

    def tell(wanted):
        raise Told(wanted)

    monkeypatch.setattr(masks, "make_deterministic", tell)
    told = [f"--workdir={saved_run}", "--config.deterministic=True", *flags]
    with pytest.raises(Told, match="True"):
        getattr(masks, command)(told)


def test_operations_count_mask_slots_and_copies():
    def mask(batch, step, table):
        ids = batch["token_ids"].repeat(2, 0)
        return {"token_ids": ids, "mask_positions": ids[:, :20]}, None

    model = DistilBertConfig(30522)
    batch = {"token_ids": np.zeros((4, 512), np.int32)}
    arguments = (model, mask, batch, ())
    config = config_of(train__batch_size=16, model__hidden=3072)
    found = hardware_of(jax.devices(), config, *arguments)
    head = 6 * 20 * (768 * 768 + 768 * 30522)
    encoder = 6 * 512 * 6 * (4 * 768**2 + 2 * 768 * 3072 + 2 * 512 * 768)
    assert found.step_flops == 32 * (head + encoder)
    assert found.devices == 8 and found.peak_flops is None  # of a CPU
    own = config_of(train__freeze=("head/.*",), log__peak_flops=1e12)
    found = hardware_of(jax.devices(), own, *arguments)
    assert found.step_flops is None and found.peak_flops == 1e12
