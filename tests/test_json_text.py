import pytest

from mlm.json_text import parse_json


def test_a_value():
    assert parse_json(b'{"a": [1, null]}') == parse_json('{"a": [1, null]}') == {"a": [1, None]}


@pytest.mark.parametrize("text", ["{", "[" * 100_000, b"\x80", "1" * 5000, ""])
def test_whatever_is_no_json_is_a_value_error(text):
    with pytest.raises(ValueError):
        parse_json(text)
