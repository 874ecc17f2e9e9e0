"""What a config must satisfy, as far as it can be known without text, devices or jax."""

import math
import re
from collections.abc import Iterable

from ml_collections import ConfigDict

from mlm.bucket import is_url
from mlm.config import (
    OPTIONAL,
    SUFFIXES,
    flat,
    is_finite,
    is_number,
    shown,
    suffixes,
    unknown_field,
)
from mlm.errors import ConfigError
from mlm.masking_rules import MASKING_CHECKS
from mlm.mesh_rules import MESH_CHECKS, MESH_FIELDS, tensor_problems
from mlm.type_rules import type_problems

POSITIVE = (
    "data.length data.vocabulary_size data.tokenizer_sample data.temperature "
    "data.curriculum_visits model.layers model.width model.heads model.hidden model.max_length "
    "model.epsilon model.head_epsilon optimizer.learning_rate train.batch_size "
    "train.accumulation train.max_nonfinite_in_a_row checkpoint.keep_last eval.length "
    "eval.batch_size eval.max_examples masking.span_longest masking.stages"
).split()
SECONDS = (
    "processes.init_timeout_seconds processes.heartbeat_timeout_seconds "
    "processes.shutdown_timeout_seconds"
).split()
LONGEST = 1_000_000  # seconds: sockets and jax take no limit of any size
NOT_NEGATIVE = (
    "data.overlap optimizer.clip_norm checkpoint.keep_best masking.pmi_count masking.patterns"
).split()
SEEDS = ("seed", "eval.seed")
SHARES = ("masking.rate", "masking.mask_token_rate", "masking.random_token_rate")
BELOW_ONE = ("model.dropout", "model.attention_dropout", "masking.weights_decay")
TEXTS = (
    "data.corpus",
    "data.source",
    "data.heldout_corpus",
    "data.field",
    "data.tokenizer",
    "data.store",
    "data.cache_dir",
    "masking.unit",
    "masking.weights",
    "masking.schedule",
    "masking.units",
    "model.init_from",
    "model.custom",
    "train.loss",
    "optimizer.name",
)
CHOICES = {
    "data.document": ("paragraph", "line", "file"),
    "data.on_bad_bytes": ("error", "replace"),
    "data.rows": ("packed", "blocks", "document"),
    "data.curriculum": ("none", "length", "rarity"),
    "masking.count": ("stochastic", "exact", "bernoulli"),
    "masking.fit": ("auto", "skip", "truncate"),
    "masking.random_ids": ("selectable", "vocabulary", "unigram"),
    "model.attention": ("auto", "einsum", "cudnn", "splash", "xla"),
    "model.dtype": ("float32", "bfloat16"),
    "optimizer.schedule": ("linear", "cosine", "constant"),
    "train.remat": ("none", "layers", "dots"),
}

REQUIRED = {*POSITIVE, *SECONDS, *NOT_NEGATIVE, *SEEDS, *SHARES, *BELOW_ONE, *TEXTS, *CHOICES}
REQUIRED |= {"data.heldout_fraction", "data.lowercase", "masking.select_unknown", "log.tensorboard"}
REQUIRED |= {"deterministic", "masking.mask_selection_length", "eval.fill", "data.drop_duplicates"}
REQUIRED |= {"data.shares", "data.new_tokens", "train.freeze", "masking.ngram", "eval.masks"}
REQUIRED |= {"train.skip_spikes"}
REQUIRED |= {f"masking.{name}" for name in ("span_p", "weights_alpha", "random_ids_alpha")}
REQUIRED |= {f"mesh.{name}" for name in MESH_FIELDS}
REQUIRED |= set(OPTIONAL)
DURATIONS = (
    ("train", "total"),
    ("optimizer", "warmup"),
    ("log", "every"),
    ("checkpoint", "every"),
    ("eval", "every"),
)
OTHER_FIELDS = re.compile(
    r"optimizer\.args(\..*)?|"
    + "|".join(rf"{s}\.{stem}_({'|'.join(SUFFIXES)})" for s, stem in DURATIONS)
)


def validate(config: ConfigDict) -> None:
    """Raises ConfigError with one line for every problem of the config."""
    names = set(flat(config))
    missing = sorted(REQUIRED - names)
    if missing:
        raise ConfigError(*(f"the config lacks {m}; see configs/default.py" for m in missing))
    numbers = (*POSITIVE, *SECONDS, *NOT_NEGATIVE, *SHARES, *BELOW_ONE, "data.heldout_fraction")
    wrong = list(type_problems(flat(config), texts=(*TEXTS, *CHOICES), numbers=numbers))
    if wrong:  # nothing else can be said of them
        raise ConfigError(*wrong)
    unknown = (n for n in sorted(names - REQUIRED) if not OTHER_FIELDS.fullmatch(n))
    problems = [unknown_field(config, name) for name in unknown]
    problems += [p for check in CHECKS for p in check(config)]
    if not config.model.init_from:  # what they are is only known when the weights are
        problems += _sizes(config)
    if problems:
        raise ConfigError(*problems)


def validate_sizes(config: ConfigDict) -> None:
    """Raises ConfigError if the config does not fit the sizes of its model, which are known now."""
    if problems := list(_sizes(config)):
        raise ConfigError(*problems)


def _numbers(config: ConfigDict) -> Iterable[str]:
    fields = flat(config)
    for name, value in fields.items():
        if is_number(value) and not is_finite(value):
            yield f"{name} is {shown(value)}; give a finite number"
    rules = [(POSITIVE, lambda v: v > 0, "above 0"), (NOT_NEGATIVE, lambda v: v >= 0, "0 or more")]
    rules += [(SECONDS, lambda v: 0 < v <= LONGEST, f"above 0 and at most {LONGEST}")]
    rules += [(SHARES, lambda v: 0 <= v <= 1, "between 0 and 1")]
    rules += [(BELOW_ONE, lambda v: 0 <= v < 1, "from 0 to below 1")]
    # jax.random.key keeps the lower 32 bits, so larger seeds would share them.
    rules += [(SEEDS, lambda v: 0 <= v < 2**32, "from 0 to 2**32 - 1")]
    rules += [(("data.heldout_fraction",), lambda v: 0 < v < 1, "above 0 and below 1")]
    for names, holds, rule in rules:
        for name in names:
            if not is_number(fields[name]) or not holds(fields[name]):
                yield f"{name} is {fields[name]!r}; it must be {rule}"


def _choices(config: ConfigDict) -> Iterable[str]:
    fields = flat(config)
    for name, choices in CHOICES.items():
        if fields[name] not in choices:
            yield f"{name} is {fields[name]!r}; choose one of {', '.join(choices)}"


def _durations(config: ConfigDict) -> Iterable[str]:
    for section, stem in DURATIONS:
        given = suffixes(config[section], stem)
        names = " and ".join(f"{section}.{stem}_{s}" for s in given)
        if len(given) != 1:
            yield (
                f"{section}.{stem} is given {len(given)} times ({names or 'not at all'}); write "
                f"exactly one of {', '.join(f'{stem}_{s}' for s in SUFFIXES)}"
            )
            continue
        [(suffix, value)] = given.items()
        if not is_number(value):
            yield f"{names} is {value!r}; give a number"
        elif value < 0 or (stem != "warmup" and value == 0):
            yield f"{names} is {value}; it must be above 0"
        elif suffix == "percent" and stem == "total":
            yield "train.total_percent has no meaning; use total_steps, _epochs or _examples"
        elif suffix == "percent" and value > 100:
            yield f"{names} is {value}; it must be at most 100"


def _sizes(config: ConfigDict) -> Iterable[str]:
    c = config
    way_out = "raise model.max_length"
    if c.model.init_from:
        way_out = f"start from other weights than {c.model.init_from}"
    if c.model.heads > 0 and c.model.width % c.model.heads:
        yield (
            f"model.heads {c.model.heads} does not divide model.width {c.model.width}; "
            "change one of them"
        )
    else:
        yield from tensor_problems(c, c.mesh.tensor)
    for name, length in (("data.length", c.data.length), ("eval.length", c.eval.length)):
        if length > c.model.max_length:
            yield (
                f"{name} {length} is above the position table, model.max_length "
                f"{c.model.max_length}; shorten the rows or {way_out}"
            )


def _relations(config: ConfigDict) -> Iterable[str]:
    c = config
    for name, length in (("data.length", c.data.length), ("eval.length", c.eval.length)):
        if length < 4:
            yield f"{name} is {length}; a row needs 4 tokens or more to hold [CLS], text and [SEP]"
    if c.train.accumulation > 0 and c.train.batch_size % c.train.accumulation:
        yield (
            f"train.batch_size {c.train.batch_size} is not divisible by train.accumulation "
            f"{c.train.accumulation}; change one of them"
        )
    for name, value in (("model.custom", c.model.custom), ("train.loss", c.train.loss)):
        if value and ":" not in str(value):
            yield f"{name} is {value!r}; write module:function, such as mine:make"
    if c.data.vocabulary_size < 16:
        yield f"data.vocabulary_size is {c.data.vocabulary_size}; it must be 16 or more"
    if is_url(c.data.cache_dir):
        yield f"data.cache_dir is {c.data.cache_dir!r}; give a folder of this machine"
    for text in c.eval.fill:
        if "[MASK]" not in str(text):
            yield f"eval.fill has {text!r}, without [MASK]; write [MASK] where a token is missing"


def _computing(config: ConfigDict) -> Iterable[str]:
    """What no machine can run; the rest is told when the devices are known."""
    model, name = config.model, config.model.attention
    if name in ("cudnn", "splash", "xla") and model.attention_dropout:
        yield (
            f"model.attention {name!r} has no dropout and model.attention_dropout is "
            f"{model.attention_dropout}; make it 0, or choose 'auto' or 'einsum'"
        )
    if name == "cudnn" and model.dtype != "bfloat16":
        yield (
            f"model.attention 'cudnn' takes bfloat16 and model.dtype is {model.dtype!r}; change "
            "one of them"
        )
    if name == "cudnn" and config.deterministic:
        yield (
            "model.attention 'cudnn' adds up gradients in no fixed order and deterministic is "
            "True; choose 'auto' or 'einsum'"
        )
    seconds = config.train.step_timeout_seconds
    if seconds is not None and not 0 < seconds <= LONGEST:
        yield f"train.step_timeout_seconds is {seconds}; it must be above 0 and at most {LONGEST}"
    peak = config.log.peak_flops
    if peak is not None and peak <= 0:
        yield f"log.peak_flops is {peak}; give operations per second, such as 989e12"


def _pretrained(config: ConfigDict) -> Iterable[str]:
    if config.model.init_from and config.model.custom:
        yield (
            f"model.init_from {config.model.init_from} has weights of a DistilBERT, which "
            f"model.custom {config.model.custom} is not; leave one of them empty"
        )
    for pattern in config.train.freeze:
        try:
            re.compile(pattern)
        except (re.error, TypeError) as error:
            yield f"train.freeze has {pattern!r}, which is no regular expression ({error}); mend it"
    tokens = config.data.new_tokens
    for token in tokens:
        if not isinstance(token, str):
            yield f"data.new_tokens has {token!r}; give words between quotes"
    if tokens and not config.data.tokenizer and not config.model.init_from:
        yield (
            f"data.new_tokens has {len(tokens)} words and no vocabulary that they are new to; name "
            "data.tokenizer or model.init_from, or raise data.vocabulary_size instead"
        )


def _mixture(config: ConfigDict) -> Iterable[str]:
    data = config.data
    listed = isinstance(data.shares, (tuple, list))
    if not listed or not all(is_number(s) and 0 <= s < math.inf for s in data.shares):
        yield f"data.shares is {data.shares}; give numbers, 0 or more, such as (0.7, 0.3)"
        return
    sources = [data.source] if data.source else [n for n in data.corpus.split(",") if n.strip()]
    if data.shares and sum(data.shares) == 0:
        yield f"data.shares is {data.shares}; one of them must be above 0"
    if data.shares and not data.store and len(data.shares) != len(sources):
        yield (
            f"data.shares has {len(data.shares)} numbers for {len(sources)} sources, "
            f"{', '.join(sources)}; give one for each"
        )
    if data.shares and data.temperature != 1.0:
        yield (
            f"data.shares {data.shares} and data.temperature {data.temperature} both say how "
            "sources are mixed; give one of them"
        )
    if data.overlap and data.rows == "blocks":
        yield f"data.overlap is {data.overlap}, and 'blocks' have no pieces; use 'packed' rows"
    elif data.overlap > max(0, data.length - 3):
        yield (
            f"data.overlap is {data.overlap}; a piece in rows of {data.length} has "
            f"{data.length - 2} tokens, so it must be below that"
        )


CHECKS = (_numbers, _choices, _durations, _relations, _computing, _pretrained, _mixture)
CHECKS += MASKING_CHECKS + MESH_CHECKS
