"""Runs in a bucket, which an emulator on this machine holds, and under schedulers.

Nothing is collected where requirements-clusters.txt is not installed: `make test-clusters` does.
"""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest
from emulated import Store, ended, wait_for

from mlm.commands.launch import free_port

EXTRAS = ("gcsfs", "gcp_storage_emulator")
collect_ignore_glob = [] if all(map(importlib.util.find_spec, EXTRAS)) else ["test_*.py"]
ROOT = Path(__file__).parent.parent.parent
HERE = Path(__file__).parent


@pytest.fixture(scope="session")
def store():
    """The emulator, with the empty bucket `runs`."""
    url = f"http://127.0.0.1:{free_port()}"
    command = [sys.executable, HERE / "emulator.py", url.rpartition(":")[2]]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    store = Store(url)
    wait_for(lambda: _answers(store))
    yield store
    process.kill()
    process.wait()


def _answers(store: Store) -> bool:
    try:
        return store.names("none") == []
    except OSError:
        return False


@pytest.fixture(scope="session")
def compiled(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("compiled")


@pytest.fixture(scope="session")
def environment(compiled) -> dict[str, str]:
    """Of a process with one CPU device and a compilation cache."""
    environment = {n: v for n, v in os.environ.items() if n not in ("XLA_FLAGS", "PYTHONPATH")}
    environment |= {"JAX_PLATFORMS": "cpu", "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0"}
    environment.setdefault("JAX_COMPILATION_CACHE_DIR", str(compiled))
    return environment | {"PYTHONPATH": str(ROOT)}


@pytest.fixture(scope="session")
def fields(tiny) -> list[str]:
    """The flags of a run of 12 steps that saves at 4, 8 and 12."""
    return ["--config=configs/default.py", *(f"--config.{n}={v}" for n, v in tiny.items())]


@pytest.fixture(scope="session")
def start_in(environment):
    """`start_in(extra, *command)`: running, with `extra` in the environment; killed at the end."""
    running = []

    def start_in(extra, *command) -> subprocess.Popen:
        process = subprocess.Popen(
            [*map(str, command)],
            cwd=ROOT,
            env=environment | extra,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        running.append(process)
        return process

    yield start_in
    for process in running:
        if process.poll() is None:
            process.kill()


@pytest.fixture
def start(store, start_in):
    """`start("train.py", *flags)`: running, with locks that are stale after 6 seconds."""
    return lambda *command: start_in(store.environment, sys.executable, HERE / "quick.py", *command)


@pytest.fixture
def run(start):
    """`run("train.py", *flags)`: the exit code, and what was said on stdout and stderr."""
    return lambda *command: ended(start(*command))


@pytest.fixture(scope="session")
def local(start_in, fields, tmp_path_factory) -> Path:
    """The workdir of the same run on this machine."""
    workdir = tmp_path_factory.mktemp("local")
    command = (sys.executable, "train.py", *fields, f"--workdir={workdir}")
    code, _, err = ended(start_in({}, *command))
    assert code == 0, err
    return workdir


@pytest.fixture(scope="session")
def python() -> str:
    return sys.executable


@pytest.fixture
def upload(store):
    """`upload(folder, name)`: copies a folder to gs://runs/`name`."""

    def upload(folder: Path, name: str) -> None:
        for file in filter(Path.is_file, folder.rglob("*")):
            store.write(f"{name}/{file.relative_to(folder)}", file.read_bytes())

    return upload
