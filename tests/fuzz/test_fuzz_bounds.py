"""What a reader is asked for fails where it is not kept, whatever the reader catches."""

import time

import damage
import pytest
from damage import reads_or_refuses

from mlm.errors import DataError


def test_a_hang_is_found_where_the_reader_catches_all_errors(monkeypatch):
    monkeypatch.setattr(damage, "SECONDS", 1)

    def read():
        try:
            time.sleep(10)
        except Exception as error:
            raise DataError("cannot be read") from error

    with pytest.raises(pytest.fail.Exception, match="no end after 1 s"):
        reads_or_refuses(read)


def refusing(error):
    def read():
        raise error

    return read


def test_only_an_error_of_ours_that_says_something_is_an_answer():
    reads_or_refuses(refusing(DataError("cannot be read")))
    with pytest.raises(ZeroDivisionError):
        reads_or_refuses(refusing(ZeroDivisionError()))
    with pytest.raises(AssertionError):
        reads_or_refuses(refusing(DataError("")))
