"""Rows of segments are filled and truncated by their rule, to the token."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlm.errors import DataError
from mlm.text import SpecialTokens, pack_segments
from mlm.text.segments import round_robin, waterfall

SPECIAL = SpecialTokens(pad=0, unk=1, cls=2, sep=3, mask=4)
LENGTHS = st.lists(st.integers(0, 12), min_size=1, max_size=4)


def pack(*segments, length, truncate="round_robin"):
    return pack_segments(segments, special=SPECIAL, length=length, truncate=truncate)


def one_by_one(lengths, room):
    """Round robin as it is told: tokens are dealt in turn, one at a time."""
    taken = [0] * len(lengths)
    while room and taken != list(lengths):
        for i, n in enumerate(lengths):
            if taken[i] < n and room:
                taken[i] += 1
                room -= 1
    return taken


@given(LENGTHS, st.integers(0, 40))
def test_round_robin_deals_one_token_at_a_time(lengths, room):
    assert round_robin(lengths, room) == one_by_one(lengths, room)


@given(LENGTHS, st.integers(0, 40))
def test_waterfall_leaves_what_was_first(lengths, room):
    kept = waterfall(lengths, room)
    flat = [(i, k) for i, n in enumerate(lengths) for k in range(n)][:room]
    assert kept == [sum(i == segment for segment, _ in flat) for i in range(len(lengths))]


def test_rows_that_fit_are_framed_and_padded():
    packed = pack([[5, 6], []], [[7], [8]], length=7)
    assert packed["token_ids"].tolist() == [[2, 5, 6, 3, 7, 3, 0], [2, 3, 8, 3, 0, 0, 0]]
    assert packed["padding_mask"].tolist() == [[True] * 6 + [False], [True] * 4 + [False] * 3]
    assert packed["token_ids"].dtype == np.int32 and packed["padding_mask"].dtype == bool


def test_long_rows_are_truncated_by_either_rule():
    first, second = [[5] * 9], [[7] * 9]
    assert pack(first, second, length=8)["token_ids"].tolist() == [[2, 5, 5, 5, 3, 7, 7, 3]]
    filled = pack(first, second, length=8, truncate="waterfall")
    assert filled["token_ids"].tolist() == [[2, 5, 5, 5, 5, 5, 3, 3]]
    assert pack(first, length=4)["token_ids"].tolist() == [[2, 5, 5, 3]]


def test_no_rows():
    assert pack([], length=4)["token_ids"].shape == (0, 4)


@pytest.mark.parametrize(
    ("segments", "settings", "complaint"),
    [
        ([[[5]]], {"length": 4, "truncate": "left"}, "truncate='left' must be"),
        ([[[5]], [[6]]], {"length": 2}, r"length=2 do not hold \[CLS\] and 2 \[SEP\]; use 3 or"),
        ([], {"length": 4}, "no segment"),
        ([[[5]], [[6], [7]]], {"length": 4}, r"have \[1, 2\] rows"),
    ],
)
def test_what_cannot_be_packed(segments, settings, complaint):
    with pytest.raises(DataError, match=complaint):
        pack(*segments, **settings)
