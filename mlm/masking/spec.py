"""What stays fixed while masks are drawn: ids, number of slots, and the rules for how many.

Nothing here needs jax, so a config can be checked before it is imported.
"""

import dataclasses
import math
import operator
from collections.abc import Iterable
from typing import Literal

import numpy as np

# rate * n in float32 may lie above the integer that it should be, and its ceiling one too high. For
# n up to 8192 it errs by less than this, and a rate of k/1000 leaves at least 0.001 otherwise.
COUNT_SLACK = 2.5e-4

Count = Literal["stochastic", "exact", "bernoulli"]
Fit = Literal["skip", "truncate"]
# Coins for units vary more than coins for tokens, by the mean length of the unit that a token is
# in: 2 for words, 6 for spans of words; this is held ready for.
UNIT_VARIANCE = 8


@dataclasses.dataclass(frozen=True)
class MaskingSpec:
    """Static, hashable settings of `mask_tokens`; the selection rate is not among them.

    Attributes:
      vocabulary_size: V; random replacements are drawn below it.
      mask_token_id: the id of [MASK].
      mask_selection_length: P, the number of mask slots per row: the only static size.
      unselectable_token_ids: ids that are never selected (any iterable; kept as a sorted tuple).
        The mask id is selectable unless listed, as in KerasHub's `MaskedLMMaskGenerator`.
      mask_token_rate, random_token_rate: default shares of the selected tokens that become [MASK]
        or a random id; the rest is kept (80/10/10: Devlin et al., arXiv:1810.04805).
      count: how many are selected of n selectable tokens at rate r.
        'exact': ceil(r * n), at least one (KerasHub's data-pipeline rule);
        'stochastic': floor(r * n) or one more, r * n on average (stochastic rounding);
        'bernoulli': a coin per token (RoBERTa in fairseq, Hugging Face's collator).
      overflow: 'error' refuses a rate that P cannot hold; 'drop' lets a random choice of P through
        and counts the rest, which is also what happens to traced rates.
      random_ids: 'selectable' draws replacements from ids that are neither unselectable nor the
        mask id; 'vocabulary' draws from all V ids, as KerasHub, BERT and the Hugging Face collator.
      fit: of units of several tokens: one that is longer than what is left of the row's n tokens is
        left out and the next tried ('skip', as BERT does), or cut ('truncate', as SpanBERT does).
      fate: whether [MASK], random or kept is decided per 'token' or per 'unit'.
      corruption_length: slots for corrupted tokens, where a prediction rate says that fewer are
        predicted; None: P.
    """

    vocabulary_size: int
    mask_token_id: int
    mask_selection_length: int
    unselectable_token_ids: Iterable[int] = (0,)
    mask_token_rate: float = 0.8
    random_token_rate: float = 0.1
    count: Count = "exact"
    overflow: Literal["error", "drop"] = "error"
    random_ids: Literal["selectable", "vocabulary"] = "selectable"
    fit: Fit = "skip"
    fate: Literal["token", "unit"] = "token"
    corruption_length: int | None = None

    def __post_init__(self):
        for name in ("vocabulary_size", "mask_token_id", "mask_selection_length"):
            object.__setattr__(self, name, as_integer(name, getattr(self, name)))
        ids = as_integers("unselectable_token_ids", self.unselectable_token_ids)
        object.__setattr__(self, "unselectable_token_ids", tuple(sorted(set(ids))))
        check_split(self.mask_token_rate, self.random_token_rate)
        for name in ("mask_token_rate", "random_token_rate"):
            object.__setattr__(self, name, float(getattr(self, name)))
        _check_choice("count", self.count, ("stochastic", "exact", "bernoulli"))
        _check_choice("overflow", self.overflow, ("error", "drop"))
        _check_choice("random_ids", self.random_ids, ("selectable", "vocabulary"))
        _check_choice("fit", self.fit, ("skip", "truncate"))
        _check_choice("fate", self.fate, ("token", "unit"))
        self._check_ids()
        self._check_slots()

    @property
    def corruption_slots(self) -> int:
        """How many tokens of a row can be corrupted."""
        return self.corruption_length or self.mask_selection_length

    def _check_slots(self) -> None:
        slots, corrupted = self.mask_selection_length, self.corruption_length
        if slots < 0:
            raise ValueError(
                f"mask_selection_length is {slots}; give the number of mask slots per row, 0 or "
                "more"
            )
        if corrupted is not None and as_integer("corruption_length", corrupted) < slots:
            raise ValueError(
                f"corruption_length {corrupted} is below mask_selection_length {slots}; what is "
                "predicted is a part of what is corrupted"
            )

    def _check_ids(self) -> None:
        size, ids = self.vocabulary_size, self.unselectable_token_ids
        if size < 1:
            raise ValueError(f"vocabulary_size is {size}; give the number of ids, 1 or more")
        if not 0 <= self.mask_token_id < size:
            raise ValueError(
                "Mask token id should be from 0 to vocabulary_size - 1, which is "
                f"{size - 1}; mask_token_id is {self.mask_token_id}"
            )
        for i in ids:
            if not 0 <= i < size:
                raise ValueError(
                    f"unselectable_token_ids holds {i}, outside the vocabulary of {size}; give ids "
                    "from 0 to vocabulary_size - 1"
                )
        if self.random_ids == "selectable" and len({*ids, self.mask_token_id}) == size:
            raise ValueError(
                f"no id of the vocabulary of {size} is left for random replacements; list fewer "
                "unselectable_token_ids"
            )

    @property
    def replacement_ids(self) -> np.ndarray:
        """`int32[R]`: the ids a random replacement is drawn from."""
        ids = np.arange(self.vocabulary_size, dtype=np.int32)
        if self.random_ids == "vocabulary":
            return ids
        return np.setdiff1d(ids, (*self.unselectable_token_ids, self.mask_token_id))


def required_slots(rate: float, length: int, count: Count, *, units: bool = False) -> int:
    """The P that holds what is selected from rows of up to `length` tokens at `rate`.

    `units` says that units of several tokens are selected, which matters to 'bernoulli' only.
    For 'exact' that is certain. A row may exceed it by one where rounding in float32 makes
    'stochastic' go up from an integer (about one row in a million), and in its six standard
    deviations for 'bernoulli' (one row in 10^8 at 0.15 of 128 tokens, more where few are expected).
    """
    if count == "bernoulli":
        spread = rate * length * (1 - rate) * (UNIT_VARIANCE if units else 1)
        bound = rate * length + 6 * math.sqrt(spread)
        return min(length, math.ceil(bound))
    at_least = int(count == "exact" and rate > 0)
    return min(length, max(at_least, math.ceil(rate * length - COUNT_SLACK)))


def check_rate(rate: float, name: str = "rate") -> None:
    """Raises ValueError unless `rate` is a number in [0, 1]; NaN is refused as well."""
    try:
        inside = not isinstance(rate, str) and 0 <= float(rate) <= 1
    except (TypeError, ValueError):
        inside = False
    if not inside:
        raise ValueError(f"{name} is {rate!r}; give a share between 0 and 1")


def check_split(mask_token_rate: float, random_token_rate: float) -> None:
    """Raises ValueError unless the two shares of the selected tokens lie in [0, 1] together."""
    check_rate(mask_token_rate, "mask_token_rate")
    check_rate(random_token_rate, "random_token_rate")
    if mask_token_rate + random_token_rate > 1 + 1e-6:
        raise ValueError(
            f"mask_token_rate {mask_token_rate} and random_token_rate {random_token_rate} add up "
            "to more than 1; the rest is the share of selected tokens that is kept"
        )


def as_integer(name: str, value: int) -> int:
    """`value` as a Python int; raises ValueError for floats and whatever else is no integer."""
    try:
        return operator.index(value)
    except TypeError:
        raise ValueError(f"{name} is {value!r}; give an integer") from None


def as_integers(name: str, values: Iterable[int]) -> list[int]:
    """The values as Python ints; raises ValueError unless they are several integers."""
    try:
        return [operator.index(value) for value in values]
    except TypeError:
        raise ValueError(f"{name} is {values!r}; give a list of integers") from None


def _check_choice(name: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise ValueError(f"{name} is {value!r}; choose one of {', '.join(choices)}")
