"""Config fields as they are typed, and config.json as it lies in a workdir."""

import json

import pytest
from damage import ODD, damaged_json, reads_or_refuses
from hypothesis import given
from hypothesis import strategies as st

from mlm.cli import config_overrides
from mlm.config import apply_overrides, flat, load_config
from mlm.rules import validate
from mlm.stored_config import stored_config

CONFIG = load_config("configs/default.py")
FIELDS = sorted(flat(CONFIG))
TYPED = st.one_of(
    st.text(max_size=20),
    ODD.map(repr),
    ODD,
    st.sampled_from(["(" * 300, "-" * 20_000 + "1", "[" * 5000, "9" * 5000, "1e999", "nan", "-0"]),
    st.sampled_from(["b'x'", "{1}", "1j", "{'a': 1}", "()", "('a',)", "1_0", "0x10", "'a' 'b'"]),
    st.sampled_from(["a:b", "token@0.15", "('x@2',)", "('@',)", "1+2j", "f'{1}'", "__import__"]),
)


@given(st.dictionaries(st.one_of(st.sampled_from(FIELDS), st.text(max_size=30)), TYPED, max_size=4))
def test_fields(overrides):
    def read():
        config = CONFIG.copy_and_resolve_references()
        apply_overrides(config, overrides)
        validate(config)

    reads_or_refuses(read)


@given(
    st.lists(st.one_of(st.text(max_size=30), st.sampled_from(FIELDS).map("--config.{}=".format)))
)
def test_arguments(arguments):
    reads_or_refuses(lambda: config_overrides(arguments))


@pytest.fixture(scope="module")
def workdir(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    (folder / "checkpoints/3/params").mkdir(parents=True)
    return folder


@given(st.data())
def test_config_json(workdir, data):
    fields = json.loads(json.dumps(flat(CONFIG)))
    (workdir / "config.json").write_bytes(data.draw(damaged_json(fields)))
    reads_or_refuses(lambda: stored_config(workdir, {}))
