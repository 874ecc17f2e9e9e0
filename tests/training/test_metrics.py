import json

import numpy as np
import pytest

from mlm.errors import NonFiniteError
from mlm.training.loss import LossSums
from mlm.training.metrics import Hardware, Interval, MetricWriter, read_metrics
from mlm.training.step import MaskCounts, StepMetrics

f = np.float32


def metrics(loss=8.0, finite=True):
    return StepMetrics(
        LossSums(f(loss), f(4), f(1)), MaskCounts(f(25), f(2), f(5)), f(30), f(0.5), f(1e-3), finite
    )


def test_means_are_over_tokens_not_over_steps():
    interval = Interval(slots=40)
    interval.add(1, metrics(8.0))
    interval.add(2, metrics(0.0)._replace(sums=LossSums(f(0), f(12), f(12))))
    line = interval.line()
    assert line["train/loss"] == 0.5 and line["train/accuracy"] == 13 / 16
    assert line["masking/realised_rate"] == 16 / 50 and line["masking/overflow"] == 4
    assert line["masking/corrupted_rate"] == 10 / 50
    assert line["data/padding_share"] == 0.25 and line["steps"] == 2


def test_speeds_leave_out_what_compiled_and_what_paused():
    interval = Interval(slots=40)
    interval.add(1, metrics())
    interval.start_clock()
    assert interval.line()["steps"] == 1 and not any(
        name.startswith("perf/") for name in interval.line()
    )
    interval.add(2, metrics())
    interval.start -= 3.0
    interval.pause(1.0)
    line = interval.line()
    assert line["perf/seconds_per_step"] == pytest.approx(2.0, rel=0.01)
    assert line["perf/tokens_per_second"] == pytest.approx(20.0, rel=0.01)
    assert line["perf/useful_tokens_per_second"] == pytest.approx(12.5, rel=0.01)
    assert line["perf/masked_tokens_per_second"] == pytest.approx(2.0, rel=0.01)


def test_speeds_of_a_device_and_its_share_of_the_peak():
    interval = Interval(slots=40, hardware=Hardware(2, step_flops=600.0, peak_flops=1000.0))
    interval.add(1, metrics())
    interval.start -= 3.0
    interval.pause(1.0)
    interval.wait(0.25)
    line = interval.line()
    assert line["perf/tokens_per_second_per_device"] == pytest.approx(10.0, rel=0.01)
    assert line["perf/useful_tokens_per_second_per_device"] == pytest.approx(6.25, rel=0.01)
    assert line["perf/flops_per_second_per_device"] == pytest.approx(150.0, rel=0.01)
    assert line["perf/mfu"] == pytest.approx(0.15, rel=0.01)
    assert line["perf/data_wait_seconds"] == 0.25
    interval.restart()
    interval.add(2, metrics())
    assert interval.line()["perf/data_wait_seconds"] == 0


def test_no_share_of_a_peak_that_is_not_known():
    interval = Interval(slots=40, hardware=Hardware(step_flops=600.0))
    interval.add(1, metrics())
    line = interval.line()
    assert "perf/flops_per_second_per_device" in line and "perf/mfu" not in line


def test_a_sum_that_an_older_checkpoint_lacks_reads_as_zero():
    interval = Interval(slots=40)
    interval.add(1, metrics())
    older = {name: value for name, value in interval.sums.items() if name != "corrupted"}
    resumed = Interval(slots=40)
    resumed.resume(older)
    resumed.add(2, metrics())
    line = resumed.line()
    assert line["steps"] == 2 and line["masking/realised_rate"] == 8 / 50
    assert line["masking/corrupted_rate"] == 5 / 50


def test_as_many_steps_in_a_row_as_end_a_run_raise():
    with pytest.raises(NonFiniteError, match="in step 7 .*step 6 was finite"):
        Interval(slots=40).add(7, metrics(np.nan, finite=False))
    interval = Interval(slots=40, max_nonfinite_in_a_row=3)
    interval.add(1, metrics())
    for step in (2, 3, 5, 6):
        assert f"step {step}: loss or gradient" in interval.add(step, metrics(np.nan, finite=False))
        if step == 3:
            assert interval.add(4, metrics()) == ""
    interval.restart()  # a row goes on behind a log line
    with pytest.raises(NonFiniteError, match="in steps 5 to 7 .*step 4 was finite"):
        interval.add(7, metrics(np.inf, finite=False))


def test_a_row_goes_on_behind_a_checkpoint():
    interval = Interval(slots=40, max_nonfinite_in_a_row=3)
    interval.add(1, metrics(np.nan, finite=False))
    interval.add(2, metrics(np.nan, finite=False))
    resumed = Interval(slots=40, max_nonfinite_in_a_row=3)
    resumed.resume(json.loads(json.dumps(interval.sums)))
    with pytest.raises(NonFiniteError, match="in steps 1 to 3"):
        resumed.add(3, metrics(np.nan, finite=False))


def test_what_is_not_finite_leaves_no_trace_in_the_means():
    both, finite = (Interval(slots=40, max_nonfinite_in_a_row=5) for _ in range(2))
    both.add(1, metrics())
    finite.add(1, metrics())
    both.add(2, metrics(np.nan, finite=False)._replace(grad_norm=f(np.inf)))
    line, without = both.line(), finite.line()
    assert (line.pop("train/nonfinite_steps"), without.pop("train/nonfinite_steps")) == (1, 0)
    assert (line.pop("steps"), without.pop("steps")) == (2, 1)
    names = [name for name in line if not name.startswith("perf/")]
    assert {n: line[n] for n in names} == {n: without[n] for n in names}


def test_an_interval_without_a_finite_step_has_no_means():
    interval = Interval(slots=40, max_nonfinite_in_a_row=5)
    interval.add(1, metrics(np.nan, finite=False))
    line = {n: v for n, v in interval.line().items() if not n.startswith("perf/")}
    assert line == {"train/nonfinite_steps": 1, "train/loss_spikes": 0, "steps": 1}


def test_spikes_are_counted_and_told():
    interval = Interval(slots=40)
    assert interval.add(3, metrics(800.0)._replace(spike=True)) == "step 3: loss 200.000 is a spike"
    line = interval.line()
    assert line["train/loss_spikes"] == 1 and line["train/loss"] == 200


def test_lines_of_a_lost_attempt_and_torn_lines_are_dropped(tmp_path):
    file = tmp_path / "metrics.jsonl"
    lines = [json.dumps({"step": s, "a": s}) for s in (1, 2, 3)]
    file.write_text("\n".join(lines) + '\n{"step": 4, "a"\n[1]\n{"a": 2}\n')
    with file.open("ab") as stream:
        stream.write(b"\x80\xff\0")
    assert [line["step"] for line in read_metrics(file)] == [1, 2, 3]
    writer = MetricWriter(tmp_path, resume_step=2, tensorboard=False)
    writer.write(3, {"a": 30.0})
    writer.close()
    assert read_metrics(file) == [{"step": 1, "a": 1}, {"step": 2, "a": 2}, {"step": 3, "a": 30.0}]


def test_tensorboard_events_stand_beside(tmp_path):
    writer = MetricWriter(tmp_path, resume_step=0, tensorboard=True)
    writer.write(1, {"train/loss": 2.0})
    writer.close()
    [events] = (tmp_path / "tensorboard").iterdir()
    assert b"train/loss" in events.read_bytes()
