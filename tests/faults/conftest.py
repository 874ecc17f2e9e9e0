"""Runs of train.py in processes of their own, for tests that send real signals."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent


@pytest.fixture(scope="session")
def train_process(tiny, tmp_path_factory):
    """`start(workdir, **overrides)`: a running `python train.py` of a tiny config with dropout."""
    cache = tmp_path_factory.mktemp("compiled")
    environment = {name: value for name, value in os.environ.items() if name != "XLA_FLAGS"}
    environment |= {"JAX_PLATFORMS": "cpu"}
    environment.setdefault("JAX_COMPILATION_CACHE_DIR", str(cache))
    environment |= {"JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0"}

    def start(workdir: Path, **overrides) -> subprocess.Popen:
        fields = tiny | {
            "train.total_steps": 400,
            "checkpoint.every_steps": 25,
            "eval.every_steps": 200,
            "log.every_steps": 1,
            "model.dropout": 0.1,
        }
        fields |= {name.replace("__", "."): value for name, value in overrides.items()}
        arguments = [f"--config.{name}={value}" for name, value in fields.items()]
        command = [sys.executable, "train.py", "--config=configs/default.py", *arguments]
        return subprocess.Popen(
            [*command, f"--workdir={workdir}"],
            cwd=ROOT,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    return start
