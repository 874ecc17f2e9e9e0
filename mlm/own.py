"""Functions of the user, named in a config as `module:function`."""

import importlib
import sys
from collections.abc import Callable
from pathlib import Path

from mlm.errors import ConfigError


def load_function(field: str, name: str) -> Callable:
    """The function that `module:function` names.

    Modules are found as Python finds them, and in the current folder.

    Args:
      field: of the config, for errors.
      name: what stands there.

    Raises:
      ConfigError: there is no such function.
    """
    module_name, _, function_name = name.partition(":")
    if not module_name or not function_name:
        raise ConfigError(f"{field} is {name!r}; write module:function, such as mine:documents")
    if str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))
    try:
        function = getattr(importlib.import_module(module_name), function_name)
        if not callable(function):
            raise TypeError(f"{function_name} is {type(function).__name__}")
        return function
    except (Exception, SystemExit) as error:  # whatever a module does when it is imported
        raise ConfigError(
            f"{field} is {name!r}: {reason(error)}; name a function of a module that can be "
            "imported here"
        ) from error


def kind_of(value: object) -> str:
    """What a function gave, in a word: `float32[2, 3]` of an array or its shape, else its type."""
    return f"{value.dtype}{list(value.shape)}" if is_array(value) else type(value).__name__


def is_array(value: object) -> bool:
    """Whether a value has a shape and a dtype."""
    return hasattr(value, "shape") and hasattr(value, "dtype")


def reason(error: BaseException) -> str:
    """An error's type and message in one line."""
    return f"{type(error).__name__}: {' '.join(str(error).split())}"
