"""What is said beside the error of a checkpoint that cannot be read."""

import sys

from mlm.training.damage import first_line, hush


def test_threads_that_come_too_late_say_nothing_and_others_do(monkeypatch):
    told = []
    monkeypatch.setattr(sys, "excepthook", lambda *args: told.append(str(args[1])))
    monkeypatch.setattr(sys, "unraisablehook", lambda found: told.append(str(found)))
    hush.__wrapped__()
    for words in ("Event loop is closed", "something else"):
        sys.excepthook(RuntimeError, RuntimeError(words), None)
    assert told == ["something else"]


def test_the_cause_of_an_error_is_told_and_not_its_long_path():
    path = "/folder" * 40
    full = f'RESOURCE_EXHAUSTED: Error writing local file "{path}": No space left on device [x=y]'
    assert first_line(ValueError(full)) == "No space left on device"
    assert first_line(ValueError("one\ntwo")) == "ValueError: one"
    assert first_line(ValueError(path)) == f"ValueError: {path[:120]}"
    assert first_line(KeyError()) == "KeyError: no message"
