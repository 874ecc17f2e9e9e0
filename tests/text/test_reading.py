"""What counts as text in a record, and what is said or done about the rest."""

from collections import Counter

import pytest

from mlm.errors import DataError
from mlm.text.reading import Reading, clean_text, record_text

REPLACE = Reading(on_bad_bytes="replace")


def test_the_first_field_that_a_record_has():
    reading = Reading(field="text, good")
    assert record_text({"good": "g", "bad": "b"}, reading, Counter(), "a.jsonl line 1") == "g"
    assert record_text({"good": "g", "text": "t"}, reading, Counter(), "a.jsonl line 1") == "t"


@pytest.mark.parametrize("record", [{}, {"bad": "b"}, {"text": None}, {"text": ["a"]}, {"text": 3}])
def test_a_record_without_text(record):
    with pytest.raises(DataError, match="^a.jsonl line 7 has no text in the field 'text'"):
        record_text(record, Reading(), Counter(), "a.jsonl line 7")


def test_clean_text_is_the_same_text():
    counts = Counter()
    text = "é ж 中 \ufffd is not new"
    assert clean_text(text, REPLACE, counts, "here") is text and not counts


@pytest.mark.parametrize(
    ("text", "found"), [("a\0b", "a NUL character"), ("a\ud800b", "a lone surrogate")]
)
def test_what_is_not_text_is_told_or_replaced(text, found):
    with pytest.raises(DataError, match=f"^here holds {found}; .*data.on_bad_bytes=replace"):
        clean_text(text, Reading(), Counter(), "here")
    counts = Counter(replaced=2)
    assert clean_text(text + "\ufffd", REPLACE, counts, "here") == "a\ufffdb\ufffd"
    assert counts["replaced"] == 3
