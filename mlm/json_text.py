"""JSON as it comes from outside: what Python cannot parse is a ValueError, whatever it is."""

import json


def parse_json(text: str | bytes) -> object:
    """The value of a JSON text.

    Raises:
      ValueError: it is no JSON or no UTF-8, or nested deeper than Python's stack allows.
    """
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("nested too deeply") from None
