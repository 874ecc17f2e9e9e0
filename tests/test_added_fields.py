"""Configs and runs from before a field was there."""

import json

import pytest

from configs import default
from mlm.added_fields import ADDED, add_missing, with_added
from mlm.config import apply_overrides, flat, from_flat, load_config
from mlm.errors import ConfigError
from mlm.rules import validate
from mlm.stored_config import stored_config
from mlm.training.workdir import check_config, write_json


def old_fields() -> dict:
    """The fields of the first configs."""
    return {n: v for n, v in flat(default.get_config()).items() if n not in ADDED}


NEW_DEFAULTS = {
    "model.attention": "auto",
    "train.max_nonfinite_in_a_row": 5,
}  # that are not what was before the field


def test_added_fields_are_fields_of_today_and_off():
    fields = flat(default.get_config())
    assert {name: fields[name] for name in ADDED} == ADDED | NEW_DEFAULTS


def test_a_forked_config_file_trains_as_it_did(tmp_path):
    fork = tmp_path / "configs" / "mine.py"
    fork.parent.mkdir()
    fork.write_text(
        "from ml_collections import ConfigDict\nfrom mlm.config import from_flat\n\n"
        f"def get_config():\n    return from_flat({old_fields()!r})\n"
    )
    config = load_config(str(fork))
    validate(config)
    assert flat(config) | NEW_DEFAULTS == flat(default.get_config()) and config.is_locked
    apply_overrides(config, {"masking.final_rate": "0.4", "mesh.fsdp": "2"})
    assert (config.masking.final_rate, config.mesh.fsdp) == (0.4, 2)


def test_what_a_config_says_itself_stays():
    config = from_flat(old_fields() | {"masking.unit": "span", "mesh.fsdp": 2})
    add_missing(config)
    assert (config.masking.unit, config.mesh.fsdp, config.mesh.data) == ("span", 2, -1)


def test_an_old_run_goes_on_unless_a_new_field_changes_it(tmp_path):
    write_json(tmp_path / "config.json", old_fields())
    (tmp_path / "checkpoints" / "7" / "params").mkdir(parents=True)
    stored = flat(stored_config(tmp_path, {}))
    now = flat(default.get_config())
    assert json.loads(json.dumps(stored | NEW_DEFAULTS)) == json.loads(json.dumps(now))
    check_config(tmp_path, now)
    with pytest.raises(ConfigError, match=r"\(masking.unit token -> span\)"):
        check_config(tmp_path, now | {"masking.unit": "span"})
    check_config(tmp_path, with_added(old_fields()) | {"mesh.fsdp": 2})  # a field that may change
