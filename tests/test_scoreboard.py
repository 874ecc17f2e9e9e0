"""docs/faults.md says of each row what was run, and no more."""

import importlib.util
from pathlib import Path

import pytest

FILE = Path(__file__).parent / "faults" / "scoreboard.py"
CASE = """<testcase><properties>
<property name="row" value="24"/><property name="injection" value="{name}"/>
<property name="promise" value="exit 7"/><property name="seconds_to_stop" value="0.5"/>
</properties>{outcome}</testcase>"""
SKIPPED = '<skipped message="no file system may be mounted here"/>'


@pytest.fixture(scope="module")
def scoreboard():
    spec = importlib.util.spec_from_file_location("scoreboard", FILE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    ("outcomes", "result"),
    [
        (["", ""], "kept"),
        (["", SKIPPED], "kept; 1 of its tests not run: no file system may be mounted here"),
        ([SKIPPED], "not run: no file system may be mounted here"),
        (["", SKIPPED, "<failure/>"], "**broken**"),
    ],
)
def test_what_is_said_of_a_row(scoreboard, tmp_path, outcomes, result):
    cases = (CASE.format(name=f"a{i}", outcome=found) for i, found in enumerate(outcomes))
    (tmp_path / "found.xml").write_text(f"<testsuite>{''.join(cases)}</testsuite>")
    rows = scoreboard.read_rows([tmp_path / "found.xml"])
    assert rows[24].result == result
    text, several = scoreboard.page(rows), len(outcomes) > 1
    injected = " ".join(f"({i + 1}) a{i}" for i in range(len(outcomes))) if several else "a0"
    promised = " ".join(f"({i + 1}) exit 7" for i in range(len(outcomes))) if several else "exit 7"
    assert f"| 24 | {injected} | {promised} | {result} | 0.5 |  |" in text
    kept, broken = result.startswith("kept"), result == "**broken**"
    assert f"**{kept:d} of 55 kept, {broken:d} broken, {55 - kept - broken} not run.**" in text
