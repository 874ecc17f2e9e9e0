"""SIGKILL while text is prepared, for real: the next process goes on at the last shard."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from mlm.data import verify_store
from mlm.preparing import open_prepared

ROOT = Path(__file__).parent.parent.parent
# The command, with shards of some thousand tokens and small batches for the tokenizer.
SCRIPT = """
import sys
from mlm.data import writer
from mlm.preparing import encode
from mlm.__main__ import main
writer.SHARD, encode.CHUNK = 5_000, 20_000
main(sys.argv[1:])
"""


@pytest.fixture
def prepare(tmp_path):
    """`prepare(out)`: a running `python -m mlm prepare` of two megabytes of text."""
    corpus = tmp_path / "numbers.txt"
    corpus.write_text("\n".join(f"line {n} and {n * 7919 % 100_003}" for n in range(90_000)))
    vocabulary = tmp_path / "vocab.txt"
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "line", "and"]
    vocabulary.write_text("\n".join([*pieces, *"0123456789", *(f"##{d}" for d in "0123456789")]))
    fields = {"corpus": corpus, "document": "line", "tokenizer": vocabulary}

    def prepare(out: Path) -> subprocess.Popen:
        given = [f"--config.data.{name}={value}" for name, value in fields.items()]
        arguments = ["prepare", "--config=configs/default.py", f"--out={out}", *given]
        return subprocess.Popen(
            [sys.executable, "-c", SCRIPT, *arguments],
            cwd=ROOT,
            env=os.environ | {"XDG_CACHE_HOME": str(tmp_path / "cache")},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    return prepare


def journal(folder: Path) -> Path | None:
    return next(folder.glob(".*.partial/train/journal.json"), None)


def wait_for_journal(process, folder: Path, after: str) -> str:
    """What the journal says as soon as that is not `after`; fails if the process ends first."""
    while True:
        file = journal(folder)
        said = file.read_text() if file else ""
        if said not in ("", after):
            return said
        assert process.poll() is None, process.communicate()
        time.sleep(0.001)


def content(folder: Path) -> dict:
    names = [f"{side}/{n}" for side in ("train", "heldout") for n in ("tokens.bin", "doc_ends.npy")]
    names += ["train/meta.json", "heldout/meta.json", "tokenizer.json"]
    return {name: (folder / name).read_bytes() for name in names}


def test_prepare_killed_twice_equals_the_undisturbed_one(prepare, tmp_path):
    whole = prepare(tmp_path / "whole/text")
    out, error = whole.communicate(timeout=120)
    assert whole.returncode == 0, error

    folder, said = tmp_path / "killed", ""
    for attempt in range(2):
        process = prepare(folder / "text")
        for _ in range(3):
            said = wait_for_journal(process, folder, said)
        process.send_signal(signal.SIGKILL)
        assert process.wait(timeout=60) == -signal.SIGKILL
        out, _ = process.communicate()
        assert ("continuing with" in out) == (attempt > 0)
        assert not (folder / "text").exists() and journal(folder)

    process = prepare(folder / "text")
    out, error = process.communicate(timeout=120)
    assert process.returncode == 0, error
    assert "where it was stopped" in out and "reading" not in out
    assert content(folder / "text") == content(tmp_path / "whole/text")
    assert [path.name for path in folder.iterdir()] == ["text"]
    for store in open_prepared(folder / "text").stores.values():
        verify_store(store)
