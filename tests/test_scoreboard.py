"""docs/faults.md, from what pytest writes of fault tests."""

import sys

from conftest import ROOT

sys.path.insert(0, str(ROOT / "tests/faults"))

import scoreboard  # noqa: E402


def case(row, injection, promise, inside="", **figures):
    named = {"row": row, "injection": injection, "promise": promise, **figures}
    properties = "".join(f'<property name="{n}" value="{v}"/>' for n, v in named.items())
    return f"<testcase><properties>{properties}</properties>{inside}</testcase>"


def lines(tmp_path, *cases):
    (tmp_path / "faults.xml").write_text(f"<testsuite>{''.join(cases)}</testsuite>")
    page = scoreboard.page(scoreboard.read_rows([tmp_path / "faults.xml"]))
    return page, {int(x.split("|")[1]): x for x in page.splitlines() if x[:3].strip("| ").isdigit()}


def test_a_row_says_what_was_measured_and_the_most_of_it(tmp_path):
    page, rows = lines(
        tmp_path,
        case(1, "a kill", "bit for bit", seconds_to_stop=0.5, steps_lost=3),
        case(1, "a kill", "bit for bit", seconds_to_stop=1.25, steps_lost=2),
        "<testcase/>",
    )
    assert rows[1] == "| 1 | a kill | bit for bit | kept | 1.2 | 3 |"
    assert rows[2] == "| 2 |  |  | not run |  |  |" and len(rows) == 55
    assert "**1 of 55 kept, 0 broken, 54 not run.** Median time to stop 0.9 s." in page


def test_promises_of_a_row_are_numbered_as_its_faults_are(tmp_path):
    _, rows = lines(tmp_path, case(4, "early", "ends"), case(4, "late", "saves"))
    assert rows[4] == "| 4 | (1) early (2) late | (1) ends (2) saves | kept |  |  |"


def test_what_is_broken_or_was_not_run_shows(tmp_path):
    skipped = '<skipped message="needs root"/>'
    page, rows = lines(
        tmp_path,
        case(24, "full", "exit 7"),
        case(24, "full", "exit 7", skipped),
        case(50, "copied", "told", skipped),
        case(51, "torn", "passed over", "<failure/>"),
        case(51, "torn", "passed over"),
    )
    assert "| kept; 1 of its tests not run: needs root |" in rows[24]
    assert "| not run: needs root |" in rows[50] and "| **broken** |" in rows[51]
    assert "**1 of 55 kept, 1 broken, 53 not run.**" in page
