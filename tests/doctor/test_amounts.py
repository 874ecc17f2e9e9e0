import dataclasses

import numpy as np
import pytest
from samples import RATES, make_sample

from mlm.doctor.amounts import (
    check_overflow,
    check_rate,
    check_rounding,
    check_slots,
    check_weighted,
)


def test_the_rate_that_was_asked_for_is_ok():
    finding = check_rate([make_sample()], fit="skip")
    assert finding.verdict == "ok" and "0.2000 of 0.2 at step 1" in finding.words
    half = RATES | {"rate": 0.4, "prediction_rate": 0.2}
    both = make_sample(rates=half)
    assert check_rate([both], fit="skip").verdict == "ok"
    finding = check_rate([both], fit="skip", of="corrupted")
    assert finding.verdict == "bad" and finding.name == "corrupted rate, masked now"


@pytest.mark.parametrize("rate", [0.15, 0.25])
def test_another_rate_is_bad_in_either_direction(rate):
    finding = check_rate([make_sample(), make_sample(rate=rate, step=9)], fit="skip")
    assert finding.verdict == "bad" and "at step 10 is 400 tokens off, 1 would be" in finding.words


def test_the_tolerance_follows_the_spread_from_row_to_row():
    draw = np.random.default_rng(1)

    def coins(rate):
        predicted = (draw.random((200, 1, 46)) < rate) & make_sample().selectable[:, None]
        return make_sample(count="bernoulli", predicted=predicted)

    assert check_rate([coins(0.2)], fit="skip").verdict == "ok"
    assert check_rate([coins(0.25)], fit="skip").verdict == "bad"


def test_units_that_do_not_fit_may_cost_a_little():
    known = check_rate([make_sample(rate=0.15, units=2, rates=RATES | {"rate": 0.155})], fit="skip")
    assert known.verdict == "ok" and "3.2% less than asked, as units that do not" in known.words
    much = make_sample(rate=0.1, units=4, rates=RATES | {"rate": 0.155})
    finding = check_rate([much], fit="skip")
    assert finding.verdict == "warning" and "masking.fit=truncate" in finding.words
    assert check_rate([much], fit="truncate").verdict == "bad"
    more = make_sample(rate=0.2, units=4, rates=RATES | {"rate": 0.155})
    assert check_rate([more], fit="skip").verdict == "bad"


def test_drawn_rates_and_copies_count_on_average():
    lowest = make_sample(rates=RATES | {"rate": 0.3, "lowest": 0.1})
    assert check_rate([lowest], fit="skip").verdict == "ok"
    one = make_sample(rate=0.1, rates=RATES | {"rate": 0.1})
    two = {n: np.repeat(getattr(one, n), 2, axis=1) for n in ("shown", "predicted", "corrupted")}
    copied = dataclasses.replace(one, **two)
    assert copied.asked == 0.2 and check_rate([copied], fit="skip").verdict == "ok"


def test_weights_of_zero():
    sample = make_sample()
    assert check_weighted([sample]).verdict == "ok"
    few = sample.selectable & (np.arange(46) < 5)
    finding = check_weighted([dataclasses.replace(sample, weighted=few)])
    assert finding.verdict == "warning" and "90.0% of the tokens" in finding.words
    assert "200 of 200 rows have fewer" in finding.words
    none = check_weighted([dataclasses.replace(sample, weighted=few & False)])
    assert none.verdict == "bad" and "none is selected" in none.words
    four = make_sample(rate=0.1, weighted=few)  # all that have a weight, of 8 asked for
    assert check_rate([four], fit="skip").verdict == "ok"


def test_rounding_up_in_short_rows():
    assert check_rounding([make_sample(count="exact")]).verdict == "ok"  # 8 of 40
    sample = make_sample(count="exact", rates=RATES | {"rate": 0.11})  # 5 of 40
    finding = check_rounding([sample])
    assert finding.verdict == "warning" and "0.1250 expected for a rate of 0.11" in finding.words


def test_overflow_now_or_in_the_record():
    assert check_overflow([make_sample()]).verdict == "ok"
    assert check_overflow([make_sample(overflow=3.0)]).verdict == "bad"
    assert "2 selected tokens of the run" in check_overflow([make_sample()], 2.0).words


@pytest.mark.parametrize(("slots", "verdict"), [(8, "ok"), (20, "warning"), (5, "bad")])
def test_slots(slots, verdict):
    finding = check_slots([make_sample()], slots=slots, needed=8)
    assert finding.verdict == verdict and "8.0 are filled on average, 8 at most" in finding.words
