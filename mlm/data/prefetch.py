"""Batches made ahead of time by one background thread, so that a step never waits for reading.

The batches are those of `batch_at` in order; only when they are made differs.
"""

import threading
from collections.abc import Callable, Iterator
from queue import SimpleQueue
from typing import Any


def prefetch(
    batch_at: Callable[[int], Any],
    *,
    start: int,
    stop: int,
    put: Callable[[Any], Any] = lambda batch: batch,
    depth: int = 2,
) -> Iterator[Any]:
    """`put(batch_at(k))` for k = start ... stop - 1, each made up to `depth` batches ahead.

    Both functions run in the thread; `put` is the place for moving a batch to the devices. What
    they raise, or anything else that ends the thread, is raised here, at the batch it belongs to.
    The thread starts with the first batch asked for and ends with the iterator: at its end, when it
    is closed, or when it is dropped.
    """
    made = SimpleQueue()
    free = threading.Semaphore(depth)
    closing = threading.Event()

    def make() -> None:
        k = start
        try:
            while k < stop and free.acquire() and not closing.is_set():
                made.put((put(batch_at(k)), None))
                k += 1
        except Exception as error:
            made.put((None, error))
        except BaseException as error:  # raised as it is it would end the process without a word
            told = RuntimeError(f"the thread that makes batches was ended at batch {k}: {error!r}")
            made.put((None, told))

    thread = threading.Thread(target=make, name="prefetch", daemon=True)
    thread.start()
    try:
        for _ in range(start, stop):
            batch, error = made.get()
            free.release()
            if error is not None:
                raise error
            yield batch
            del batch  # or it would live until the next one is there
    finally:
        closing.set()
        free.release()
        thread.join()
