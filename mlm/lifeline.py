"""One connection from every process of a run to process 0, open from before jax starts to the end.

jax 0.10 answers a process that failed or was killed with a C++ abort, or with a wait of minutes.
The kernel closes the connection of a process that is gone at once, and the others then end with
one line, whatever they wait for. One that is frozen, or whose machine lost its power, is noticed
because it says nothing any more.

Messages are lines of JSON. Like jax's own service, the port asks for no password.
"""

import contextlib
import faulthandler
import ipaddress
import json
import os
import socket
import threading
import time
from collections.abc import Mapping
from typing import NamedTuple

from mlm.errors import PeerError

BEATS = 5  # signs of life in the time after which a process is given up
WAY_OUT = "the same command continues from the newest checkpoint"


class Place(NamedTuple):
    """Which process this is, and where process 0 is."""

    coordinator: str  # HOST:PORT
    count: int
    index: int
    local_devices: tuple[int, ...] | None = None  # None: all that the machine has

    @property
    def address(self) -> tuple[str, int]:
        host, _, port = self.coordinator.rpartition(":")
        return host.strip("[]"), int(port)

    @property
    def loopback(self) -> str | None:
        """Where to listen so that only this machine can connect; None if others must."""
        host = "127.0.0.1" if self.address[0] == "localhost" else self.address[0]
        try:
            address = ipaddress.ip_address(host)
        except ValueError:  # a name
            return None
        if not address.is_loopback:
            return None
        return f"[{host}]" if address.version == 6 else host


class Peer:
    """One connection: a line of JSON per message."""

    def __init__(self, connection: socket.socket):
        # A firewall forgets a connection on which nothing is said.
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        if hasattr(socket, "TCP_KEEPIDLE"):
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 60)
        self._connection = connection
        self._reader = connection.makefile("r", encoding="utf-8")

    def send(self, message: Mapping[str, object]) -> None:
        with contextlib.suppress(OSError):  # who is gone is noticed where it is listened to
            self._connection.sendall(json.dumps(message).encode() + b"\n")

    def receive(self, seconds: float | None = None) -> dict | None:
        """The next message; None if there is none in that time, no more, or it is no message."""
        try:
            self._connection.settimeout(seconds)
            message = json.loads(self._reader.readline())
        except (OSError, ValueError):
            return None
        return message if isinstance(message, dict) else None

    def is_gone(self) -> bool:
        """Whether the other end has closed the connection, with nothing left to read."""
        try:
            self._connection.settimeout(0)
            return not self._connection.recv(1, socket.MSG_PEEK)
        except BlockingIOError:
            return False
        except OSError:
            return True

    def close(self) -> None:
        self._reader.close()
        self._connection.close()


class Lifeline:
    """The open connections of this process; made by `mlm.meeting.meet`.

    Args:
      silence: seconds without a sign of life after which a process is given up.
    """

    def __init__(self, place: Place, peers: Mapping[int, Peer], *, silence: float):
        self._place, self._peers, self._silence = place, dict(peers), silence
        self._over, self._changed = set(), threading.Condition()  # who has said that it is done
        self.leaving = False  # with an error of its own, which it tells before it ends
        for index, peer in self._peers.items():
            threading.Thread(target=self._listen, args=(index, peer), daemon=True).start()
        threading.Thread(target=self._beat, daemon=True).start()

    def done(self) -> None:
        """Tells that this process is about to end well."""
        self._tell({"done": True})

    def wait(self) -> None:
        """Returns when the others have said it too: process 0, or in it all.

        jax would abort all of them if one took longer than its limit, to copy the last metrics to a
        bucket for instance. Who fails or is silent meanwhile ends this process as ever.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._over >= self._peers.keys())

    def fail(self, exit_code: int, message: str, *, hung: bool = False) -> None:
        """Tells that this process ends with an error, so that the others end with it.

        Where that is a step which never ends, any of them may be the cause, and shows its stacks.
        """
        self._spread(self._place.index, exit_code, message, hung)

    def _tell(self, message: Mapping[str, object], but: int | None = None) -> None:
        for index, peer in self._peers.items():
            if index != but:
                peer.send(message)

    def _spread(self, process: int, exit_code: int, message: str, hung: bool = False) -> None:
        self._over.update(self._peers)  # they end because of this, which is no news
        told = {"failed": process, "exit_code": exit_code, "message": message, "hung": hung}
        self._tell(told, but=process)
        if self._place.index == 0:
            time.sleep(0.5)  # others abort when jax's service, which is here, ends before them

    def _beat(self) -> None:
        while True:
            self._tell({"alive": True})
            time.sleep(self._silence / BEATS)

    def _listen(self, index: int, peer: Peer) -> None:
        began = time.monotonic()
        while message := peer.receive(self._silence):
            began = time.monotonic()
            if message.get("done"):
                with self._changed:
                    self._over.add(index)
                    self._changed.notify_all()
            elif "failed" in message:
                self._end(
                    message["failed"],
                    message["exit_code"],
                    message["message"],
                    hung=message.get("hung", False),
                )
        if index not in self._over:
            silent = time.monotonic() - began >= self._silence
            what = f"has said nothing for {self._silence:g} s" if silent else "is gone"
            process = f"process {index} of {self._place.count}"
            self._end(index, PeerError.exit_code, f"{process} {what}; {WAY_OUT}")

    def _end(self, process: int, exit_code: int, message: str, *, hung: bool = False) -> None:
        """Ends this process because of another one."""
        if self.leaving:
            return
        if hung:
            faulthandler.dump_traceback(2)
        os.write(2, f"error: {message}\n".encode())
        if self._place.index == 0:
            self._spread(process, exit_code, message, hung)
        os._exit(exit_code)
