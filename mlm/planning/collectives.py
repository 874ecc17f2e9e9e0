"""What a compiled step sends between devices, read from its optimised HLO.

Counted is what one device does in one step. A collective in the body of a loop counts as often as
the loop runs, if that can be read; one in a branch as if the branch were always taken. The parts
into which TPUs cut a collective to compute meanwhile, in fusions with one channel, count as one.

Sent are the fewest bytes with which a device can do its part, those of a ring (Thakur et al. 2005,
doi:10.1177/1094342005051521); G devices, and n bytes of the whole:

    all-reduce                              2 n (G - 1) / G
    all-gather, reduce-scatter, all-to-all    n (G - 1) / G
    collective-permute, send to a slice       n
"""

import collections
import functools
import math
import re
from collections.abc import Iterator
from typing import NamedTuple

KINDS = (
    "all-reduce",
    "all-gather",
    "reduce-scatter",
    "all-to-all",
    "ragged-all-to-all",
    "collective-permute",
    "collective-broadcast",
)
SLICES = "send to slices"  # over the network, as libtpu compiles what crosses slices
BITS = {"pred": 8, "token": 0, "c64": 64, "c128": 128}  # others end with their number of bits

COMPUTATION = re.compile(r"^(?:ENTRY )?%?([\w.\-]+) \(.*\{$")
INSTRUCTION = re.compile(r"^\s+(?:ROOT )?%?[\w.\-]+ = (.*)$")
ARRAY = re.compile(r"\b([a-z]+\d*\w*)\[([\d,]*)\]")
CALLED = re.compile(r"(calls|to_apply|body|condition|\w+_computations?)=(\{[^}]*\}|%?[\w.\-]+)")
TRIPS = re.compile(r"known_trip_count\D{1,12}(\d+)")
CONSTANT = re.compile(r"%?([\w.\-]+) = s(?:32|64)\[\]\S* constant\((\d+)\)")
BELOW = re.compile(r"ROOT .* compare\([^,]*, (?:\S+ )?%?([\w.\-]+)\), direction=LT")


class Collective(NamedTuple):
    """Collectives of one kind among equally many devices, in one step of one device.

    Attributes:
      kind: one of KINDS, or SLICES.
      devices: that take part in each; 0: that cannot be told, as of a permutation.
      count: how often.
      payload: bytes of the whole array, of all of them.
      sent: bytes that a device must send at least.
      unbounded: of `count`, those in loops of which it cannot be read how often they run; each is
        counted once.
    """

    kind: str
    devices: int
    count: int
    payload: int
    sent: float
    unbounded: int = 0


class _Call(NamedTuple):
    computation: str
    times: int
    known: bool


class _Computation(NamedTuple):
    found: list[tuple[str | None, Collective]]  # with the channel
    calls: list[_Call]
    fused: set[str]  # of those that it calls


def read_collectives(text: str, devices: int) -> list[Collective]:
    """The collectives of an HLO module's step, by kind and number of devices.

    Args:
      text: `compiled.as_text()`.
      devices: of the whole mesh.
    """
    lines = _computations(text)
    entry = next((n for n, (first, _) in lines.items() if first.startswith("ENTRY")), None)
    parsed = {name: _parse(body, lines, devices) for name, (_, body) in lines.items()}
    fused = set().union(*(c.fused for c in parsed.values())) if parsed else set()

    totals: dict[tuple[str, int], Collective] = {}
    channels = set()
    for name, times, known in _visits(entry, parsed):
        for channel, one in parsed[name].found:
            if name in fused and channel is not None:
                if (one.kind, channel) in channels:
                    continue
                channels.add((one.kind, channel))
            key = one.kind, one.devices
            old = totals.get(key, Collective(*key, 0, 0, 0.0))
            totals[key] = old._replace(
                count=old.count + times,
                payload=old.payload + times * one.payload,
                sent=old.sent + times * one.sent,
                unbounded=old.unbounded + (0 if known else times),
            )
    return sorted(totals.values(), key=lambda c: -c.sent)


def _computations(text: str) -> dict[str, tuple[str, list[str]]]:
    """The head and the lines of every computation, by name."""
    found: dict[str, tuple[str, list[str]]] = {}
    body = None
    for line in text.splitlines():
        if head := COMPUTATION.match(line):
            body = []
            found[head[1]] = (line, body)
        elif line.startswith("}"):
            body = None
        elif body is not None:
            body.append(line)
    return found


def _parse(body: list[str], lines, devices: int) -> _Computation:
    found, calls, fused = [], [], set()
    for line in body:
        instruction = INSTRUCTION.match(line)
        if instruction is None:
            continue
        shape, opcode, rest = _split(instruction[1])
        if one := _collective(shape, opcode, rest, devices):
            channel = re.search(r"channel_id=(\d+)", rest)
            found.append((channel and channel[1], one))
        called = {key: re.findall(r"[\w.\-]+", names) for key, names in CALLED.findall(rest)}
        for key, names in called.items():
            trips = 1
            if key == "body":
                trips = _trips(rest, lines[called["condition"][0]][1])
            calls += [_Call(name, trips or 1, trips is not None) for name in names if name in lines]
            if opcode == "fusion":
                fused.update(names)
    return _Computation(found, calls, fused)


def _split(text: str) -> tuple[str, str, str]:
    """Shape, opcode and the rest of an instruction; a tuple's shape has brackets in it."""
    end, depth = 0, 0
    for end, sign in enumerate(text):  # noqa: B007
        depth += (sign in "({[") - (sign in ")}]")
        if sign == " " and not depth:
            break
    opcode, _, rest = text[end + 1 :].partition("(")
    return text[:end], opcode, rest


def _collective(shape: str, opcode: str, rest: str, devices: int) -> Collective | None:
    if opcode == "send" and "is_host_transfer=true" in rest:
        size = _bytes(shape.split(", u32[]")[0])
        return Collective(SLICES, 0, 1, size, size)
    kind = opcode.removesuffix("-start")
    if kind not in KINDS:
        return None
    if opcode.endswith("-start") and kind in ("all-gather", "collective-permute"):
        shape = _result(shape)
    size, group = _bytes(shape), _group(rest, devices)
    if kind == "reduce-scatter":  # its result is a part of the whole
        size *= group
    if kind in ("collective-permute", "collective-broadcast", "ragged-all-to-all"):
        return Collective(kind, 0, 1, size, size)
    share = (group - 1) / group * (2 if kind == "all-reduce" else 1)
    return Collective(kind, group, 1, size, size * share)


def _result(shape: str) -> str:
    """Of `(operands, results, ...)`, what an asynchronous collective begins with, the results."""
    parts, depth = [""], 0
    for sign in shape[1:-1]:
        depth += (sign in "({[") - (sign in ")}]")
        if sign == "," and not depth:
            parts.append("")
        else:
            parts[-1] += sign
    return parts[1]


def _bytes(shape: str) -> int:
    return sum(
        math.prod(int(n) for n in sizes.split(",") if n) * _bits(dtype) // 8
        for dtype, sizes in ARRAY.findall(shape)
    )


def _bits(dtype: str) -> int:
    number = re.match(r"[a-z]+(\d+)", dtype)  # f8e4m3fn has 8
    return BITS[dtype] if dtype in BITS else int(number[1])


def _group(rest: str, devices: int) -> int:
    """How many devices take part: `{{0,1},{2,3}}`, `[2,2]<=[4]` and `mesh['x'=2,'y'=2] {'y'}`."""
    if given := re.search(r"replica_groups=\{\{([\d,]*)\}", rest):
        return given[1].count(",") + 1
    if given := re.search(r"replica_groups=\[[\d,]*?(\d+)\]<=", rest):
        return int(given[1])
    if given := re.search(r"replica_groups=@?mesh\[([^\]]*)\][^{]*\{([^}]*)\}", rest):
        sizes = dict(re.findall(r"'([^']+)'=(\d+)", given[1]))
        used = re.findall(r"'([^']+)'(?::\(\d+\)(\d+))?", given[2])  # a part of an axis, 'x':(1)2
        return math.prod(int(part or sizes[name]) for name, part in used)
    return devices


def _trips(rest: str, condition: list[str]) -> int | None:
    """How often a loop runs: as the compiler says, or up to the constant that it counts to."""
    if known := TRIPS.search(rest):
        return int(known[1])
    constants = dict(found.groups() for line in condition if (found := CONSTANT.search(line)))
    limit = next((found[1] for line in condition if (found := BELOW.search(line))), None)
    return int(constants[limit]) if limit in constants else None


def _visits(entry: str | None, parsed: dict[str, _Computation]) -> Iterator[tuple[str, int, bool]]:
    """Every computation with how often a step runs it, and whether that is known."""

    @functools.cache
    def below(name: str) -> bool:
        """Whether there is a collective in it, or in what it calls."""
        return bool(parsed[name].found) or any(below(c.computation) for c in parsed[name].calls)

    pending = collections.deque([(entry, 1, True)] if entry else [])
    while pending:
        name, times, known = pending.popleft()
        yield name, times, known
        for call in parsed[name].calls:
            if below(call.computation):
                pending.append((call.computation, times * call.times, known and call.known))
