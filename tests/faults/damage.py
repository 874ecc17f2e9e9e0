"""Harm done to a checkpoint on the disk, and what a run is to make of it."""

from pathlib import Path

from mlm.errors import CheckpointError
from mlm.training.restoring import verify_checkpoint


def array_file(checkpoint: Path) -> Path:
    """The largest file whose middle is part of an array of the parameters.

    There are others: of what Orbax has written on the way, nobody reads all.
    """
    files = (checkpoint / "params").rglob("d/*")
    for file in sorted(files, key=lambda file: -file.stat().st_size):
        content = file.read_bytes()
        flip(file)
        try:
            verify_checkpoint(checkpoint)
        except CheckpointError as error:
            if "digest)" in str(error):
                return file
        finally:
            file.write_bytes(content)
    raise AssertionError(f"no flipped bit changes an array of {checkpoint}")


def flip(file: Path) -> None:
    """One bit, in the middle."""
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


def truncate(file: Path) -> None:
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def empty(file: Path) -> None:
    file.write_bytes(b"")


def same_until(found: dict[int, str], expected: dict[int, str], step: int) -> bool:
    """Whether losses by step are bit for bit those expected, up to `step`."""
    return found == {s: loss for s, loss in expected.items() if s <= step}
