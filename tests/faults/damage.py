"""Harm done to a checkpoint on the disk, and what a run is to make of it."""

from pathlib import Path


def largest(checkpoint: Path) -> Path:
    """The file that holds most of the parameters."""
    return max((checkpoint / "params").rglob("d/*"), key=lambda file: file.stat().st_size)


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
