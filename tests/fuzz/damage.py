"""Damage to valid files, as hypothesis strategies, and the promise that every reader keeps."""

import contextlib
import copy
import gzip
import json
import resource
import signal
from collections.abc import Callable, Iterator

import pytest
from hypothesis import strategies as st

from mlm.errors import MlmError

SECONDS = 20  # that one file may take: a hang, not a slow machine
GROWTH = 400 << 20  # bytes of memory that one small file may make a process grow by
SPACE = 4 << 30  # bytes of addresses that it may ask for beyond what is in use

# What stands in a field where something else belongs.
ODD = st.sampled_from(
    [None, True, False, 0, -1, 1, 2, 1.5, 1e308, 10**30, -(10**30), 2**31, 2**63, float("nan")]
    + ["", "0", "[MASK]", "../../x", "/etc/passwd", "a\0b", "\ud800", "é" * 300, "x" * 5000]
    + [[], {}, [None], [[]], {"": None}, [1, "a"], {"a": {"b": []}}, [[[[[[]]]]]], float("inf")]
)
DEEP = st.sampled_from(["[" * 100_000, '{"a":' * 50_000, "[" * 900 + "]" * 900, "1" * 6000])


@contextlib.contextmanager
def bounded() -> Iterator[None]:
    """Fails where the block hangs, or asks for memory without measure."""
    limits, before = resource.getrlimit(resource.RLIMIT_AS), _highest()
    handler = signal.signal(signal.SIGALRM, _hangs)
    signal.alarm(SECONDS)
    resource.setrlimit(resource.RLIMIT_AS, (_in_use() + SPACE, limits[1]))
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, handler)
        resource.setrlimit(resource.RLIMIT_AS, limits)
    assert _highest() - before < GROWTH, f"memory grew by {_highest() - before:,} bytes"


def reads_or_refuses(read: Callable[[], object], *, errors: type = MlmError) -> None:
    """The promise: a result, or an error that one can read, in bounded time and memory."""
    with bounded():
        try:
            read()
        except errors as error:
            assert str(error).strip() and "\n\n" not in str(error)


def _hangs(signum, frame):
    pytest.fail(f"no end after {SECONDS} s")  # no OSError, which a reader may take for its own


def _highest() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10


def _in_use() -> int:
    with open("/proc/self/statm") as file:
        return int(file.read().split()[0]) * resource.getpagesize()


@st.composite
def damaged(draw, whole: bytes) -> bytes:
    """The bytes of a file with some of them changed, left out, added, or moved."""
    content = bytearray(whole)
    for _ in range(draw(st.integers(1, 4))):
        # The first bytes of a file say how the rest is read, so they are hit more often.
        end = draw(st.sampled_from([16, 128, len(content), len(content)]))
        at = draw(st.integers(0, max(0, min(end, len(content)) - 1)))
        kind = draw(st.sampled_from(["flip", "set", "cut", "drop", "insert", "number", "repeat"]))
        if kind == "flip" and content:
            content[at] ^= 1 << draw(st.integers(0, 7))
        elif kind == "set" and content:
            content[at] = draw(st.sampled_from([0, 1, 0x7F, 0x80, 0xFF, 10, 34]))
        elif kind == "cut":
            del content[at:]
        elif kind == "drop":
            del content[at : at + draw(st.integers(1, 64))]
        elif kind == "insert":
            content[at:at] = draw(st.binary(max_size=16))
        elif kind == "number":  # a length or an offset, little-endian
            size = draw(st.sampled_from([2, 4, 8]))
            value = draw(st.sampled_from([0, 1, 2**15, 2**31, 2**40, 2**62, 2**64 - 1]))
            content[at : at + size] = (value % 2 ** (8 * size)).to_bytes(size, "little")
        else:
            content[at:at] = content[at : at + draw(st.integers(1, 256))]
    return bytes(content)


@st.composite
def damaged_json(draw, value: object) -> bytes:
    """A JSON file in which some values have become others, or which is torn."""
    value = copy.deepcopy(value)
    for _ in range(draw(st.integers(1, 3))):
        places = list(_places(value))
        if not places:
            break
        holder, key = draw(st.sampled_from(places))
        kind = draw(st.sampled_from(["odd", "odd", "odd", "drop", "add", "swap"]))
        if kind == "odd":
            holder[key] = copy.deepcopy(draw(ODD))
        elif kind == "drop":
            del holder[key]
        elif kind == "swap":
            holder[key] = copy.deepcopy(draw(st.sampled_from(places))[0])
        elif isinstance(holder, dict):
            holder[draw(st.text(max_size=8))] = copy.deepcopy(draw(ODD))
        else:
            holder.insert(0, copy.deepcopy(draw(ODD)))
    text = json.dumps(value)
    if draw(st.integers(0, 9)) == 0:
        return draw(DEEP).encode()
    return draw(damaged(text.encode())) if draw(st.integers(0, 4)) == 0 else text.encode()


def damaged_file(name: str, whole: bytes) -> st.SearchStrategy[bytes]:
    """Damage to a file, of JSON also to its values."""
    if not name.endswith(".json"):
        return damaged(whole)
    return st.one_of(damaged(whole), damaged_json(json.loads(whole)))


def _places(value: object) -> Iterator[tuple]:
    """(container, key) of every value in nested lists and dicts."""
    items = value.items() if isinstance(value, dict) else enumerate(value)
    for key, inner in list(items):
        yield value, key
        if isinstance(inner, (dict, list)):
            yield from _places(inner)


def bomb(size: int) -> bytes:
    """A small gzip file that unpacks to `size` bytes of one line."""
    return gzip.compress(b"a" * size)
