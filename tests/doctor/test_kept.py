import io

import numpy as np
import pytest
from rich.console import Console

from mlm.doctor.finding import Finding, print_findings
from mlm.doctor.kept import check_call, check_checkpoints, check_hashes, check_state
from mlm.doctor.text import check_padding, check_unknown
from mlm.errors import DataError


def refuse():
    raise DataError("store x is damaged")


def test_a_call_that_refuses_is_bad():
    assert check_call("store", lambda: None, "whole") == Finding("ok", "store", "whole")
    assert check_call("store", refuse, "whole") == Finding("bad", "store", "store x is damaged")


def test_a_state_with_a_number_that_is_none():
    leaves = {"params/a": np.ones(3), "opt_state/count": np.int32(4)}
    assert "4 numbers, all finite" in check_state(7, leaves).words
    finding = check_state(7, leaves | {"params/b": np.array([1.0, np.inf])})
    assert finding.verdict == "bad" and finding.words.startswith("params/b are not finite")


def test_hashes_of_evaluation_masks():
    hashes = {"token@0.15": "a" * 64}
    stored = {"token@0.15": {"mask_hash": "a" * 64}}
    assert check_hashes(stored, hashes, file="eval.json").verdict == "ok"
    assert check_hashes(None, hashes, file="eval.json").verdict == "ok"
    for other in ({"token@0.15": {"mask_hash": "b" * 64}}, {"word@0.3": {"mask_hash": "a" * 64}}):
        finding = check_hashes(stored | other, hashes, file="eval.json")
        assert finding.verdict == "bad" and next(iter(other)) in finding.words


def test_no_checkpoint_is_a_warning():
    assert check_checkpoints([]).verdict == "warning"
    assert "status.json says step 8, but none is there" in check_checkpoints([], lost=8).words
    assert check_checkpoints([4, 8]) == Finding("ok", "checkpoints", "steps 4, 8")


def test_much_padding_names_the_mode_that_fills_better():
    def useful():
        return {"packed": 0.9, "document": 0.4, "blocks": 0.8}

    assert check_padding(0.1, mode="document", useful=None).verdict == "ok"
    finding = check_padding(0.6, mode="document", useful=useful)
    assert finding.verdict == "warning" and "data.rows=packed fills better" in finding.words
    assert "shorter rows" in check_padding(0.6, mode="packed", useful=useful).words


def test_unknown_tokens():
    assert check_unknown(0.001, "").verdict == "ok"
    finding = check_unknown(0.02, "warning: 2.0% of the tokens are [UNK]")
    assert finding == Finding("warning", "[UNK]", "2.0% of the tokens are [UNK]")


@pytest.mark.parametrize(
    ("verdicts", "worst", "last"),
    [
        (["ok", "ok"], "ok", "2 ok: all is well"),
        (["ok", "warning"], "warning", "1 ok, 1 warning: nothing is bad"),
        (["bad", "warning", "ok"], "bad", "1 ok, 1 warning, 1 bad: not all is well"),
    ],
)
def test_findings_are_printed_a_line_each(verdicts, worst, last):
    stream = io.StringIO()
    findings = [Finding(verdict, "thing", "[MASK] words") for verdict in verdicts]
    assert print_findings(Console(file=stream, width=100), findings) == worst
    lines = stream.getvalue().splitlines()
    assert lines[0] == f"{verdicts[0]:<9}thing: [MASK] words" and lines[-1] == last
    coloured = io.StringIO()
    print_findings(Console(file=coloured, force_terminal=True), findings)
    assert "\x1b[" in coloured.getvalue() and "\x1b[" not in stream.getvalue()
