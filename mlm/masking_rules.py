"""What the section `masking` and `eval.masks` must satisfy; a part of `mlm.rules`, without jax.

Each check yields a line per problem and passes over values that another check refuses.
"""

import difflib
import math
import re
from collections.abc import Iterable, Sequence

from ml_collections import ConfigDict

from mlm.config import is_number, largest_rate, mask_name, read_mask_name
from mlm.masking import required_slots
from mlm.masking.schedules import SCHEDULES

BITMAPS = ("pmi", "external")  # units that stand beside the tokens, a bit for each
UNITS = ("token", "word", "span", "ngram", *BITMAPS)
ADAPTIVE = ("accuracy", "loss")  # weights that follow the model
WEIGHTS = ("uniform", "frequency", *ADAPTIVE)
FUNCTION = re.compile(r"[\w.]+:\w+")  # module:function
FINAL = ("final_rate", "final_mask_token_rate", "final_random_token_rate")
LONGEST_NGRAM = 10  # words, as of spans
SLACK = 1e-6  # of sums and multiples of rates


def _names(config: ConfigDict) -> Iterable[str]:
    masking = config.masking
    for field, known, other in (
        ("unit", UNITS, "or 'module:function'"),
        ("weights", WEIGHTS, "a table.npy or 'module:function'"),
        ("schedule", SCHEDULES, "or 'module:function'"),
    ):
        value = str(masking[field])
        is_table = field == "weights" and value.endswith(".npy")
        if value not in known and not is_table and not _is_own(value):
            yield f"masking.{field} is {value!r}; {choose(value, known)}, {other}"


def _units(config: ConfigDict) -> Iterable[str]:
    masking = config.masking
    if not is_number(masking.span_p) or not 0 < masking.span_p < 1:
        yield f"masking.span_p is {masking.span_p!r}; it must be above 0 and below 1"
    words = masking.ngram
    if (
        not isinstance(words, (tuple, list))
        or len(words) != 2
        or not all(_is_int(n) for n in words)
        or not 1 <= words[0] <= words[1] <= LONGEST_NGRAM
    ):
        yield (
            f"masking.ngram is {words!r}; give the shortest and the longest in words, from 1 to "
            f"{LONGEST_NGRAM}, such as (1, 3)"
        )
    for name in ("span_longest", "stages", "patterns", "pmi_count"):
        if not _is_int(masking[name]):
            yield f"masking.{name} is {masking[name]!r}; give an integer"
    evaluated = [read_mask_name(name)[0] for name in config.eval.masks]
    used = "external" in (masking.unit, *evaluated)
    if used and not masking.units:
        yield "masking.units is empty; name the folder that holds the bitmaps of unit 'external'"
    if masking.units and not used:
        yield (
            f"masking.units is {masking.units!r} and masking.unit {masking.unit!r}, which reads no "
            "bitmaps; choose masking.unit 'external' or leave units empty"
        )


def _weights(config: ConfigDict) -> Iterable[str]:
    masking = config.masking
    if masking.weights != "uniform" and masking.count == "bernoulli":
        yield (
            f"masking.weights is {masking.weights!r} and masking.count 'bernoulli', where each "
            "token has a coin and none is preferred; use count 'stochastic' or 'exact'"
        )
    if masking.weights in ADAPTIVE and masking.patterns:
        yield (
            f"masking.patterns is {masking.patterns} and masking.weights {masking.weights!r}, "
            "which follow the model: no pattern would come again; set patterns to 0"
        )


def _schedule(config: ConfigDict) -> Iterable[str]:
    masking = config.masking
    given = {name: masking[name] for name in FINAL if masking[name] is not None}
    shown = " and ".join(f"masking.{name} {value}" for name, value in given.items())
    own = _is_own(masking.schedule)
    if masking.rate == 0 and not masking.final_rate and not own:
        yield "masking.rate is 0, so that nothing would be predicted; give a share above 0"
    if given and masking.schedule == "constant":
        yield f"{shown} given with masking.schedule 'constant'; choose {', '.join(SCHEDULES[1:])}"
    if given and own:
        yield (
            f"{shown} given with masking.schedule {masking.schedule!r}, which itself says the rate "
            "of each step; leave the final values None"
        )
    if not given and masking.schedule in SCHEDULES[1:]:
        yield (
            f"masking.schedule is {masking.schedule!r} without a value to go to; give one of "
            f"masking.{', masking.'.join(FINAL)}"
        )
    if masking.schedule == "step" and is_number(masking.stages) and masking.stages == 1:
        yield "masking.stages is 1; 'step' needs 2 or more values to go through"
    for name, value in given.items():
        if not is_number(value) or not 0 <= value <= 1:
            yield f"masking.{name} is {value!r}; it must be between 0 and 1"


def _split(config: ConfigDict) -> Iterable[str]:
    """Both shares go their way alike, so their sum is largest at one of the ends."""
    ends = [[], []]
    for name in ("mask_token_rate", "random_token_rate"):
        value, final = config.masking[name], config.masking[f"final_{name}"]
        ends[0].append((name, value))
        ends[1].append((name, value) if final is None else (f"final_{name}", final))
    for end in dict.fromkeys(map(tuple, ends)):
        if all(is_number(value) for _, value in end) and sum(v for _, v in end) > 1 + SLACK:
            shares = " and ".join(f"masking.{name} {value}" for name, value in end)
            yield f"{shares} add up to more than 1; the rest is kept unchanged"


def _lowest(config: ConfigDict) -> Iterable[str]:
    lowest = config.masking.lowest_rate
    if lowest is None:
        return
    if not is_number(lowest) or not 0 <= lowest <= 1:
        yield f"masking.lowest_rate is {lowest!r}; it must be between 0 and 1"
    elif lowest > (smallest := _smallest_rate(config)):
        yield (
            f"masking.lowest_rate {lowest} is above the rate, {smallest} at its smallest; rows "
            "draw theirs from the one up to the other: lower it or raise the rate"
        )


def _prediction(config: ConfigDict) -> Iterable[str]:
    masking, wanted = config.masking, config.masking.prediction_rate
    if wanted is None or not is_number(masking.rate) or not 0 <= masking.rate <= 1:
        return
    if not is_number(wanted) or not 0 < wanted <= 1:
        yield f"masking.prediction_rate is {wanted!r}; it must be above 0 and at most 1"
        return
    lowest = masking.lowest_rate
    smallest = _smallest_rate(config) if lowest is None else lowest
    if wanted <= masking.rate + SLACK or _is_own(masking.schedule):
        if is_number(smallest) and wanted > smallest + SLACK:
            yield (
                f"masking.prediction_rate {wanted} is above the smallest rate, {smallest}, where "
                "fewer tokens are selected than it asks for; lower it, or leave it None to predict "
                "all that are selected"
            )
        return
    above = f"masking.prediction_rate {wanted} is above masking.rate {masking.rate}"
    if masking.count == "bernoulli":
        yield (
            f"{above}, which takes disjoint copies of a row, and masking.count is 'bernoulli', "
            "whose coins know no disjoint selections; use 'stochastic' or 'exact'"
        )
    if masking.schedule != "constant" or lowest is not None:
        what = "masking.lowest_rate" if lowest is not None else "masking.schedule"
        yield (
            f"{above}, which takes copies of a row, a fixed number of them, and {what} lets the "
            "rate move; give one or the other"
        )
    yield from _copies(above, wanted, masking.rate)


def _copies(above: str, wanted: float, rate: float) -> Iterable[str]:
    """m_pred above what disjoint copies allow (Wettig et al., arXiv:2202.08005)."""
    most = math.floor((1 + SLACK) / rate) if rate > 0 else 0
    if most < 2:
        yield f"{above}, which leaves no second copy of a row any tokens; lower one of them"
        return
    copies = min(max(round(wanted / rate), 2), most)
    if abs(copies * rate - wanted) > SLACK:
        yield (
            f"{above} and no whole multiple of it up to 1, as disjoint copies of a row need; the "
            f"nearest is {copies * rate:.6g}, of {copies} copies"
        )


def _slots(config: ConfigDict) -> Iterable[str]:
    slots, count, length = (
        config.masking.mask_selection_length,
        config.masking.count,
        config.data.length,
    )
    rates = (config.masking.rate, config.masking.final_rate)
    if slots is None or length < 1 or count not in ("stochastic", "exact", "bernoulli"):
        return
    if _is_own(config.masking.schedule) or not all(
        rate is None or is_number(rate) and 0 <= rate <= 1 for rate in rates
    ):
        return
    if slots > length:
        yield (
            f"masking.mask_selection_length {slots} is above data.length {length}, and no row has "
            "so many tokens to mask; lower it or leave it None"
        )
    rate = largest_rate(config)
    name = "rate" if rate == rates[0] else "final_rate"
    yield from too_few_slots(config, rate, name=f"masking.{name}")


def too_few_slots(config: ConfigDict, rate: float, *, name: str) -> Iterable[str]:
    """A line if the given P cannot hold the largest rate of the run, which `name` is or makes."""
    masking, length = config.masking, config.data.length
    if is_number(masking.prediction_rate) and masking.prediction_rate < rate:
        rate, name = masking.prediction_rate, "masking.prediction_rate"
    needed = required_slots(rate, length, masking.count, units=masking.unit != "token")
    if masking.mask_selection_length is not None and masking.mask_selection_length < needed:
        yield (
            f"masking.mask_selection_length {masking.mask_selection_length} is too small: "
            f"data.length {length} at {name} {rate:g} needs {needed}; raise it or leave it None"
        )


def _evaluation(config: ConfigDict) -> Iterable[str]:
    known = (*UNITS, "own") if _is_own(config.masking.unit) else UNITS
    seen = set()
    for entry in config.eval.masks:
        unit, rate = read_mask_name(entry)
        name = mask_name(unit, rate)
        if not 0 < rate <= 1 or not unit:
            yield (
                f"eval.masks has {entry!r}; write unit@rate with a rate above 0 and at most 1, "
                "such as 'word@0.3'"
            )
        elif unit not in known:
            yield f"eval.masks has {entry!r} of unknown unit {unit!r}; {choose(unit, known)}"
        elif name in seen:
            yield f"eval.masks has {name} twice; give it once"
        seen.add(name)
    if set(BITMAPS) <= {name.partition("@")[0] for name in seen}:
        yield (
            f"eval.masks {tuple(config.eval.masks)} has both 'pmi' and 'external', and a row holds "
            "the units of one; leave one of them out"
        )


def _smallest_rate(config: ConfigDict) -> float:
    """The lowest rate of the run; nan of a schedule of one's own, which only that knows."""
    if _is_own(config.masking.schedule):
        return math.nan
    rates = (config.masking.rate, config.masking.final_rate)
    return min((rate for rate in rates if is_number(rate)), default=math.nan)


def _is_own(name: object) -> bool:
    return bool(FUNCTION.fullmatch(str(name)))


def choose(value: str, known: Sequence[str]) -> str:
    """The way out of an unknown name: the closest one, and all there are."""
    close = difflib.get_close_matches(value, known, n=1)
    hint = f"did you mean {close[0]!r}? " if close else ""
    return f"{hint}choose one of {', '.join(known)}"


def _is_int(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


MASKING_CHECKS = (
    _names,
    _units,
    _weights,
    _schedule,
    _split,
    _lowest,
    _prediction,
    _slots,
    _evaluation,
)
