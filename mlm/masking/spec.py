"""What stays fixed while masks are drawn: ids, number of slots, and the rules for how many.

Nothing here needs jax, so a config can be checked before it is imported.
"""

import dataclasses
import math
from collections.abc import Iterable
from typing import Literal

import numpy as np

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
      overflow: 'error' refuses a Python rate that P cannot hold; 'drop' lets a random choice of P
        through and counts the rest, which is also what happens to traced rates.
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
        ids = tuple(sorted({int(i) for i in self.unselectable_token_ids}))
        object.__setattr__(self, "unselectable_token_ids", ids)
        _check_choice("count", self.count, ("stochastic", "exact", "bernoulli"))
        _check_choice("overflow", self.overflow, ("error", "drop"))
        _check_choice("random_ids", self.random_ids, ("selectable", "vocabulary"))
        if self.mask_selection_length < 0:
            raise ValueError(
                f"mask_selection_length is {self.mask_selection_length}; give the number of mask "
                "slots per row, 0 or more"
            )
        for name, i in [("mask_token_id", self.mask_token_id)] + [
            ("unselectable_token_ids", i) for i in ids
        ]:
            if not 0 <= i < self.vocabulary_size:
                raise ValueError(
                    f"{name} holds {i}, outside the vocabulary of {self.vocabulary_size}; "
                    "give ids from 0 to vocabulary_size - 1"
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
    # The slack undoes binary rounding: 0.15 * 100 is 15 masks, not 16.
    return min(length, math.ceil(rate * length - 2.5e-4))


def check_rate(rate: float, name: str = "rate") -> None:
    """Raises ValueError unless `rate` is a number in [0, 1]; NaN is refused as well."""
    if not 0 <= rate <= 1:
        raise ValueError(f"{name} is {rate}; give a share between 0 and 1")


def check_split(mask_token_rate: float, random_token_rate: float) -> None:
    """Raises ValueError unless the two shares of the selected tokens lie in [0, 1] together."""
    check_rate(mask_token_rate, "mask_token_rate")
    check_rate(random_token_rate, "random_token_rate")
    if mask_token_rate + random_token_rate > 1 + 1e-6:
        raise ValueError(
            f"mask_token_rate {mask_token_rate} and random_token_rate {random_token_rate} add up "
            "to more than 1; the rest is the share of selected tokens that is kept"
        )


def _check_choice(name: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise ValueError(f"{name} is {value!r}; choose one of {', '.join(choices)}")
