"""What is said beside the error of a checkpoint that cannot be read."""

import sys

from mlm.training.damage import hush


def test_threads_that_come_too_late_say_nothing_and_others_do(monkeypatch):
    told = []
    monkeypatch.setattr(sys, "excepthook", lambda *args: told.append(str(args[1])))
    monkeypatch.setattr(sys, "unraisablehook", lambda found: told.append(str(found)))
    hush.__wrapped__()
    for words in ("Event loop is closed", "something else"):
        sys.excepthook(RuntimeError, RuntimeError(words), None)
    assert told == ["something else"]
