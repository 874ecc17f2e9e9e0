"""Metrics of a run in a bucket, whose objects cannot be appended to.

They are written on this machine as everywhere, and copied whole from time to time.
"""

import contextlib
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

from mlm.bucket import told_as
from mlm.errors import OutputError
from mlm.training.metrics import MetricWriter

COPY_SECONDS = 30.0  # between two copies at least
COPY_SHARE = 0.02  # of the time that copies may take, as files grow


class BucketMetricWriter:
    """A `MetricWriter` for a workdir in a bucket; TensorBoard's event files are copied too.

    A reader sees lines late, but those up to a checkpoint are there before the checkpoint is.
    """

    def __init__(self, workdir: Path, *, resume_step: int, tensorboard: bool):
        self.workdir = workdir
        self._folder = tempfile.TemporaryDirectory(prefix="mlm-metrics-")
        self._copied: dict[Path, int] = {}
        self._due = 0.0
        self._lost = False
        here = Path(self._folder.name)
        if resume_step:
            with contextlib.suppress(FileNotFoundError):
                (here / "metrics.jsonl").write_bytes((workdir / "metrics.jsonl").read_bytes())
        self._writer = MetricWriter(here, resume_step=resume_step, tensorboard=tensorboard)

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """Adds one line; a reader sees it with the next copy that succeeds."""
        self._writer.write(step, values)
        if time.monotonic() >= self._due:
            with contextlib.suppress(OutputError):  # no reason to lose what is learnt meanwhile
                self.flush()

    def flush(self) -> None:
        """Copies what has grown since the last copy; raises OutputError if it cannot."""
        began = time.monotonic()
        try:
            self._copy()
        finally:
            now = time.monotonic()
            self._due = now + max(COPY_SECONDS, (now - began) / COPY_SHARE)

    def _copy(self) -> None:
        here = Path(self._folder.name)
        for file in sorted(path for path in here.rglob("*") if path.is_file()):
            content = file.read_bytes()
            if self._copied.get(file) != len(content):
                target = self.workdir / str(file.relative_to(here))
                self._lost = True  # until it is there: to try again takes half a minute
                with told_as(OutputError, str(target)):
                    target.write_bytes(content)
                self._lost = False
                self._copied[file] = len(content)

    def close(self) -> None:
        self._writer.close()
        if not self._lost:
            with contextlib.suppress(OutputError):  # what ended the run is what it reports
                self.flush()
        self._folder.cleanup()
