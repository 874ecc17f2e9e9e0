"""Parameters that training leaves as they are, chosen by patterns of their paths.

A frozen leaf takes no part in the gradient: none is computed for it, the gradient norm and clipping
do not count it, the optimizer keeps no moments for it, and weight decay does not reach it. So its
bits stay. Everything else about the step is the same; dropout stays on.

The path of a leaf is its names from the top: `backbone/layers/0/attention/query/kernel`. The word
embedding scores the vocabulary too, so `backbone/.*` leaves five leaves of the head to train.
"""

import difflib
import re
from collections.abc import Callable, Collection, Sequence

import jax

from mlm.errors import ConfigError

Params = dict


def frozen_paths(params: Params, patterns: Sequence[str]) -> frozenset[str]:
    """The paths that one of the regular expressions matches as a whole.

    Args:
      params: nested dict; its leaves are not looked at.
      patterns: such as `backbone/.*` or `.*/bias`.

    Raises:
      ConfigError: a pattern matches no path, or together they leave nothing to train.
    """
    paths = leaf_paths(params)
    by_pattern = {p: {path for path in paths if re.fullmatch(p, path)} for p in patterns}
    problems = [_no_match(p, paths) for p, found in by_pattern.items() if not found]
    if problems:
        raise ConfigError(*problems)
    frozen = frozenset().union(*by_pattern.values())
    if len(frozen) == len(paths):
        raise ConfigError(
            f"train.freeze {tuple(patterns)} leaves none of the {len(paths)} parameter arrays to "
            "train; freeze fewer, or measure the model as it is with eval.py"
        )
    return frozen


def leaf_paths(params: Params) -> list[str]:
    """The path of every leaf, in the order of `jax.tree.leaves`."""
    leaves = jax.tree_util.tree_leaves_with_path(params)
    return [jax.tree_util.keystr(path, simple=True, separator="/") for path, _ in leaves]


def split(params: Params, frozen: Collection[str]) -> tuple[Params, Params]:
    """`(trained, rest)`: the leaves outside and inside `frozen`, in nested dicts of their own."""
    return _select(params, lambda path: path not in frozen), _select(params, frozen.__contains__)


def merge(trained: Params, rest: Params) -> Params:
    """What `split` took apart."""
    both = trained.keys() & rest.keys()
    return {**trained, **rest, **{name: merge(trained[name], rest[name]) for name in both}}


def _select(params: Params, wanted: Callable[[str], bool], above: str = "") -> Params:
    chosen = {}
    for name, value in params.items():
        path = f"{above}{name}"
        if isinstance(value, dict):
            if inner := _select(value, wanted, f"{path}/"):
                chosen[name] = inner
        elif wanted(path):
            chosen[name] = value
    return chosen


def _no_match(pattern: str, paths: list[str]) -> str:
    close = difflib.get_close_matches(pattern, paths, n=10, cutoff=0.0)
    return (
        f"train.freeze has {pattern!r}, which matches none of the {len(paths)} parameter paths as "
        f"a whole ('NAME/.*' is all below NAME); close ones are {', '.join(close)}"
    )
