"""What must be the same in all processes of a run: the code, and what it runs on."""

import hashlib
import platform
import re
import sys
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path

PACKAGES = ("jax", "jaxlib", "flax", "optax", "numpy")  # what computes
FUNCTION = re.compile(r"([A-Za-z_][\w.]*):[A-Za-z_]\w*")  # of the user, as `mlm.own` takes it


def versions(fields: Mapping[str, object]) -> dict[str, str]:
    """Versions and digests by name.

    Args:
      fields: of a config; what they name as `module:function` counts by the module's file, which is
        not imported: it may use jax, and jax has not joined the other processes yet.
    """
    names = {m[1] for value in fields.values() if (m := FUNCTION.fullmatch(str(value)))}
    files = {name: _file_of(name) for name in sorted(names)}
    return {
        "code of mlm": _digest(sorted(Path(__file__).parent.rglob("*.py"))),
        "python": platform.python_version(),
        **{name: version(name) for name in PACKAGES},
        **{f"code of {name}": _digest([file]) for name, file in files.items() if file},
    }


def _file_of(module: str) -> Path | None:
    """Where a module of the user's lies, if it is a file of Python."""
    place = Path(*module.split("."))
    ends = place.with_suffix(".py"), place / "__init__.py"
    folders = [Path.cwd(), *map(Path, sys.path)]
    return next((f / end for f in folders for end in ends if (f / end).is_file()), None)


def _digest(files: list[Path]) -> str:
    total = hashlib.sha256()
    for file in files:
        total.update(f"{file.name}\n".encode() + file.read_bytes())
    return total.hexdigest()[:12]
