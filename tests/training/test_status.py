"""status.json, and what it says of checkpoints that are lost."""

import pytest

from mlm.training.status import step_without_checkpoint, warn_of_lost, write_status


@pytest.mark.parametrize("state", ["running", "stopped", "complete", "non-finite"])
def test_a_step_that_is_not_there(tmp_path, state, capsys):
    assert step_without_checkpoint(tmp_path) == 0  # a new run
    write_status(tmp_path, state, 20, 30)
    assert step_without_checkpoint(tmp_path) == (0 if state == "non-finite" else 20)
    warn_of_lost(tmp_path)
    told = capsys.readouterr().err
    assert told.startswith("warning: status.json says step 20") == (state != "non-finite")
    (tmp_path / "checkpoints/10/params").mkdir(parents=True)
    assert step_without_checkpoint(tmp_path) == 0
    (tmp_path / "status.json").write_text("[")
    assert step_without_checkpoint(tmp_path) == 0
