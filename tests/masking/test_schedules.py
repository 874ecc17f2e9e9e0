import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mlm.masking.schedules import SCHEDULES, make_rate_schedule, own_rate_schedule


def values(kind, start, final, total=5, **arguments):
    schedule = make_rate_schedule(kind, start, final, total_steps=total, **arguments)
    return [float(schedule(step)) for step in range(total)]


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("constant", [0.3] * 5),
        ("linear", [0.3, 0.2625, 0.225, 0.1875, 0.15]),
        ("reversed", [0.15, 0.1875, 0.225, 0.2625, 0.3]),
        ("cosine", [0.3, 0.225 + 0.075 / 2**0.5, 0.225, 0.225 - 0.075 / 2**0.5, 0.15]),
        ("step", [0.3, 0.3, 0.3, 0.15, 0.15]),  # 5 steps: the first part gets the odd one
    ],
)
def test_each_kind_from_the_first_step_to_the_last(kind, expected):
    assert values(kind, 0.3, 0.15) == np.float32(expected).tolist()


def test_stages_are_equal_parts_with_evenly_spaced_values():
    found = values("step", 0.4, 0.1, total=12, stages=4)
    assert found == np.repeat(np.float32([0.4, 0.3, 0.2, 0.1]), 3).tolist()


def test_without_a_final_value_nothing_moves():
    for kind in SCHEDULES:
        assert values(kind, 0.3, None) == [float(np.float32(0.3))] * 5


@pytest.mark.parametrize("kind", SCHEDULES)
@pytest.mark.parametrize("total", [1, 2, 777, 10_000, 123_457])
def test_both_ends_are_exact_and_the_way_between_is_monotone(kind, total):
    schedule = make_rate_schedule(kind, 0.3, 0.15, total_steps=total, stages=3)
    assert schedule.values.dtype == np.float32 and len(schedule.values) <= 10_000
    ends = [schedule(0), schedule(total - 1)]
    first, last = (0.15, 0.3) if kind == "reversed" else (0.3, 0.15)
    if total == 1 or kind == "constant":
        last = first
    assert ends == [np.float32(first), np.float32(last)]
    assert schedule.largest == max(ends) and schedule.smallest == min(ends)
    difference = np.diff(schedule.values)
    assert (difference >= 0).all() or (difference <= 0).all()


def test_a_long_run_keeps_each_value_for_several_steps():
    schedule = make_rate_schedule("linear", 0.0, 1.0, total_steps=1_000_000)
    assert schedule.width == 100 and len(schedule.values) == 10_000
    assert schedule(99) == schedule(0) == 0 < schedule(100)
    steps = np.arange(0, 1_000_000, 997)
    found = np.array([schedule(int(step)) for step in steps])
    assert np.abs(found - steps / 1e6).max() <= 1.1e-4


@pytest.mark.parametrize("kind", SCHEDULES)
def test_inside_jit_the_bits_are_those_of_the_host(kind):
    schedule = make_rate_schedule(kind, 0.3, 0.15, total_steps=25_001, stages=7)
    steps = np.arange(0, 25_001, 13, dtype=np.int32)
    traced = jax.jit(jax.vmap(schedule))(steps)
    assert traced.dtype == jnp.float32
    np.testing.assert_array_equal(traced, [schedule(step) for step in steps])
    assert jax.jit(schedule)(jnp.int32(2**31 - 1)) == schedule.values[-1]


def test_mask_and_random_share_stay_within_one_along_the_same_kind():
    for kind in SCHEDULES:
        masked, other = (
            make_rate_schedule(kind, *ends, total_steps=1001, stages=5).values
            for ends in ((0.9, 0.2), (0.1, 0.8))
        )
        assert np.abs(masked.astype(float) + other - 1).max() < 1e-7


def test_a_function_of_your_own_is_called_for_every_step():
    seen = []

    def triangle(step, total_steps):
        assert isinstance(step, np.float32)
        seen.append(int(step))
        return jnp.minimum(step, total_steps - step) / total_steps

    schedule = own_rate_schedule(triangle, total_steps=10)
    assert seen == list(range(10))
    assert (schedule.largest, schedule.smallest) == (0.5, 0.0)
    assert jax.jit(schedule)(jnp.int32(7)) == np.float32(0.3)


def test_a_function_of_your_own_is_called_for_evenly_spaced_steps_of_a_long_run():
    seen = []
    schedule = own_rate_schedule(lambda *at: seen.append(at) or 0.25, total_steps=25_000)
    assert seen == [(step, 25_000) for step in range(0, 25_000, 3)]
    assert schedule(24_999) == np.float32(0.25)


@pytest.mark.parametrize(
    ("function", "words"),
    [
        (lambda step, total: 0.9 + step / 100, "mine:up is 1.0099.* at step 11 of 20; return"),
        (lambda step, total: float("nan"), "mine:up is nan at step 0 of 20"),
        (lambda step, total: None, "mine:up is NoneType at step 0"),
        (lambda step, total: np.ones(300), "mine:up is ndarray at step 0"),
    ],
)
def test_values_of_your_own_that_are_no_shares_are_named_with_their_step(function, words):
    with pytest.raises(ValueError, match=words):
        own_rate_schedule(function, total_steps=20, name="mine:up")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("linnear", 0.3, 0.1), "'linnear'; choose one of constant, linear"),
        (("linear", 0.3, 1.2), "from 0.3 to 1.2; give shares between 0 and 1"),
        (("linear", float("nan"), 0.1), "from nan to 0.1"),
    ],
)
def test_wrong_settings_are_named(arguments, words):
    with pytest.raises(ValueError, match=words):
        make_rate_schedule(*arguments, total_steps=10)


def test_one_stage_and_no_steps_are_refused():
    with pytest.raises(ValueError, match="stages is 1; 'step' needs 2 or more"):
        make_rate_schedule("step", 0.3, 0.1, total_steps=10, stages=1)
    with pytest.raises(ValueError, match="total_steps is 0"):
        own_rate_schedule(lambda step, total: 0.1, total_steps=0)


def test_the_host_side_needs_no_jax():
    code = (
        "import sys; from mlm.masking.schedules import make_rate_schedule\n"
        "assert make_rate_schedule('cosine', 0.3, 0.1, total_steps=9).largest > 0.29\n"
        "sys.exit('jax' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
