"""Other devices, processes or meshes on resume: the same rows and masks, losses within 1e-5."""

import signal

import numpy as np
import pytest
from processes import finish, losses, wait_for_step

from mlm.training.metrics import read_metrics

SAVED = {"checkpoint__every_steps": 10, "train__step_timeout_seconds": 120.0}
TOLERANCE = 1e-5  # of a loss
# They follow from the rows and the masks of a step, exactly.
COUNTED = ("masking/realised_rate", "masking/corrupted_rate", "masking/overflow")
COUNTED += ("data/padding_share", "train/tokens")


def continued(train_process, workdir, parts):
    """A run stopped behind each of some steps, and going on in another way: what it said."""
    said = []
    for step, settings in parts:
        process = train_process(workdir, **SAVED, **settings)
        wait_for_step(process, workdir, step)
        process.send_signal(signal.SIGTERM)
        said.append(finish(process, 143)[0])
    return said


def on(devices):
    """The environment of a process with so many devices."""
    flag = f"--xla_force_host_platform_device_count={devices}"
    return {"environment": {"XLA_FLAGS": flag, "PJRT_NPROC": "16"}}


def lines_of(workdir):
    return {x["step"]: x for x in read_metrics(workdir / "metrics.jsonl") if "steps" in x}


def agree(workdir, undisturbed):
    """The losses but for rounding, and every count exactly; each step is there."""
    found, expected = lines_of(workdir), lines_of(undisturbed.workdir)
    assert sorted(found) == list(range(1, max(found) + 1)) and sorted(losses(workdir))[-1] >= 30
    for step, line in found.items():
        np.testing.assert_allclose(
            line["train/loss"], expected[step]["train/loss"], rtol=0, atol=TOLERANCE
        )
        assert [line[n] for n in COUNTED] == [expected[step][n] for n in COUNTED], step


@pytest.mark.fault(
    15,
    "restarts on 8, 4, 2 and 1 devices",
    "the same rows and masks, losses within 1e-5 of those on one device; told",
)
def test_fewer_devices_each_time(undisturbed, train_process, tmp_path):
    parts = [(step, on(devices)) for step, devices in ((8, 8), (16, 4), (24, 2), (32, 1))]
    first, *later = continued(train_process, tmp_path, parts)
    assert "not bit-exact" not in first
    for said in later:
        assert "not bit-exact: mesh slices 1 data 8 fsdp 1 tensor 1 -> slices 1 data 4" in said
    agree(tmp_path, undisturbed)


@pytest.mark.fault(
    16,
    "restarts as 2, 4 and 1 processes",
    "the same rows and masks, losses within 1e-5 of those of one process; told",
)
def test_more_and_fewer_processes(undisturbed, train_process, tmp_path):
    parts = [(step, {"processes": count}) for step, count in ((8, 2), (16, 4), (32, 1))]
    *_, last = continued(train_process, tmp_path, parts)
    assert "not bit-exact: processes 2 -> 4 -> 1, mesh" in last
    agree(tmp_path, undisturbed)


@pytest.mark.fault(
    17,
    "parameters whole on each device, then split over them, and back",
    "the same rows and masks, losses within 1e-5 of those on one device; told",
)
def test_another_mesh(undisturbed, train_process, tmp_path):
    meshes = [{"mesh__data": 2}, {"mesh__data": 1, "mesh__fsdp": 2}, {"mesh__data": 2}]
    parts = [(step, on(2) | mesh) for step, mesh in zip((10, 20, 32), meshes, strict=True)]
    *_, last = continued(train_process, tmp_path, parts)
    assert "fsdp 1 tensor 1 -> slices 1 data 1 fsdp 2" in last
    agree(tmp_path, undisturbed)
