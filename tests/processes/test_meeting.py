"""Who is missing, there twice, or different is told to all within the time that was given."""

import contextlib
import socket
import threading
import time
from queue import SimpleQueue

import pytest

from mlm.commands.launch import free_port
from mlm.errors import ConfigError, PeerError
from mlm.lifeline import Lifeline, Place
from mlm.meeting import _connect, meet

SHORT = {"seconds": 5, "silence": 0.5}
FACTS = {"train.batch_size": 32, "code of mlm": "abc", "shares": (0.5, 0.5)}


def meet_all(*processes, seconds=10.0, port=None):
    """What became of each (count, index, facts), and the seconds that it took."""
    port = port or free_port()
    results = [None] * len(processes)

    def one(i, count, index, facts):
        try:
            place = Place(f"127.0.0.1:{port}", count, index)
            results[i] = meet(place, facts, seconds=seconds, silence=60)
        except (ConfigError, PeerError) as error:
            results[i] = error

    threads = [
        threading.Thread(target=one, args=(i, *p), daemon=True) for i, p in enumerate(processes)
    ]
    began = time.monotonic()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=seconds + 10)
    return results, time.monotonic() - began


def refused(*processes, **kwargs):
    results, seconds = meet_all(*processes, **kwargs)
    assert all(isinstance(result, (ConfigError, PeerError)) for result in results)
    return [(str(error), error.exit_code) for error in results], seconds


def test_processes_that_belong_together_meet_and_leave():
    lifelines, seconds = meet_all(*((3, i, FACTS) for i in (2, 1, 0)))
    assert seconds < 5 and [type(found).__name__ for found in lifelines] == ["Lifeline"] * 3
    for lifeline in lifelines:
        lifeline.done()


def test_who_is_done_waits_for_the_others_as_long_as_it_takes():
    (first, second), _ = meet_all((2, 0, FACTS), (2, 1, FACTS))
    thread = threading.Thread(target=first.wait, daemon=True)
    first.done()
    thread.start()
    thread.join(0.3)
    assert thread.is_alive()
    second.done()
    thread.join(5)
    assert not thread.is_alive()
    second.wait()


def test_the_port_is_free_for_jax_when_they_have_met():
    port = free_port()
    lifelines, _ = meet_all((2, 0, FACTS), (2, 1, FACTS), port=port)
    with socket.create_server(("127.0.0.1", port)):
        pass
    for lifeline in lifelines:
        lifeline.done()


def test_others_in_config_or_code_are_refused_by_name():
    other = FACTS | {"train.batch_size": 64, "code of mlm": "abd"}
    told, seconds = refused((2, 0, FACTS), (2, 1, other))
    assert seconds < 5
    for message, exit_code in told:
        assert exit_code == 2 and message.startswith("process 1 (process ")
        assert "differs from process 0" in message
        assert "code of mlm abc -> abd, train.batch_size 32 -> 64" in message


def test_an_id_that_is_there_twice():
    told, seconds = refused((3, 0, FACTS), (3, 1, FACTS), (3, 1, FACTS))
    assert seconds < 5
    assert all("process id 1 is there twice" in m and code == 2 for m, code in told)


def test_two_processes_0():
    told, _ = refused((2, 0, FACTS), (2, 0, FACTS))
    assert all("process id 0 is there twice" in m and code == 2 for m, code in told)


def test_another_number_of_processes():
    told, _ = refused((2, 0, FACTS), (4, 1, FACTS))
    assert all("was told of 4 processes" in m and code == 2 for m, code in told)


def test_a_process_that_does_not_come_is_named_in_time():
    told, seconds = refused((4, 0, FACTS), (4, 2, FACTS), seconds=1)
    assert seconds < 5
    for message, exit_code in told:
        assert exit_code == 75
        assert message.startswith("processes 1, 3 of 4 did not come to 127.0.0.1:")
        assert "in 1 s" in message


def test_a_coordinator_that_is_not_there():
    port = free_port()
    [(message, exit_code)], seconds = refused((2, 1, FACTS), seconds=1, port=port)
    assert seconds < 5 and exit_code == 75
    assert f"the coordinator 127.0.0.1:{port} could not be reached in 1 s" in message


def test_a_port_that_is_taken():
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        [(message, exit_code)], seconds = refused((2, 0, FACTS), seconds=1, port=port)
    assert seconds < 5 and exit_code == 75
    assert f"coordinator 127.0.0.1:{port} cannot be had after 1 s (Address already" in message


def test_who_is_not_one_of_us_is_not_counted():
    port = free_port()
    found = []
    thread = threading.Thread(
        target=lambda: found.extend(meet_all((2, 0, FACTS), (2, 1, FACTS), port=port)[0])
    )
    thread.start()
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline:
        try:
            with socket.create_connection(("127.0.0.1", port), timeout=1) as stranger:
                stranger.sendall(b"GET / HTTP/1.1\r\n\r\n")
            break
        except OSError:
            if found:
                break
    thread.join()
    assert [type(lifeline).__name__ for lifeline in found] == ["Lifeline"] * 2


@pytest.mark.parametrize("hello", [b'{"process": 1}\n', b"[]\n", b'"process"\n'])
def test_a_hello_that_is_none_is_passed_over(hello):
    port = free_port()
    strangers = []

    def stranger():
        while not strangers:
            try:
                strangers.append(socket.create_connection(("127.0.0.1", port)))
            except OSError:
                time.sleep(0.01)
        strangers[0].sendall(hello)

    thread = threading.Thread(target=stranger)
    thread.start()
    told, _ = refused((2, 0, FACTS), seconds=1, port=port)
    thread.join()
    strangers[0].close()
    assert told[0][1] == 75 and told[0][0].startswith("process 1 of 2 did not come")


def hello(port, *, process, count):
    """A connection to process 0 that has said who it is."""
    place = Place(f"127.0.0.1:{port}", count, process)
    peer, _ = _connect(place, time.monotonic() + 5)
    peer.send({"process": process, "count": count, "name": "by hand", "facts": FACTS})
    return contextlib.closing(peer)


def test_a_process_that_is_frozen_is_given_up(monkeypatch):
    ended = SimpleQueue()
    monkeypatch.setattr(Lifeline, "_end", lambda self, *told: ended.put(told))
    port = free_port()
    place = Place(f"127.0.0.1:{port}", 2, 0)
    thread = threading.Thread(target=meet, args=(place, FACTS), kwargs=SHORT)
    thread.start()
    with hello(port, process=1, count=2) as frozen:
        process, exit_code, message = ended.get(timeout=10)
        assert (process, exit_code) == (1, 75)
        assert message.startswith("process 1 of 2 has said nothing for 0.5 s; ")
        heard = [frozen.receive(1) for _ in range(3)]
    thread.join()
    assert heard == [{"go": True}, {"alive": True}, {"alive": True}]


def test_a_process_that_ended_while_others_are_waited_for_may_come_again():
    port, told = free_port(), []
    thread = threading.Thread(target=lambda: told.extend(meet_all((3, 0, FACTS), port=port)[0]))
    thread.start()
    with hello(port, process=1, count=3):
        time.sleep(0.2)
    told += meet_all((3, 1, FACTS), (3, 2, FACTS), port=port)[0]
    thread.join()
    assert [type(lifeline).__name__ for lifeline in told] == ["Lifeline"] * 3, told
    for lifeline in told:
        lifeline.done()


def test_of_a_step_that_hangs_all_show_their_stacks(monkeypatch, capfd):
    codes = SimpleQueue()
    monkeypatch.setattr("mlm.lifeline.os._exit", codes.put)
    lifelines, _ = meet_all((2, 0, FACTS), (2, 1, FACTS))
    lifelines[1].leaving = True
    lifelines[1].fail(75, "step 12 has taken 3 s", hung=True)
    assert codes.get(timeout=10) == 75
    lifelines[0].leaving = True  # it did not end, and no other may end it later
    error = capfd.readouterr().err
    assert "in test_of_a_step_that_hangs_all_show_their_stacks" in error
    assert error.rstrip().splitlines()[-1] == "error: step 12 has taken 3 s"
