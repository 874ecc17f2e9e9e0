"""Bounds of a step by hand, and what is advised where memory does not suffice."""

import pytest

from mlm.config import apply_overrides, load_config
from mlm.planning.advice import GIB, does_not_fit
from mlm.planning.bounds import Work, step_bounds
from mlm.planning.collectives import Collective
from mlm.training.chips import CHIPS, Chip, chip_of_kind

CHIP = Chip("some", peak_flops=100.0, memory_bandwidth=8.0, link_bandwidth=4.0)
SENT = [Collective("all-reduce", 2, 1, 10, 12.0), Collective("send to slices", 0, 1, 9, 9.0)]


def bounds(work=Work(1000, 5, 600.0), **given):  # noqa: B008 (immutable)
    given = {"chip": CHIP, "collectives": SENT, "peak_flops": None} | given
    return step_bounds(work, devices=2, state_bytes=16, **given)


def test_the_parts_of_a_step():
    found = bounds()
    assert found.compute == 600 / (2 * 100)
    assert found.memory == 2 * 16 / 8
    assert found.links == 12 / 4 and found.network is None  # of which nothing is known
    assert (found.overlapped, found.in_turn) == (4.0, 10.0)
    assert found.utilization(10.0) == pytest.approx(0.3)


def test_what_is_computed_twice_is_no_use():
    found = bounds(Work(1000, 5, 600.0, repeated=200.0))
    assert found.compute == 4.0 and found.utilization(4.0) == pytest.approx(0.75)


def test_what_is_not_known_bounds_nothing():
    assert bounds(chip=None).overlapped is None
    assert bounds(Work(1000, 5, None)).in_turn is None
    found = bounds(chip=None, peak_flops=300.0)
    assert found.overlapped == found.in_turn == 1.0
    assert bounds(collectives=None).links is None


def test_chips_by_their_kind():
    assert chip_of_kind("TPU v5 lite").memory == 15.75 * GIB
    assert chip_of_kind("TPU v5").peak_flops == 459e12
    assert chip_of_kind("NVIDIA H200").memory == 141e9
    assert chip_of_kind("cpu") is None
    for chip in CHIPS:  # each can be found by its own name
        assert chip_of_kind(chip.kind) is chip


def advice(batch_size, *, needed, state, fields=None, **sizes):
    config = load_config("configs/distilbert_base.py")
    apply_overrides(config, {"train.batch_size": batch_size, **(fields or {})})
    sizes = {"slices": 1, "data": 1, "fsdp": 1, "tensor": 1} | sizes
    return does_not_fit(
        config, sizes, needed=needed * GIB, available=16 * GIB, state=state * GIB, where="v5e:2x2"
    )


def test_rows_are_what_takes_memory():
    line = advice(64, needed=25, state=1, data=4)  # 16 rows of 1.5 GiB on each, and 10 would fit
    assert line == (
        "the step needs 25.00 GiB of a device of v5e:2x2, which has 16.00: 9.00 GiB too many, 1.00 "
        "of it the state; try train.remat='layers', or train.accumulation=2 or more, or "
        "train.batch_size=40 or less, or a data.length below 512"
    )
    fields = {"train.accumulation": 2, "train.remat": "dots"}
    line = advice(64, needed=25, state=1, data=4, fields=fields)
    assert line.endswith(
        "train.accumulation=4 or more, or train.batch_size=40 or less, or a data.length below 512"
    )
    assert "try train.remat='layers', or a data.length" in advice(4, needed=17, state=1, data=4)


def test_the_state_is_what_takes_memory():
    assert advice(64, needed=30, state=26, data=4).endswith("try mesh.fsdp=4")  # 13 + 4 with 2
    assert "try mesh.fsdp=2, or train.remat" in advice(64, needed=17, state=8, data=4)
    fixed = {"mesh.data": 4}
    assert advice(64, needed=30, state=26, data=4, fields=fixed).endswith("=4 and mesh.data=1")
    assert advice(64, needed=80, state=79).endswith(
        "try a machine of more devices and a larger mesh.fsdp, or a smaller model.width or fewer "
        "model.layers"
    )
