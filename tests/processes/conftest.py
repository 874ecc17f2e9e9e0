"""Runs of several processes on loopback, by default with one CPU device each."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent


@pytest.fixture(scope="session")
def compiled(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("compiled")


@pytest.fixture
def start(tiny, compiled):
    """`start("train.py", *flags, processes=2, devices=1, **fields)`: running.

    It is started by `launch` if there are several processes; each has so many devices.

    Whatever is left of it when the test ends is killed, and that is an error if the test passed.
    """
    environment = {n: v for n, v in os.environ.items() if n not in ("XLA_FLAGS", "PYTHONPATH")}
    environment |= {"JAX_PLATFORMS": "cpu", "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0"}
    environment.setdefault("JAX_COMPILATION_CACHE_DIR", str(compiled))
    running = []

    def start(script, *flags, processes=1, devices=1, **overrides) -> subprocess.Popen:
        fields = tiny | {
            "train.total_steps": 400,
            "checkpoint.every_steps": 50,
            "eval.every_steps": 200,
            "model.dropout": 0.0,
            "model.attention_dropout": 0.0,
            "optimizer.learning_rate": 1e-4,
        }
        fields |= {name.replace("__", "."): value for name, value in overrides.items()}
        given = [] if script == "eval.py" else ["--config=configs/default.py"]
        given += [] if script == "eval.py" else [f"--config.{n}={v}" for n, v in fields.items()]
        launch = ["-m", "mlm", "launch", f"--processes={processes}", "--"] if processes > 1 else []
        process = subprocess.Popen(
            [sys.executable, *launch, script, *given, *map(str, flags)],
            cwd=ROOT,
            env=environment
            | {"PYTHONPATH": f"{ROOT}:{Path(__file__).parent}"}
            | {"XLA_FLAGS": f"--xla_force_host_platform_device_count={devices}"},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        running.append(process)
        return process

    yield start
    left = [process for process in running if process.poll() is None]
    for process in left:
        process.kill()
    assert not left
