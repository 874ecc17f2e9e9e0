"""What stays fixed while masks are drawn: ids, number of slots, and the rules for how many.

Nothing here needs jax, so a config can be checked before it is imported.
"""

import dataclasses
import math
import numbers
import operator
from collections.abc import Iterable
from typing import Literal

import numpy as np

# Undoes binary rounding: 0.15 * 100 is 15 masks, not 16, in float32 and in float64.
COUNT_SLACK = 2.5e-4

Count = Literal["stochastic", "exact", "bernoulli"]


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
        'stochastic': floor(r * n) or one more, r * n on average;
        'bernoulli': an independent coin per token.
      overflow: 'error' refuses a rate that P cannot hold; 'drop' lets a random choice of P through
        and counts the rest, which is also what happens to traced rates.
      random_ids: 'selectable' draws replacements from ids that are neither unselectable nor the
        mask id; 'vocabulary' draws from all V ids, as KerasHub, BERT and the Hugging Face collator.
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

    def __post_init__(self):
        for name in ("vocabulary_size", "mask_token_id", "mask_selection_length"):
            object.__setattr__(self, name, as_integer(name, getattr(self, name)))
        name = "unselectable_token_ids"
        ids = tuple(sorted({as_integer(name, i) for i in self.unselectable_token_ids}))
        object.__setattr__(self, name, ids)
        _check_choice("count", self.count, ("stochastic", "exact", "bernoulli"))
        _check_choice("overflow", self.overflow, ("error", "drop"))
        _check_choice("random_ids", self.random_ids, ("selectable", "vocabulary"))
        if self.mask_selection_length < 0:
            raise ValueError(
                f"mask_selection_length is {self.mask_selection_length}; give the number of mask "
                "slots per row, 0 or more"
            )
        if not 0 <= self.mask_token_id < self.vocabulary_size:
            raise ValueError(
                f"Mask token id should be from 0 to vocabulary_size - 1, which is "
                f"{self.vocabulary_size - 1}; mask_token_id is {self.mask_token_id}"
            )
        for i in ids:
            if not 0 <= i < self.vocabulary_size:
                raise ValueError(
                    f"unselectable_token_ids holds {i}, outside the vocabulary of "
                    f"{self.vocabulary_size}; give ids from 0 to vocabulary_size - 1"
                )
        check_split(self.mask_token_rate, self.random_token_rate)
        if self.random_ids == "selectable" and not self.replacement_ids.size:
            raise ValueError(
                f"no id of the vocabulary of {self.vocabulary_size} is left for random "
                "replacements; list fewer unselectable_token_ids or use random_ids='vocabulary'"
            )

    @property
    def replacement_ids(self) -> np.ndarray:
        """`int32[R]`: the ids a random replacement is drawn from."""
        ids = np.arange(self.vocabulary_size, dtype=np.int32)
        if self.random_ids == "vocabulary":
            return ids
        return np.setdiff1d(ids, (*self.unselectable_token_ids, self.mask_token_id))


def required_slots(rate: float, length: int, count: Count) -> int:
    """The P that holds every selection from rows of `length` tokens at `rate`.

    For 'bernoulli' that is six standard deviations above the mean (one row in 10^9 exceeds it).
    """
    if count == "bernoulli":
        bound = rate * length + 6 * math.sqrt(rate * length * (1 - rate))
        return min(length, math.ceil(bound))
    return min(length, math.ceil(rate * length - COUNT_SLACK))


def check_rate(rate: float, name: str = "rate") -> None:
    """Raises ValueError unless `rate` is a number in [0, 1]; NaN is refused as well."""
    if not isinstance(rate, numbers.Real) or not 0 <= rate <= 1:
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


def _check_choice(name: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise ValueError(f"{name} is {value!r}; choose one of {', '.join(choices)}")
