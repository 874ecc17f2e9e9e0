"""A SLURM of this machine alone, for tests: munge, controller and one node, on ports of its own."""

import contextlib
import getpass
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

from mlm.commands.launch import free_port

PROGRAMS = ("munged", "slurmctld", "slurmd", "srun", "sbatch", "scontrol", "sinfo")
CONF = """
ClusterName=tests
SlurmctldHost={host}(127.0.0.1)
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
AuthInfo=socket={folder}/munge/socket
SlurmctldPort={controller}
SlurmdPort={node}
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
ReturnToService=2
MpiDefault=none
NodeName={host} NodeAddr=127.0.0.1 CPUs=2 State=UNKNOWN
PartitionName=all Nodes={host} Default=YES State=UP
"""


def missing() -> list[str]:
    """The programs that are not installed; Debian has them in slurm-wlm and munge."""
    return [name for name in PROGRAMS if shutil.which(name) is None]


@contextlib.contextmanager
def slurm(folder: Path) -> Iterator[dict[str, str]]:
    """What must be in the environment for `srun` to reach it; it is idle when the block begins."""
    for name in ("state", "spool", "munge"):
        (folder / name).mkdir(mode=0o700)
    munge = folder / "munge"
    (munge / "key").write_bytes(os.urandom(1024))
    (munge / "key").chmod(0o400)
    host = socket.gethostname()
    ports = {"controller": free_port(), "node": free_port()}
    conf = folder / "slurm.conf"
    conf.write_text(CONF.format(host=host, user=getpass.getuser(), folder=folder, **ports))
    environment = {"SLURM_CONF": str(conf)}
    files = {"key-file": "key", "socket": "socket", "pid-file": "pid", "seed-file": "seed"}
    flags = [f"--{flag}={munge / file}" for flag, file in files.items()]
    with contextlib.ExitStack() as stack:
        stack.enter_context(_running("munged", "--foreground", "--force", *flags))
        _wait(lambda: (munge / "socket").exists())
        for daemon in ("slurmctld", "slurmd"):
            stack.enter_context(_running(daemon, "-D", **environment))
        _wait(lambda: "idle" in _said("sinfo", "--noheader", **environment))
        yield environment


@contextlib.contextmanager
def _running(*command: str, **environment: str) -> Iterator[None]:
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    process = subprocess.Popen(command, env=os.environ | environment, **quiet)
    try:
        yield
    finally:
        process.terminate()
        try:
            process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _said(*command: str, **environment: str) -> str:
    ran = subprocess.run(command, env=os.environ | environment, capture_output=True, text=True)
    return ran.stdout


def _wait(call, seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not call():
        if time.monotonic() > deadline:
            raise TimeoutError("SLURM does not start on this machine")
        time.sleep(0.1)
