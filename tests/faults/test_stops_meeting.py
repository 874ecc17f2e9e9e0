"""Processes that do not come together end with one line each, before anything is written."""

import socket
import time

import pytest
from processes import finish, last_error

from mlm.commands.launch import free_port


def flags(port, count, index):
    numbers = f"--num_processes={count}", *([] if index is None else [f"--process_id={index}"])
    return f"--coordinator=127.0.0.1:{port}", *numbers


@pytest.mark.fault(
    13,
    "one of two processes never comes; another port; a port that is taken",
    "each ends with exit 75 and one line with the address and the seconds it waited",
)
def test_who_is_alone(train_process, tmp_path, score):
    limit = {"processes__init_timeout_seconds": 1}
    with socket.create_server(("127.0.0.1", 0)) as server:
        taken, alone, wrong = server.getsockname()[1], free_port(), free_port()
        began = time.monotonic()
        processes = [
            train_process(tmp_path, *flags(port, 2, index), **limit)
            for port, index in ((alone, 0), (wrong, 1), (taken, 0))
        ]
        told = [last_error(finish(process, 75)[1]) for process in processes]
        took = time.monotonic() - began
    assert f"process 1 of 2 did not come to 127.0.0.1:{alone} in 1 s" in told[0]
    assert f"coordinator 127.0.0.1:{wrong} could not be reached in 1 s" in told[1]
    assert f"coordinator 127.0.0.1:{taken} cannot be had after 1 s" in told[2]
    assert all(len(line) <= 200 for line in told) and list(tmp_path.iterdir()) == []
    score(seconds_to_stop=took)


@pytest.mark.fault(
    14,
    "a process id that is there twice, one that is missing, another number of processes",
    "exit 2 and one line in each process",
)
def test_who_cannot_be(train_process, tmp_path, score):
    twice, other = free_port(), free_port()
    began = time.monotonic()
    pairs = [
        [train_process(tmp_path, *flags(twice, 2, 0)) for _ in range(2)],
        [train_process(tmp_path, *flags(other, count, i)) for i, count in enumerate((2, 3))],
        [train_process(tmp_path, *flags(free_port(), 2, None))],
    ]
    told = [[finish(process, 2)[1] for process in pair] for pair in pairs]
    score(seconds_to_stop=time.monotonic() - began)
    for pair, message in zip(
        told,
        ("process id 0 is there twice", "was told of 3 processes", "--process_id is missing"),
        strict=True,
    ):
        for error in pair:
            assert message in last_error(error) and error.count("\n") == 1
    assert list(tmp_path.iterdir()) == []
