"""Harm done to a checkpoint on the disk, and what a run is to make of it."""

import itertools
import os
from pathlib import Path

from mlm.errors import CheckpointError
from mlm.training.restoring import verify_checkpoint

PLACES = (0.5, 0.75, 0.25, 0.875, 0.125, 0.625, 0.375, 0.9)  # in a file


def array_byte(checkpoint: Path) -> tuple[Path, int]:
    """The largest file that holds part of an array of the parameters, and where it does.

    There are others: indices, and what Orbax has written on the way and nobody reads.
    """
    files = sorted((checkpoint / "params").rglob("d/*"), key=lambda file: -file.stat().st_size)
    for file, share in itertools.product(files, PLACES):
        place = int(file.stat().st_size * share)
        _flip(file, place)
        try:
            verify_checkpoint(checkpoint)
        except CheckpointError as error:
            if "digest)" in str(error):
                return file, place
        finally:
            _flip(file, place)
    raise AssertionError(f"no flipped bit changes an array of {checkpoint}")


def flip(checkpoint: Path) -> None:
    """Changes one bit of an array."""
    _flip(*array_byte(checkpoint))


def _flip(file: Path, place: int) -> None:
    content = bytearray(file.read_bytes())
    content[place] ^= 1
    file.write_bytes(content)


def truncate(file: Path, place: int | None = None) -> None:
    """Cuts a file at a place, by default in the middle."""
    os.truncate(file, file.stat().st_size // 2 if place is None else place)


def remove(file: Path, place: int) -> None:
    file.unlink()


def empty(file: Path, place: int) -> None:
    os.truncate(file, 0)


def same_until(found: dict[int, str], expected: dict[int, str], step: int) -> bool:
    """Whether losses by step are bit for bit those expected, up to `step`."""
    return found == {s: loss for s, loss in expected.items() if s <= step}
