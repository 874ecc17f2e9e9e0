"""What differs where several processes train as one: each has some of the devices.

All take the same steps and see the same metrics; what only one can do is left to the first.
"""

import time
import zlib
from collections import Counter
from pathlib import Path

import jax
import numpy as np
from jax.experimental import multihost_utils

from mlm.errors import ConfigError
from mlm.training.workdir import read_json, saved_steps

VISIBLE_SECONDS = 10  # until a file that one host has written is seen by others


def is_first() -> bool:
    """Whether this process writes metrics, status and results; a process by itself does."""
    return jax.process_index() == 0


def put_whole(
    sharding: jax.sharding.Sharding, batch: dict[str, np.ndarray]
) -> dict[str, jax.Array]:
    """A batch that every process has whole, on the devices: each takes its rows of it."""
    if sharding.is_fully_addressable:
        return jax.device_put(batch, sharding)
    return {
        name: jax.make_array_from_callback(rows.shape, sharding, rows.__getitem__)
        for name, rows in batch.items()
    }


def first_of_all(number: int) -> int:
    """`number` of the first process: others may see less of a shared folder yet."""
    if jax.process_count() == 1:
        return number
    return int(multihost_utils.broadcast_one_to_all(np.int32(number)))


def worst_of_all(number: int) -> int:
    """The largest `number` of all processes, each of which must ask."""
    if jax.process_count() == 1:
        return number
    return int(multihost_utils.process_allgather(np.int32(number)).max())


def check_devices_of_each() -> None:
    """Raises ConfigError unless all processes have as many devices; jax's own collectives fail."""
    counts = Counter(device.process_index for device in jax.devices())
    numbers = [counts[i] for i in range(jax.process_count())]
    odd = next((i for i, number in enumerate(numbers) if number != numbers[0]), None)
    if odd is not None:
        raise ConfigError(
            f"process {odd} has {numbers[odd]} devices and process 0 {numbers[0]}; each must have "
            "as many, so leave some out by CUDA_VISIBLE_DEVICES or JAX_LOCAL_DEVICE_IDS"
        )


def check_same_folder(workdir: Path) -> None:
    """Waits until the first process has locked `workdir`; all must see the same there.

    What is there decides where a run starts. Processes that read it from another state of a shared
    disk would each wait for others in another place, for ever.

    Raises:
      ConfigError: this process does not see the same.
    """
    multihost_utils.sync_global_devices("workdir is locked")
    wanted = int(multihost_utils.broadcast_one_to_all(np.uint32(_mark(workdir))))
    deadline = time.monotonic() + VISIBLE_SECONDS
    while _mark(workdir) != wanted:
        if time.monotonic() > deadline:
            raise ConfigError(
                f"--workdir {workdir} of process {jax.process_index()} is not the folder of "
                "process 0, or shows other files; name one that all machines share, or wait until "
                "its disk does"
            )
        time.sleep(0.2)


def check_same(name: str, value: str) -> None:
    """Raises ConfigError where `value` is not that of the first process."""
    if jax.process_count() == 1:
        return
    mark = zlib.crc32(value.encode())
    if int(multihost_utils.broadcast_one_to_all(np.uint32(mark))) != mark:
        raise ConfigError(
            f"process {jax.process_index()} has another {name} than process 0 ({value[:60]}); "
            "give all the same files"
        )


def _mark(workdir: Path) -> int:
    """A number for who has locked `workdir` and the run that is there; 0 if no one has."""
    try:
        lock = (workdir / ".lock").read_bytes()
    except OSError:
        return 0
    seen = [read_json(workdir / name) for name in ("config.json", "status.json", "eval.json")]
    return zlib.crc32(lock + repr([saved_steps(workdir / "checkpoints"), *seen]).encode())
