"""Exports that are imported when they are first used (PEP 562).

`import mlm` must not import jax: a misspelt config field is reported in a fraction of a second, and
the process that starts a sweep never needs a device.
"""

import importlib
from collections.abc import Callable


def lazy_exports(package: str, modules: dict[str, str]) -> Callable[[str], object]:
    """A module-level `__getattr__` for `package`; `modules` says which module holds each name."""

    def __getattr__(name: str) -> object:
        if name not in modules:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        return getattr(importlib.import_module(f"{package}.{modules[name]}"), name)

    return __getattr__
