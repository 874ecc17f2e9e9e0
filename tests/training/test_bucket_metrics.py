"""Metrics of a bucket that is away for a while; a folder that fails stands for it."""

from pathlib import Path

import pytest

from mlm.errors import OutputError
from mlm.training import bucket_metrics
from mlm.training.bucket_metrics import BucketMetricWriter
from mlm.training.metrics import read_metrics


class Bucket:
    """A folder that can be away, as `told_as` tells of it."""

    away, asked = False, 0

    def __init__(self, folder: Path):
        self.folder = folder

    def __truediv__(self, name: str):
        self.target = self.folder / name
        return self

    def write_bytes(self, content: bytes) -> None:
        self.asked += 1
        if self.away:
            raise OutputError("gs://runs/one cannot be used (no answer in 20 s)")
        self.target.write_bytes(content)


@pytest.fixture
def bucket(tmp_path, monkeypatch):
    monkeypatch.setattr(bucket_metrics, "COPY_SECONDS", 0.0)
    monkeypatch.setattr(bucket_metrics, "COPY_SHARE", 1e9)
    return Bucket(tmp_path)


def test_a_bucket_that_is_away_between_checkpoints_ends_no_run(bucket):
    writer = BucketMetricWriter(bucket, resume_step=0, tensorboard=False)
    writer.write(1, {"train/loss": 1.0})
    bucket.away = True
    writer.write(2, {"train/loss": 2.0})
    with pytest.raises(OutputError):  # a checkpoint would not come through either
        writer.flush()
    bucket.away = False
    writer.write(3, {"train/loss": 3.0})
    writer.flush()
    assert [line["step"] for line in read_metrics(bucket.folder / "metrics.jsonl")] == [1, 2, 3]
    writer.close()


def test_a_copy_that_failed_is_not_tried_again_at_every_line(bucket, monkeypatch):
    """Requests repeat themselves for half a minute, in which no step is taken."""
    monkeypatch.setattr(bucket_metrics, "COPY_SECONDS", 60.0)
    bucket.away = True
    writer = BucketMetricWriter(bucket, resume_step=0, tensorboard=False)
    for step in (1, 2, 3):
        writer.write(step, {"train/loss": 1.0})
    assert bucket.asked == 1
    writer.close()
