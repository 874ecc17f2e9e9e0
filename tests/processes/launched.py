"""What tests look at in a run of several processes."""

import json
import subprocess
import time
from pathlib import Path

from mlm.training.metrics import read_metrics

# Sums of whole numbers over the batch: another token or mask anywhere would change them.
COUNTS = (
    "masking/realised_rate",
    "masking/corrupted_rate",
    "masking/overflow",
    "data/padding_share",
)


def lines(workdir: Path) -> dict[int, dict]:
    """The training line of each step."""
    found = [line for line in read_metrics(workdir / "metrics.jsonl") if "train/loss" in line]
    assert [line["step"] for line in found] == list(range(1, len(found) + 1))
    return {line["step"]: line for line in found}


def last_step(workdir: Path) -> int:
    return max((line["step"] for line in read_metrics(workdir / "metrics.jsonl")), default=0)


def wait_for_new_step(process: subprocess.Popen, workdir: Path, step: int) -> None:
    """Returns when `process` has logged `step` or a later one."""
    while last_step(workdir) < step:
        assert process.poll() is None, process.communicate()
        time.sleep(0.01)


def status(workdir: Path) -> dict:
    return json.loads((workdir / "status.json").read_text())
