"""Configs: loaded from a file, overridden by dotted fields, and checked, all without jax.

Every function that can find a problem returns or collects all of them, so that a user mends a
config in one go.
"""

import ast
import difflib
import importlib.util
import math
import sys
from collections.abc import Mapping
from pathlib import Path

from ml_collections import ConfigDict

from mlm.added_fields import add_missing
from mlm.errors import ConfigError

SUFFIXES = ("steps", "epochs", "examples", "percent")
OPEN_SECTIONS = ("optimizer.args",)  # their fields are the arguments of a library's function
OPTIONAL = (  # fields that may be None
    "masking.mask_selection_length",
    "masking.lowest_rate",
    "masking.prediction_rate",
    "masking.final_rate",
    "masking.final_mask_token_rate",
    "masking.final_random_token_rate",
    "log.peak_flops",
    "train.step_timeout_seconds",
)
# Fields of config.model that pretrained weights decide.
ARCHITECTURE = ("layers", "width", "heads", "hidden", "max_length", "epsilon", "head_epsilon")
LONGEST = 100  # characters of a value that an error shows
STANDARD_RATE = 0.15  # every run is evaluated at BERT's rate, so that runs can be compared


def load_config(path: str) -> ConfigDict:
    """The locked config that `get_config()` of the Python file at `path` returns, see `ADDED`."""
    file = Path(path)
    if not file.is_file():
        raise ConfigError(f"--config is {path}: no such file; configs/default.py is one to fork")
    # A config file may build on others of its project: `from configs import default`.
    for root in (str(file.resolve().parent.parent), str(Path.cwd())):
        if root not in sys.path:
            sys.path.insert(0, root)
    spec = importlib.util.spec_from_file_location(f"config_{file.stem}", file)
    module = importlib.util.module_from_spec(spec) if spec else None
    try:
        spec.loader.exec_module(module)
        config = module.get_config()
        if not isinstance(config, ConfigDict):
            raise TypeError(f"get_config() returned {type(config).__name__}")
        add_missing(config)
    except Exception as error:
        raise ConfigError(
            f"--config is {path}: {type(error).__name__}: {error}; it must be a Python file with a "
            "get_config() that returns a ConfigDict (--verbose shows where it failed)"
        ) from error
    return config.lock()


def apply_overrides(config: ConfigDict, overrides: Mapping[str, object]) -> None:
    """Sets dotted fields (`{'masking.rate': 0.3}`) in place; strings are read as Python literals.

    A duration may change its suffix: 'train.total_epochs' takes the place of 'train.total_steps'.

    Raises:
      ConfigError: with one line for every field that does not exist or has another type.
    """
    problems = []
    for name, value in overrides.items():
        try:
            _set(config, name, value)
        except ConfigError as error:
            problems += error.problems
    if problems:
        raise ConfigError(*problems)


def flat(config: ConfigDict) -> dict[str, object]:
    """All fields by dotted name."""
    fields = {}
    for name, value in config.items():
        if isinstance(value, ConfigDict) and value:
            fields |= {f"{name}.{rest}": leaf for rest, leaf in flat(value).items()}
        else:
            fields[name] = {} if isinstance(value, ConfigDict) else value
    return fields


def from_flat(fields: Mapping[str, object]) -> ConfigDict:
    """The locked config of which `flat` gave `fields`."""
    nested: dict = {}
    for name, value in fields.items():
        *path, leaf = name.split(".")
        section = nested
        for part in path:
            section = section.setdefault(part, {})
        section[leaf] = value
    return ConfigDict(nested).lock()


def with_architecture(config: ConfigDict, values: Mapping[str, object]) -> ConfigDict:
    """A copy whose `ARCHITECTURE` fields are those of pretrained weights."""
    copy = config.copy_and_resolve_references()
    copy.model.update({name: values[name] for name in ARCHITECTURE})
    return copy.lock()


def model_fields(config: ConfigDict) -> dict[str, object]:
    """The fields of `config.model` that say what a `mlm.models.DistilBertConfig` computes.

    How it is computed, `model.attention` and `train.remat`, belongs to the machine of a run.
    """
    not_sizes = ("init_from", "custom", "attention")
    return {name: value for name, value in config.model.items() if name not in not_sizes}


def duration(section: ConfigDict, stem: str, *, epoch: int, batch_size: int, total: int = 0) -> int:
    """Steps (at least one) that the field `stem`_steps, _epochs, _examples or _percent stands for.

    Args:
      section: where the field stands.
      stem: 'total', 'warmup' or 'every'.
      epoch: rows in one epoch.
      batch_size: rows per step.
      total: steps of the whole run, which percents refer to.
    """
    [(suffix, value)] = suffixes(section, stem).items()
    examples = {"steps": batch_size, "epochs": epoch, "examples": 1, "percent": 0}[suffix]
    steps = value / 100 * total if suffix == "percent" else value * examples / batch_size
    return max(1, math.ceil(steps - 1e-9))


def largest_rate(config: ConfigDict) -> float:
    """The highest selection rate of the run; that of a schedule of one's own only it knows."""
    masking = config.masking
    return masking.rate if masking.final_rate is None else max(masking.rate, masking.final_rate)


def mask_name(unit: str, rate: float) -> str:
    """How evaluations name masks, 'token@0.15'; 'own@0.15' for a unit that is 'module:function'."""
    return f"{'own' if ':' in unit else unit}@{rate:g}"


def read_mask_name(name: object) -> tuple[str, float]:
    """The unit and the rate of an entry of `eval.masks`; the rate is nan if it is no number."""
    unit, _, rate = str(name).rpartition("@")
    try:
        return unit, float(rate)
    except ValueError:
        return unit, math.nan


def evaluation_masks(config: ConfigDict) -> tuple[tuple[str, float], ...]:
    """Unit and rate of each kind of mask to evaluate on; the first decides the best checkpoint.

    Without `eval.masks`: tokens at 15 %, then the unit and the rate of training if they differ. Of
    a schedule that is `masking.rate`. The unit of one's own is 'own'.
    """
    if config.eval.masks:
        return tuple(read_mask_name(name) for name in config.eval.masks)
    masks = {mask_name("token", STANDARD_RATE): ("token", STANDARD_RATE)}
    unit, rate = config.masking.unit, config.masking.rate
    if rate > 0:
        masks.setdefault(mask_name(unit, rate), ("own" if ":" in unit else unit, rate))
    return tuple(masks.values())


def _set(config: ConfigDict, name: str, value: object) -> None:
    *path, leaf = name.split(".")
    section = config
    for part in path:
        section = section.get(part) if isinstance(section, ConfigDict) else None
    if not isinstance(section, ConfigDict):
        raise ConfigError(unknown_field(config, name))
    if isinstance(value, str) and not isinstance(section.get(leaf), str):
        value = _literal(value)
    if ".".join(path) in OPEN_SECTIONS:
        with section.unlocked(), section.ignore_type():
            section[leaf] = value
        return
    if leaf not in section:
        sibling = _sibling(section, leaf)
        if not sibling:
            raise ConfigError(unknown_field(config, name))
        with section.unlocked():
            del section[sibling]
            section[leaf] = float(value) if is_number(value) else value
        return
    section[leaf] = _typed(name, value, section.get_type(leaf), name in OPTIONAL)


def _typed(name: str, value: object, wanted: type, optional: bool) -> object:
    """`value` as the field's type; only an int may become a float, and None an optional field."""
    if is_number(value) and not is_finite(value) and isinstance(value, int):
        raise ConfigError(f"{name} is {shown(value)}; give a finite number")
    if wanted is float and is_number(value):
        return float(value)
    if wanted is tuple and isinstance(value, (str, list, tuple)):
        return (value,) if isinstance(value, str) else tuple(value)
    if type(value) is wanted or (value is None and optional):
        return value
    if wanted is str and not isinstance(value, (list, tuple)):
        return str(value)
    if wanted is ConfigDict:
        raise ConfigError(f"{name} has fields of its own; set one of them, as {name}.FIELD=VALUE")
    raise ConfigError(
        f"{name} is {shown(value)}, of type {type(value).__name__}; it needs {wanted.__name__}"
    )


def _sibling(section: ConfigDict, leaf: str) -> str | None:
    """The field whose place a duration with another suffix takes."""
    stem, _, suffix = leaf.rpartition("_")
    if suffix not in SUFFIXES:
        return None
    return next((f"{stem}_{s}" for s in SUFFIXES if f"{stem}_{s}" in section), None)


def suffixes(section: ConfigDict, stem: str) -> dict[str, float]:
    """The duration `stem` by its suffix; a sound config gives exactly one."""
    return {s: section[f"{stem}_{s}"] for s in SUFFIXES if f"{stem}_{s}" in section}


def unknown_field(config: ConfigDict, name: str) -> str:
    """What to say of a field that no config has, with the closest one that this config has."""
    known = [field for field in flat(config) if field != name]
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.6) or [
        field for field in known if field.split(".")[-1] == name.split(".")[-1]
    ]
    hint = f"did you mean {close[0]}?" if close else f"known are {', '.join(_sections(config))}"
    return f"config has no field {name}; {hint}"


def _sections(config: ConfigDict) -> list[str]:
    return [f"{n}.*" if isinstance(config[n], ConfigDict) else n for n in sorted(config)]


def _literal(text: str) -> object:
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError, RecursionError, MemoryError):  # the last of deep nesting
        words = {"true": True, "false": False, "none": None, "nan": math.nan, "inf": math.inf}
        return words.get(text.lower(), text)


def shown(value: object) -> str:
    """A value as an error may hold it: not of any length."""
    text = repr(value) if not isinstance(value, int) or abs(value) < 10**30 else "beyond 10**30"
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 3]}..."


def is_finite(value: int | float) -> bool:
    """Whether a number is one that a float can hold."""
    try:
        return math.isfinite(value)
    except OverflowError:
        return False


def is_number(value: object) -> bool:
    """Whether `value` is an int or a float; True and False are not."""
    return isinstance(value, (int, float)) and not isinstance(value, bool)
