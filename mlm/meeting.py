"""All processes of a run meet at the coordinator's port before jax starts there.

jax 0.10 answers a process that is missing, or there twice, with a C++ abort after minutes; here it
is one line in every process, and so are configs, code or versions that are not the same.
"""

import contextlib
import json
import os
import socket
import time
from collections.abc import Iterable, Mapping

from mlm.errors import ConfigError, PeerError
from mlm.lifeline import WAY_OUT, Lifeline, Peer, Place

HELLO_SECONDS = 5  # for the first line of who connects
PORT_SECONDS = 10  # how long a port may be taken, by the run that was here before


def meet(place: Place, facts: Mapping[str, object], *, seconds: float, silence: float) -> Lifeline:
    """Waits until all processes are there and know that they belong together.

    Args:
      place: of this process.
      facts: what must be the same in all of them, JSON values by name.
      seconds: how long some may come later than others.
      silence: seconds without a sign of life after which one is given up later.

    Raises:
      ConfigError: a process id is there twice, or processes differ in their number or facts.
      PeerError: process 0 cannot be reached, its port is taken, or a process does not come.
    """
    facts = json.loads(json.dumps(dict(facts)))
    if place.index:
        return Lifeline(place, {0: _join(place, facts, seconds)}, silence=silence)
    with _listener(place, facts, seconds) as listener:
        peers = _gather(place, facts, listener, seconds)
    return Lifeline(place, peers, silence=silence)


def _listener(place: Place, facts: dict, seconds: float) -> socket.socket:
    """A socket on the port of the coordinator: of this machine alone if that is what is named."""
    port = place.address[1]
    began, wait = time.monotonic(), min(PORT_SECONDS, seconds)
    while True:
        try:
            if host := place.loopback:
                family = socket.AF_INET6 if ":" in host else socket.AF_INET
                address = host.strip("[]"), port
                return socket.create_server(address, family=family, backlog=1024)
            both = socket.has_dualstack_ipv6()
            family = socket.AF_INET6 if both else socket.AF_INET
            return socket.create_server(
                ("", port), family=family, backlog=1024, dualstack_ipv6=both
            )
        except OSError as error:
            _ask_a_twin(place, facts)
            if time.monotonic() - began > wait:
                raise PeerError(
                    f"the port of the coordinator {place.coordinator} cannot be had after "
                    f"{wait:g} s ({os.strerror(error.errno or 0)}); choose another port"
                ) from error
            time.sleep(0.2)


def _ask_a_twin(place: Place, facts: dict) -> None:
    """Raises PeerError if who has the port is a process 0 too, and refuses this one."""
    try:
        with contextlib.closing(Peer(socket.create_connection(place.address, timeout=1))) as peer:
            peer.send(_hello(place, facts))
            answer = peer.receive(1) or {}
    except OSError:
        return
    if error := answer.get("error"):
        raise PeerError(error, exit_code=answer["exit_code"])


def _gather(place: Place, facts: dict, listener: socket.socket, seconds: float) -> dict[int, Peer]:
    """Connections to all other processes, in process 0."""
    peers, names = {}, {0: _own_name()}
    deadline = time.monotonic() + seconds
    try:
        while missing := [i for i in range(1, place.count) if i not in peers]:
            peer = _accept(listener, deadline)
            if peer is None:
                raise PeerError(_absent(place, missing, seconds))
            hello = peer.receive(HELLO_SECONDS) or {}
            if not hello.keys() >= {"process", "count", "name", "facts"}:  # not one of us
                peer.close()
                continue
            index = hello["process"]
            _forget_the_gone(peers, names)
            try:
                _check(hello, place, names, facts)
            except ConfigError as error:
                _refuse([peer], error)
                raise
            peers[index], names[index] = peer, hello["name"]
            _forget_the_gone(peers, names)
    except (ConfigError, PeerError) as error:
        _refuse(peers.values(), error)
        while late := _accept(listener, time.monotonic()):  # who waits to be heard is told as well
            late.receive(1)
            _refuse([late], error)
        raise
    for peer in peers.values():
        peer.send({"go": True})
    return peers


def _forget_the_gone(peers: dict[int, Peer], names: dict[int, str]) -> None:
    """A process that ended while others are waited for may be started again."""
    for index in [i for i, peer in peers.items() if peer.is_gone()]:
        peers.pop(index).close()
        del names[index]


def _accept(listener: socket.socket, deadline: float) -> Peer | None:
    listener.settimeout(max(0.01, deadline - time.monotonic()))
    try:
        return Peer(listener.accept()[0])
    except OSError:
        return None


def _check(hello: dict, place: Place, names: dict[int, str], facts: dict) -> None:
    """Raises ConfigError unless the process that says `hello` belongs here."""
    index, name = hello["process"], hello["name"]
    if hello["count"] != place.count:
        raise ConfigError(
            f"process {index} ({name}) was told of {hello['count']} processes, process 0 "
            f"({names[0]}) of {place.count}; give all the same --num_processes"
        )
    if index in names:
        raise ConfigError(
            f"process id {index} is there twice ({names[index]} and {name}); give each its own, "
            f"from 0 to {place.count - 1}"
        )
    theirs = hello["facts"]
    differing = [n for n in sorted({*theirs, *facts}) if theirs.get(n) != facts.get(n)]
    if differing:
        shown = ", ".join(f"{n} {facts.get(n)} -> {theirs.get(n)}" for n in differing[:5])
        raise ConfigError(
            f"process {index} ({name}) differs from process 0 ({names[0]}): {shown}; start all "
            "with the same command, code and versions"
        )


def _join(place: Place, facts: dict, seconds: float) -> Peer:
    """A connection to process 0, which has found all the others."""
    deadline = time.monotonic() + seconds
    peer, reason = _connect(place, deadline)
    if peer is None:
        raise PeerError(
            f"the coordinator {place.coordinator} could not be reached in {seconds:g} s "
            f"({reason}); is process 0 running there?"
        )
    peer.send(_hello(place, facts))
    answer = peer.receive(max(1.0, deadline - time.monotonic() + HELLO_SECONDS))
    if answer is None:
        raise PeerError(
            f"process 0 at {place.coordinator} ended, or said nothing for {seconds:g} s; {WAY_OUT}"
        )
    if error := answer.get("error"):
        raise PeerError(error, exit_code=answer["exit_code"])
    return peer


def _connect(place: Place, deadline: float) -> tuple[Peer | None, str]:
    """A connection to process 0, or why there is none."""
    while True:
        left = deadline - time.monotonic()
        try:
            return Peer(socket.create_connection(place.address, timeout=max(0.1, left))), ""
        except OSError as error:
            if left <= 0:
                return None, error.strerror or "no answer"
            time.sleep(min(0.2, max(0.01, left)))


def _refuse(peers: Iterable[Peer], error: ConfigError | PeerError) -> None:
    for peer in peers:
        peer.send({"error": str(error), "exit_code": error.exit_code})


def _absent(place: Place, missing: list[int], seconds: float) -> str:
    shown = ", ".join(map(str, missing[:8])) + (", ..." if len(missing) > 8 else "")
    many = "es" if len(missing) > 1 else ""
    return (
        f"process{many} {shown} of {place.count} did not come to {place.coordinator} in "
        f"{seconds:g} s; look there for the reason, or raise config.processes.init_timeout_seconds"
    )


def _hello(place: Place, facts: dict) -> dict:
    return {"process": place.index, "count": place.count, "name": _own_name(), "facts": facts}


def _own_name() -> str:
    return f"process {os.getpid()} on {socket.gethostname()}"
