"""Checkpoints in a bucket that were damaged, or that a copy has cost their markers."""

import json

import pytest
from emulated import losses
from harm import array_byte

MARKER = "commit_success.txt"


def is_marker(name: str) -> bool:
    return name.endswith(MARKER)


@pytest.fixture
def copied(local, store):
    """`copied(name, but)`: the run on this machine, in gs://runs/`name` without what `but` says."""

    def copied(name: str, but) -> None:
        for file in (path for path in local.rglob("*") if path.is_file()):
            relative = str(file.relative_to(local))
            if not but(relative) and relative != "eval.json":
                store.write(f"{name}/{relative}", file.read_bytes())

    return copied


@pytest.mark.fault(
    50,
    "checkpoints are copied to a bucket without the marker files",
    "exit 4 and the command that repairs it, nothing deleted; after that the run goes on",
)
def test_checkpoints_without_markers(copied, run, store, fields, local):
    copied("copied", is_marker)
    before = set(store.names("copied"))
    code, _, err = run("train.py", *fields, "--workdir=gs://runs/copied")
    assert code == 4
    assert err.splitlines()[-1] == (
        "error: checkpoint gs://runs/copied/checkpoints/12 is whole but has no commit_success.txt, "
        "as a copy leaves it; python -m mlm doctor --repair --workdir gs://runs/copied gives it "
        "back"
    )
    assert before - {".lock"} <= set(store.names("copied"))

    _, out, _ = run("-m", "mlm", "doctor", "--repair", "--workdir=gs://runs/copied")
    for step in (8, 12):
        assert f"repair: gs://runs/copied/checkpoints/{step} is whole; its marker" in out
        assert f"checkpoint {step}: can be restored" in out
    code, out, err = run("train.py", *fields, "--workdir=gs://runs/copied")
    assert (code, err) == (0, "") and "continuing at step 12 of 12" in out
    assert store.read("copied/eval.json") == (local / "eval.json").read_text()


@pytest.mark.fault(
    50,
    "one array file is damaged besides, in a bucket",
    "such a checkpoint gets no marker; one that has it is renamed, and the one before is taken",
)
def test_a_damaged_checkpoint(copied, run, store, fields, local):
    copied("harmed", lambda name: is_marker(name) and "checkpoints/8/" in name)
    for step in (8, 12):
        file, place = array_byte(local / "checkpoints" / str(step))
        content = bytearray(file.read_bytes())
        content[place] ^= 1
        store.write(f"harmed/{file.relative_to(local)}", bytes(content))

    code, _, err = run("train.py", *fields, "--workdir=gs://runs/harmed")
    assert code == 4 and "all checkpoints" in err and "12 (leaf params/" in err
    _, out, _ = run("-m", "mlm", "doctor", "--repair", "--workdir=gs://runs/harmed")
    assert "gs://runs/harmed/checkpoints/8 is not whole" in out
    assert "all checkpoints are damaged and stay: 12" in out

    whole = [p for p in (local / "checkpoints/8").rglob("*") if p.is_file()]
    for file in whole:
        store.write(f"harmed/{file.relative_to(local)}", file.read_bytes())
    code, out, err = run("train.py", *fields, "--workdir=gs://runs/harmed")
    assert code == 0 and "continuing at step 8 of 12" in out
    assert "warning: checkpoint 12 is damaged (leaf params/" in err and "kept as 12.bad" in err
    names = store.names("harmed")
    assert f"checkpoints/12/{MARKER}" in names and f"checkpoints/12.bad/{MARKER}" in names
    assert losses(store.read("harmed/metrics.jsonl")) == losses(
        (local / "metrics.jsonl").read_text()
    )
    assert json.loads(store.read("harmed/status.json")) == json.loads(
        (local / "status.json").read_text()
    )
