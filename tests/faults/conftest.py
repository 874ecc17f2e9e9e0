"""Runs of train.py in processes of their own, for tests that send real signals."""

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest
from processes import PAIR, finish, losses, status

ROOT = Path(__file__).parent.parent.parent
SCRIPT, INJECTED = "train.py", "tests/faults/injected.py"


@pytest.fixture(scope="session")
def train_process(tiny, tmp_path_factory):
    """`start(workdir, *flags, inject="", processes=1, environment={}, **overrides)`: a train.py.

    Its config is tiny, with dropout. `inject` are faults of `injected.py`. What is left of it at
    the end is killed.
    """
    given = {n: v for n, v in os.environ.items() if n not in ("XLA_FLAGS", "PYTHONPATH")}
    given |= {"JAX_PLATFORMS": "cpu", "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0"}
    given.setdefault("JAX_COMPILATION_CACHE_DIR", str(tmp_path_factory.mktemp("compiled")))
    running = []

    def start(
        workdir: Path,
        *flags: str,
        inject: str = "",
        processes: int = 1,
        environment=None,
        **overrides,
    ) -> subprocess.Popen:
        fields = tiny | {
            "train.total_steps": 400,
            "checkpoint.every_steps": 25,
            "eval.every_steps": 200,
            "log.every_steps": 1,
            "model.dropout": 0.1,
        }
        fields |= {name.replace("__", "."): value for name, value in overrides.items()}
        launch = ["-m", "mlm", "launch", f"--processes={processes}", "--"] if processes > 1 else []
        process = subprocess.Popen(
            [
                *(sys.executable, *launch, INJECTED if inject else SCRIPT),
                *("--config=configs/default.py", f"--workdir={workdir}"),
                *(f"--config.{name}={value}" for name, value in fields.items()),
                *flags,
            ],
            cwd=ROOT,
            env=given | {"INJECT": inject, "PYTHONPATH": str(ROOT)} | (environment or {}),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        running.append(process)
        return process

    yield start
    for process in running:
        if process.poll() is None:
            process.send_signal(signal.SIGCONT)
            process.kill()


class Undisturbed(NamedTuple):
    """A run to its end.

    Attributes:
      losses: hexadecimal, by step.
      digest: of its last state.
    """

    workdir: Path
    losses: dict[int, str]
    digest: str


@pytest.fixture(scope="session")
def undisturbed(train_process, tmp_path_factory) -> Undisturbed:
    """What every disturbed run of `train_process` must come to, bit for bit."""
    workdir = tmp_path_factory.mktemp("undisturbed")
    finish(train_process(workdir), seconds=300)
    return Undisturbed(workdir, losses(workdir), status(workdir).get("digest", ""))


@pytest.fixture(scope="session")
def undisturbed_pair(train_process, tmp_path_factory) -> dict[int, str]:
    """The losses of `PAIR`, two processes; they are not those of one."""
    workdir = tmp_path_factory.mktemp("undisturbed_pair")
    finish(train_process(workdir, **PAIR), seconds=300)
    return losses(workdir)


@pytest.fixture
def score(record_property):
    """`score(seconds_to_stop=.., steps_lost=..)`: figures of this row in docs/faults.md."""

    def score(**figures: float) -> None:
        for name, value in figures.items():
            assert name in ("seconds_to_stop", "steps_lost"), name
            record_property(name, value)

    return score
