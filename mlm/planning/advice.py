"""What to change in a config whose step does not fit a chip's memory."""

from collections.abc import Iterator, Mapping

from ml_collections import ConfigDict

from mlm.mesh_rules import ROW_FIELDS

GIB = 2**30
MANY = 64  # devices that share a matrix, at most


def does_not_fit(
    config: ConfigDict,
    sizes: Mapping[str, int],
    *,
    needed: float,
    available: float,
    state: float,
    where: str,
) -> str:
    """One line: by how much, and which lines of the config help.

    Memory is what the state takes, which `mesh.fsdp` splits, and what the rows of a microbatch
    take, which is taken to be the rest and in proportion to them: a compiler may need more.

    Args:
      sizes: of the mesh.
      needed, available: bytes of a device.
      state: of `needed`, what the state takes.
      where: the machine.
    """
    over = needed - available
    lines = list(_ways_out(config, sizes, needed - state, state, available))
    return (
        f"the step needs {needed / GIB:.2f} GiB of a device of {where}, which has "
        f"{available / GIB:.2f}: {over / GIB:.2f} GiB too many, {state / GIB:.2f} of it the state; "
        f"try {', or '.join(lines)}"
    )


def _ways_out(config, sizes, rows_bytes, state, available) -> Iterator[str]:
    """Fields, those first that change nothing in what is learnt."""
    rows = config.train.batch_size
    for name in ROW_FIELDS:
        rows //= sizes[name]
    fsdp = _fsdp(sizes, rows_bytes, state, available)
    if fsdp:
        rest = sizes["data"] * sizes["fsdp"] // fsdp
        yield f"mesh.fsdp={fsdp}" + ("" if config.mesh.data == -1 else f" and mesh.data={rest}")
    if state >= available:
        if not fsdp:
            yield "a machine of more devices and a larger mesh.fsdp"
            yield "a smaller model.width or fewer model.layers"
        return
    free, each = available - state, rows_bytes / max(1, rows // config.train.accumulation)
    if config.train.remat != "layers":
        yield "train.remat='layers'"
    per = [n for n in _divisors(rows) if n > config.train.accumulation]
    enough = next((n for n in per if each * (rows // n) <= free), per[-1] if per else 0)
    if enough:
        yield f"train.accumulation={enough} or more"
    fitting = int(free // each) * config.train.accumulation
    if 0 < fitting < rows:
        yield f"train.batch_size={config.train.batch_size // rows * fitting} or less"
    yield f"a data.length below {config.data.length}"


def _fsdp(sizes: Mapping[str, int], rows_bytes: float, state: float, available: float) -> int:
    """Replicas that have to share each matrix for all to fit, or at least the state; 0: none do."""
    ways = [n for n in _divisors(sizes["data"]) if n > 1 and sizes["fsdp"] * n <= MANY]
    whole = (n for n in ways if rows_bytes + state / n <= available)
    state_alone = (n for n in ways if state / n < available <= state)
    n = next(whole, None) or next(state_alone, 0)
    return sizes["fsdp"] * n


def _divisors(n: int) -> list[int]:
    return [i for i in range(1, n + 1) if n % i == 0]
