"""Several processes that train as one: found or told, joined before jax starts, left together.

On a machine by itself nothing of this happens, and jax is not even imported.
"""

import argparse
import contextlib
import importlib.util
import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

from ml_collections import ConfigDict

from mlm.config import flat
from mlm.errors import ConfigError, HungError, MlmError, PeerError
from mlm.lifeline import Lifeline, Place
from mlm.meeting import meet
from mlm.versions import versions

# What a cluster that jax knows puts into the environment. A TPU says nothing there, but needs
# libtpu. In Kubernetes jax needs an indexed job: a pod by itself is a plain machine.
HINTS = (
    "SLURM_PROCID",
    "OMPI_MCA_orte_hnp_uri",
    "JOB_COMPLETION_INDEX",
    "TPU_WORKER_HOSTNAMES",
    "TPU_PROCESS_ADDRESSES",
)
FLAGS = ("--coordinator", "--num_processes", "--process_id")
LATER = 10  # seconds until jax aborts for what the lifeline says in a line
STOPPED = (0, 130, 143)  # exit codes of a process whose work is saved

_joined: "_Joined | None" = None


class _Joined:
    """What this process is among others."""

    def __init__(self, place: Place, lifeline: Lifeline):
        self.place, self.lifeline = place, lifeline
        self.message = ""  # of the error that ends this process
        self.hung = False  # whether that is a step that never ends


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Flags that say which of several processes this is, where no cluster says so."""
    group = parser.add_argument_group("several processes (docs/processes.md)")
    group.add_argument("--coordinator", metavar="HOST:PORT", help="where process 0 listens")
    group.add_argument("--num_processes", type=int, help="1: none but this, also in a cluster")
    group.add_argument("--process_id", type=int, help="of this one, from 0")


def is_first() -> bool:
    """Whether this process is the one that writes: by itself, or number 0 of several."""
    return _joined is None or _joined.place.index == 0


def find_place(args: argparse.Namespace, *, seconds: float) -> Place | None:
    """Where the flags, or else a cluster, put this process; None if it is by itself.

    Args:
      args: with the flags of `add_flags`.
      seconds: how long to wait for the name of the first machine.

    Raises:
      ConfigError: the flags are incomplete or cannot be, or the cluster does not say enough.
    """
    coordinator, count, index = values = [getattr(args, flag[2:]) for flag in FLAGS]
    if all(value is None for value in values):
        return _detected(seconds)
    if count == 1 and not index:
        return None
    missing = [flag for flag, value in zip(FLAGS, values, strict=True) if value is None]
    if missing:
        are = "is" if len(missing) == 1 else "are"
        raise ConfigError(f"{' and '.join(missing)} {are} missing; give all of {', '.join(FLAGS)}")
    return _checked(Place(coordinator, count, index))


def _checked(place: Place) -> Place:
    host, _, port = place.coordinator.rpartition(":")
    if not host or not port.isdecimal() or not 0 < int(port) < 65536:
        raise ConfigError(
            f"--coordinator is {place.coordinator!r}; give HOST:PORT, such as 10.0.0.1:8476"
        )
    if not 0 <= place.index < place.count:
        raise ConfigError(
            f"--process_id is {place.index} with --num_processes {place.count}; ids go from 0 to "
            "one less than their number"
        )
    return place


def _detected(seconds: float) -> Place | None:
    """What the cluster says that jax detects; None on a plain machine, or in a cluster of one."""
    if not any(name in os.environ for name in HINTS) and not importlib.util.find_spec("libtpu"):
        return None
    import jax  # noqa: F401 (it finds out whether this is a TPU machine)

    # Only here does jax say what it would use; `initialize()` alone would abort after minutes.
    from jax._src.clusters import ClusterEnv

    try:
        for env in ClusterEnv._cluster_types:
            is_pod = env.__name__ == "K8sCluster"
            if env.opt_in_only_method or (is_pod and "JOB_COMPLETION_INDEX" not in os.environ):
                continue
            if env.is_env_present():
                return _place_in(env, seconds)
    except Exception as error:
        raise ConfigError(
            f"this looks like a cluster, but jax cannot tell the place of this process ({error}); "
            "give --coordinator, --num_processes and --process_id, or --num_processes=1"
        ) from error
    return None


def _place_in(env: type, seconds: float) -> Place | None:
    count = env.get_process_count()
    if count == 1:
        return None
    port = os.environ.get("JAX_COORDINATOR_PORT")
    coordinator = env.get_coordinator_address(
        timeout_secs=int(seconds), override_coordinator_port=port
    )
    local = env.get_local_process_id()  # as jax does: a GPU for each process of a machine
    devices = None if local is None or "JAX_LOCAL_DEVICE_IDS" in os.environ else (local,)
    return Place(coordinator, count, env.get_process_id(), devices)


def share(workdir: Path) -> None:
    """Waits until the first process has locked `workdir`; raises ConfigError if it is another."""
    if _joined is not None:
        from mlm.training.processes import check_same_folder

        check_same_folder(workdir)


@contextlib.contextmanager
def joined(place: Place | None, config: ConfigDict, **more: object) -> Iterator[None]:
    """Runs the block as one process of several, or by itself if `place` is None.

    An error in the block ends all processes once `leave` has told them. So does Ctrl-C, at once,
    wherever the training loop does not take it.

    Args:
      place: from `find_place`.
      config: must be the same in all processes; `config.processes` has the limits of time.
      more: other values that must be the same.

    Raises:
      ConfigError, PeerError: the processes do not come together, see `meet`.
    """
    global _joined
    if place is None:
        with _left_by_interrupts():
            yield
        return
    signal.signal(signal.SIGINT, _interrupt)
    limits, fields = config.processes, flat(config)
    facts = versions(fields) | fields | more
    if place.index == 0:
        import jax  # noqa: F401 (the port that they meet at is free until jax has it)

    silence = limits.heartbeat_timeout_seconds
    lifeline = meet(place, facts, seconds=limits.init_timeout_seconds, silence=silence)
    _joined = _Joined(place, lifeline)
    try:
        _initialize(place, limits)
        from mlm.training.processes import check_devices_of_each

        check_devices_of_each()
        yield
    except BaseException as error:
        if isinstance(error, SystemExit):  # of a user's function: it would leave without a word
            error = RuntimeError(f"sys.exit({error.code}) was called")
        if not isinstance(error, MlmError) or _is_of_jax(error.__cause__):
            time.sleep(2)  # if another process is the cause, its message ends this one meanwhile
        lifeline.leaving = True
        _joined.message = (str(error).splitlines() or [""])[0] or type(error).__name__
        raise error


@contextlib.contextmanager
def _left_by_interrupts() -> Iterator[None]:
    before = signal.getsignal(signal.SIGINT)
    main = threading.current_thread() is threading.main_thread()
    if not main or before is not signal.default_int_handler:
        yield  # ignored, as in the background of a shell, or somebody else's
        return
    signal.signal(signal.SIGINT, _interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _interrupt(signum: int, frame: object) -> None:
    """Ctrl-C outside the training loop.

    An exception is lost where jax calls Python from C: of 46 runs four went on to their end. Where
    a C++ module of jaxlib is being imported it ends in a segmentation fault or an abort.
    """
    os.write(2, b"error: interrupted; the same command goes on\n")
    if _joined is not None:
        place = _joined.place
        line = f"process {place.index} of {place.count} was interrupted; the same command goes on"
        _joined.lifeline.fail(128 + signum, line)
    os._exit(128 + signum)


def _is_of_jax(error: BaseException | None) -> bool:
    return error is not None and not isinstance(error, OSError)


def _initialize(place: Place, limits: ConfigDict) -> None:
    """Starts jax's own service; nothing of jax that needs devices may come before."""
    import jax

    # jax takes SIGTERM for itself from here on, and only the training loop asks for it; until then
    # the signal ends the process as always, see `mlm.training.signals`.
    jax.config.update("jax_enable_preemption_service", False)
    try:
        jax.distributed.initialize(
            place.coordinator,
            place.count,
            place.index,
            local_device_ids=place.local_devices,
            cluster_detection_method="deactivate",
            initialization_timeout=limits.init_timeout_seconds,
            heartbeat_timeout_seconds=limits.heartbeat_timeout_seconds + LATER,
            shutdown_timeout_seconds=limits.shutdown_timeout_seconds,
            coordinator_bind_address=place.loopback and f"{place.loopback}:{place.address[1]}",
        )
    except RuntimeError as error:
        raise PeerError(
            f"jax could not start at {place.coordinator} ({str(error).splitlines()[0]}); choose "
            "another port, or start the same command again"
        ) from error


def end(error: MlmError) -> NoReturn:
    """Ends this process, from whichever of its threads, with one line; the others end with it."""
    os.write(2, f"error: {error}\n".encode())
    if _joined is not None:
        _joined.lifeline.leaving = True
        _joined.message, _joined.hung = str(error), isinstance(error, HungError)
    os._exit(leave(error.exit_code))


def leave(exit_code: int) -> int:
    """`exit_code`, after the other processes have been told of it.

    They wait for each other if all is well, and end with this one if not.
    """
    if _joined is None:
        return exit_code
    if exit_code in STOPPED and not _joined.message:
        import jax

        _joined.lifeline.done()
        _joined.lifeline.wait()
        with contextlib.suppress(Exception):  # all that matters is on disk
            jax.distributed.shutdown()
    else:
        time.sleep(0.2)  # its own message comes first also where it passes through a pipe
        place = _joined.place
        line = f"process {place.index} of {place.count} failed (exit code {exit_code}): "
        _joined.lifeline.fail(exit_code, line + _joined.message, hung=_joined.hung)
    return exit_code
