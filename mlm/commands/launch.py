"""`launch`: several processes of this machine that train as one, for tests and single nodes."""

import contextlib
import ctypes
import functools
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence

from mlm.cli import Parser
from mlm.cluster import FLAGS, STOPPED
from mlm.errors import ConfigError, PeerError

GRACE = 5  # seconds that the others have to end by themselves when one has failed
SAVED_GRACE = 60  # and when one has stopped and saved, as all are about to
ASKED = (signal.SIGTERM, signal.SIGINT)
LOG_LINE = re.compile(r"[IWEF]\d{4} \d\d:\d\d:|WARNING: All log messages before absl")  # of C++
PR_SET_PDEATHSIG = 1  # prctl(2)


def launch(argv: Sequence[str]) -> int:
    """Runs `SCRIPT ARGS` in N processes of this machine, which train as one.

    Process 0 is shown; of the others only what they write to stderr is. SIGTERM and Ctrl-C are
    passed on to all; a second one kills them. Exit code: that of the process that failed first, 75
    if it was killed.
    """
    parser = Parser(prog="python -m mlm launch", description=launch.__doc__)
    parser.usage = "python -m mlm launch --processes=N -- train.py --config=FILE --workdir=DIR ..."
    parser.add_argument("--processes", type=int, required=True, help="how many")
    at = list(argv).index("--") if "--" in argv else len(argv)
    args, command = parser.parse_args(argv[:at]), argv[at + 1 :]
    if args.processes < 1:
        raise ConfigError(f"--processes is {args.processes}; give a number, 1 or more")
    if not command:
        raise ConfigError("nothing to launch; write -- train.py and its arguments at the end")
    if given := [flag for flag in command if flag.startswith(FLAGS)]:
        raise ConfigError(f"{given[0]} is what launch gives to each process; leave it out")
    address = f"127.0.0.1:{free_port()}"
    processes = [_start(command, address, args.processes, i) for i in range(args.processes)]
    try:
        with _passed_on(processes) as asked:
            return _watch(processes, asked)
    finally:
        _kill(processes)


def free_port() -> int:
    """A port of this machine that no one listens on now."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


def _start(command: Sequence[str], address: str, count: int, index: int) -> subprocess.Popen:
    flags = (f"{n}={v}" for n, v in zip(FLAGS, (address, count, index), strict=True))
    environment = dict(os.environ)
    if count > 1:  # each has an accelerator of its own, where there are any
        environment.setdefault("JAX_LOCAL_DEVICE_IDS", str(index))
    others = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE}
    process = subprocess.Popen(
        [sys.executable, *command, *flags],
        env=environment,
        text=True,
        errors="replace",
        start_new_session=True,  # a terminal's Ctrl-C reaches this process, which passes it on
        preexec_fn=functools.partial(_die_with, os.getpid()),
        **(others if index else {}),
    )
    process.reader = None
    if index:
        process.reader = threading.Thread(target=_show_errors, args=(process, index), daemon=True)
        process.reader.start()
    return process


def _die_with(parent: int) -> None:
    """In a child: Linux kills it if `parent` is killed."""
    with contextlib.suppress(AttributeError, OSError):
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it was, before Linux had been told
        os._exit(128 + signal.SIGKILL)


def _show_errors(process: subprocess.Popen, index: int) -> None:
    for line in process.stderr:
        if line.strip() and not LOG_LINE.match(line):
            sys.stderr.write(f"process {index}: {line}")
            sys.stderr.flush()


@contextlib.contextmanager
def _passed_on(processes: Sequence[subprocess.Popen]) -> Iterator[list[int]]:
    """Signals go on to all processes; the list has those that came."""
    asked: list[int] = []

    def handle(signum, frame):
        asked.append(signum)
        for process in processes:
            if process.poll() is None:
                process.send_signal(signum if len(asked) == 1 else signal.SIGKILL)

    previous = {s: signal.signal(s, handle) for s in ASKED}
    try:
        yield asked
    finally:
        for signum, handler in previous.items():
            signal.signal(signum, handler)


def _watch(processes: Sequence[subprocess.Popen], asked: Sequence[int]) -> int:
    """The exit code of all, when all have ended or been killed because one did not end well."""
    first, deadline = None, float("inf")
    while any(process.poll() is None for process in processes) and time.monotonic() < deadline:
        if first is None and (first := _ended_badly(processes)) is not None:
            saved = processes[first].returncode in STOPPED
            deadline = time.monotonic() + (SAVED_GRACE if saved else GRACE)
        time.sleep(0.05)
    first = _ended_badly(processes) if first is None else first
    _kill(processes)
    return 0 if first is None else _exit_code(processes[first].returncode, first, asked)


def _ended_badly(processes: Sequence[subprocess.Popen]) -> int | None:
    """The process that ended first but not well; of several one that no other can have ended."""
    codes = {i: p.returncode for i, p in enumerate(processes) if p.poll()}
    caused = (PeerError.exit_code, -signal.SIGABRT)  # by a process that is gone
    return min(codes, key=lambda i: (codes[i] in caused, i), default=None)


def _exit_code(code: int, index: int, asked: Sequence[int]) -> int:
    if code >= 0:
        return code
    if asked:
        return 128 + asked[0]
    raise PeerError(
        f"process {index} was killed by {signal.Signals(-code).name} and the others have ended; "
        "the same command continues from the newest checkpoint"
    )


def _kill(processes: Sequence[subprocess.Popen]) -> None:
    for process in processes:
        if process.poll() is None:
            process.kill()
        process.wait()
    for process in processes:
        if process.reader:
            process.reader.join(timeout=1)
