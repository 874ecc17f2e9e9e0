import math

import numpy as np
import pytest
from samples import RATES, make_sample

from mlm.doctor.record import check_finite, check_plateau, check_possible, check_recorded_rate


def logged(*rates, steps=10):
    return [
        {"step": steps * (i + 1), "steps": steps, "masking/realised_rate": rate}
        for i, rate in enumerate(rates)
    ]


def evaluated(*losses, top1=0.3, top5=0.5, unigram=5.0):
    return [
        {
            "step": 10 * (i + 1),
            "eval/token@0.15/loss": loss,
            "eval/token@0.15/unigram_loss": unigram,
            "eval/token@0.15/top1": top1,
            "eval/token@0.15/top5": top5,
        }
        for i, loss in enumerate(losses)
    ]


def constant(step):
    return 0.2


def test_the_recorded_rate_is_what_masking_gives_now():
    samples = [make_sample()]
    finding = check_recorded_rate(logged(0.2, 0.2), samples, constant, rows=16)
    assert finding.verdict == "ok" and "0.2000 at step 20" in finding.words
    finding = check_recorded_rate(logged(0.2, 0.188, 0.2), samples, constant, rows=16)
    assert finding.verdict == "bad" and "0.1880 logged at step 20, 0.2 asked" in finding.words
    assert check_recorded_rate(logged(0.23), samples, constant, rows=16).verdict == "bad"
    assert check_recorded_rate(logged(math.nan), samples, constant, rows=16).verdict == "bad"
    assert check_recorded_rate([], samples, constant, rows=16).verdict == "warning"


def test_what_units_cost_now_they_cost_in_the_record():
    samples = [make_sample(rate=0.15, units=2, rates=RATES | {"rate": 0.2})]
    assert check_recorded_rate(logged(0.15), samples, constant, rows=16).verdict == "ok"
    assert check_recorded_rate(logged(0.2), samples, constant, rows=16).verdict == "bad"


def test_the_requested_rate_follows_the_schedule_through_an_interval():
    samples = [make_sample()]
    falling = lambda step: 0.4 - 0.01 * step  # noqa: E731
    lines = logged(0.355, 0.255)  # means of steps 0 to 9 and 10 to 19
    assert check_recorded_rate(lines, samples, falling, rows=16).verdict == "ok"
    assert check_recorded_rate(logged(0.355, 0.3), samples, falling, rows=16).verdict == "bad"


def test_few_rows_or_few_patterns_may_be_further_off():
    draw = np.random.default_rng(0)
    predicted = (draw.random((200, 1, 46)) < 0.2) & make_sample().selectable[:, None]
    samples = [make_sample(count="bernoulli", predicted=predicted)]
    lines = logged(0.235, steps=100)
    assert check_recorded_rate(lines, samples, constant, rows=16).verdict == "bad"
    assert check_recorded_rate(lines, samples, constant, rows=16, different=10).verdict == "ok"


@pytest.mark.parametrize("name", ["train/loss", "eval/token@0.15/loss", "train/gradient_norm"])
def test_numbers_that_are_none(name):
    lines = [{"step": 1, "train/loss": 2.0}, {"step": 2, name: math.nan}]
    assert check_finite(lines[:1]).verdict == "ok"
    assert check_finite(lines).words.startswith(f"{name} is nan at step 2")
    assert check_finite(lines[:1], "non-finite").verdict == "bad"


def test_a_run_on_the_unigram_plateau():
    flat = evaluated(5.3, 5.02, 4.98)
    finding = check_plateau(flat, total_steps=40)
    assert finding.verdict == "bad" and "has learnt nothing yet" in finding.words
    assert check_plateau(flat, total_steps=100).verdict == "warning"
    assert check_plateau(evaluated(5.3, 5.02, 4.5), total_steps=40).verdict == "ok"
    assert check_plateau(evaluated(5.3, 4.5, 5.0), total_steps=40).verdict == "ok"  # noise
    assert check_plateau([], total_steps=40).verdict == "warning"


def test_a_loss_below_what_is_possible():
    least = 0.2 * math.log(2) + 0.5 * math.log(6)  # of top-1 .3 and top-5 .5
    assert check_possible(evaluated(4.0, least + 0.01)).verdict == "ok"
    finding = check_possible(evaluated(4.0, least - 0.01))
    assert finding.verdict == "bad" and "at step 20" in finding.words
    nothing = [line | {"eval/token@0.15/masked_tokens": 0} for line in evaluated(0.0, top1=0.0)]
    assert check_possible(nothing).verdict == "ok"  # no token is hidden, so there is no loss
    negative = [{"step": 3, "train/loss": -0.1}]
    assert check_possible(negative).verdict == "bad"
    assert check_possible(negative, own_loss=True).verdict == "ok"
