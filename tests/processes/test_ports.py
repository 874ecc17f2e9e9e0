"""The port of the coordinator asks for no password: only this machine may reach it, if possible."""

import signal
import socket
from pathlib import Path

import pytest
from launched import wait_for_new_step

from mlm import cluster, meeting
from mlm.commands.launch import free_port
from mlm.config import load_config
from mlm.lifeline import Place

LISTENING = "0A"  # of include/net/tcp_states.h


@pytest.mark.parametrize(
    ("coordinator", "where"),
    [
        ("127.0.0.1:80", "127.0.0.1"),
        ("localhost:80", "127.0.0.1"),
        ("127.0.0.2:80", "127.0.0.2"),
        ("[::1]:80", "[::1]"),
        ("10.0.0.1:80", None),
        ("node7:80", None),
        ("0.0.0.0:80", None),
    ],
)
def test_where_the_coordinator_listens(coordinator, where, monkeypatch):
    place = Place(coordinator, 2, 0)
    assert place.loopback == where
    told = []
    monkeypatch.setattr("jax.distributed.initialize", lambda *a, **given: told.append(given))
    cluster._initialize(place, load_config("configs/default.py").processes)
    assert told[0]["coordinator_bind_address"] == (where and f"{where}:80")


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "[::1]", "127.0.0.2"])
def test_the_meeting_is_on_loopback(host):
    if host == "[::1]" and not socket.has_ipv6:
        pytest.skip("no IPv6 here")
    place = Place(f"{host}:{free_port()}", 2, 0)
    with meeting._listener(place, {}, 1) as listener:
        assert f"{listener.getsockname()[0]}" == place.loopback.strip("[]")


def listening(port: int) -> set[str]:
    """The addresses, in hexadecimal, at which this machine listens on `port`."""
    rows = [row.split() for name in ("tcp", "tcp6") for row in read(f"/proc/net/{name}")]
    return {row[1].split(":")[0] for row in rows if row[3] == LISTENING and at_port(row) == port}


def read(file: str) -> list[str]:
    return Path(file).read_text().splitlines()[1:]


def at_port(row: list[str]) -> int:
    return int(row[1].split(":")[1], 16)


def test_jax_listens_on_loopback_alone(start, tmp_path):
    port = free_port()
    flags = f"--coordinator=localhost:{port}", "--num_processes=2", f"--workdir={tmp_path}"
    both = [start("train.py", *flags, f"--process_id={i}") for i in (0, 1)]
    wait_for_new_step(both[0], tmp_path, 1)
    # 127.0.0.1, as such or as an IPv6 address; in the byte order of the machine.
    assert listening(port) <= {"0100007F", "0000000000000000FFFF00000100007F"}
    assert listening(port)
    for process in both:
        process.send_signal(signal.SIGKILL)
        process.communicate()
