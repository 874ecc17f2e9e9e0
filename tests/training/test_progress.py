import importlib.util

from rich.console import Console

from mlm.training.progress import ProgressDisplay, can_animate


def test_a_quiet_display_prints_nothing(capsys):
    for quiet in (True, False):
        with ProgressDisplay(total=3, quiet=quiet) as display:
            display.say("a line")
            display.advance(1)
    assert capsys.readouterr().out == "a line\n"


def test_where_a_bar_can_move(monkeypatch):
    found = {"ipywidgets": object()}
    monkeypatch.setattr(importlib.util, "find_spec", found.get)
    assert can_animate(Console(force_terminal=True))
    assert not can_animate(Console(force_terminal=False, force_jupyter=False))
    assert can_animate(Console(force_jupyter=True))
    found.clear()
    assert not can_animate(Console(force_jupyter=True))
