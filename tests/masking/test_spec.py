import jax.numpy as jnp
import numpy as np
import pytest

from mlm.masking import MaskingSpec, check_rate, check_split, required_slots
from mlm.masking.selection import exact_count

IDS = dict(vocabulary_size=20, mask_token_id=4, mask_selection_length=3)


def test_any_iterable_of_ids_becomes_a_sorted_tuple_and_the_spec_hashes():
    spec = MaskingSpec(**IDS, unselectable_token_ids={3, 0, 2})
    assert spec.unselectable_token_ids == (0, 2, 3)
    assert hash(spec) == hash(MaskingSpec(**IDS, unselectable_token_ids=[2, 3, 0, 0]))


def test_replacements_exclude_unselectable_ids_and_the_mask():
    spec = MaskingSpec(**IDS, unselectable_token_ids=(0, 1, 2))
    assert spec.replacement_ids.tolist() == [3, *range(5, 20)]
    everything = MaskingSpec(**IDS, random_ids="vocabulary")
    assert everything.replacement_ids.tolist() == list(range(20))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"mask_token_id": 20}, "Mask token id should be from 0 .* mask_token_id is 20"),
        ({"mask_token_id": -1}, "mask_token_id is -1"),
        ({"mask_token_id": 1.5}, "mask_token_id is 1.5; give an integer"),
        ({"vocabulary_size": "20"}, "vocabulary_size is '20'; give an integer"),
        ({"vocabulary_size": 0}, "vocabulary_size is 0"),
        ({"unselectable_token_ids": [0.5]}, "is \\[0.5\\]; give a list of integers"),
        ({"unselectable_token_ids": 0}, "unselectable_token_ids is 0; give a list of integers"),
        ({"unselectable_token_ids": None}, "is None; give a list of integers"),
        ({"unselectable_token_ids": [-1]}, "unselectable_token_ids holds -1"),
        ({"mask_selection_length": -1}, "mask_selection_length is -1"),
        ({"mask_token_rate": 0.8, "random_token_rate": 0.3}, "add up to more than 1"),
        ({"mask_token_rate": float("nan")}, "mask_token_rate is nan"),
        ({"count": "poisson"}, "'poisson'; choose one of stochastic, exact, bernoulli"),
        ({"fit": "cut"}, "fit is 'cut'; choose one of skip, truncate"),
        ({"fate": "word"}, "fate is 'word'; choose one of token, unit"),
        ({"corruption_length": 2}, "corruption_length 2 is below mask_selection_length 3"),
        ({"corruption_length": 4.0}, "corruption_length is 4.0; give an integer"),
        ({"overflow": "wrap"}, "'wrap'; choose one of error, drop"),
        ({"unselectable_token_ids": range(20)}, "no id of the vocabulary"),
    ],
)
def test_wrong_settings_are_named(change, words):
    with pytest.raises(ValueError, match=words):
        MaskingSpec(**{**IDS, **change})


@pytest.mark.parametrize(
    ("rate", "length", "count", "slots"),
    [
        (0.15, 100, "exact", 15),  # float32 0.15 * 100 would say 16
        (0.15, 128, "stochastic", 20),
        (0.15, 64, "exact", 10),
        (1.0, 7, "exact", 7),
        (0.0, 7, "exact", 0),
        (1e-6, 7, "exact", 1),  # at least one
        (1e-6, 0, "exact", 0),
        (0.15, 512, "bernoulli", 126),  # 76.8 + 6 * 8.08
        (0.9, 10, "bernoulli", 10),  # never more than there are tokens
    ],
)
def test_required_slots(rate, length, count, slots):
    assert required_slots(rate, length, count) == slots


def test_coins_for_units_need_room_for_long_ones():
    assert required_slots(0.15, 512, "bernoulli", units=True) == 214  # 76.8 + 6 * 8.08 * sqrt(8)
    assert required_slots(0.15, 512, "exact", units=True) == 77


def test_slots_for_corruption_are_p_unless_there_are_more():
    assert MaskingSpec(**IDS).corruption_slots == 3
    assert MaskingSpec(**IDS, corruption_length=9).corruption_slots == 9


def test_required_slots_hold_every_exact_count():
    n = jnp.arange(2000)
    for rate in [*np.arange(0, 1001, 7) / 1000, 1e-9, 1e-4]:
        counts = np.asarray(exact_count(jnp.float32(rate), n))
        slots = [required_slots(rate, length, "exact") for length in range(0, 2000, 97)]
        assert (counts[::97] <= slots).all()


def test_shares_of_any_number_type_make_the_same_spec():
    spec = MaskingSpec(**IDS, mask_token_rate=jnp.float32(0.5), random_token_rate=np.float64(0.5))
    assert hash(spec) == hash(MaskingSpec(**IDS, mask_token_rate=0.5, random_token_rate=0.5))


def test_the_usual_predictions_per_sequence_do_not_hold_a_higher_rate():
    # Trap T4: BERT's max_predictions_per_seq=20 at L=128 silently caps every rate at 15.6 %.
    assert required_slots(0.15, 128, "exact") == 20 < required_slots(0.16, 128, "exact")


@pytest.mark.parametrize("rate", [-0.1, 1.1, float("nan"), None, "0.15"])
def test_rates_outside_the_unit_interval_are_refused(rate):
    with pytest.raises(ValueError, match="between 0 and 1"):
        check_rate(rate)


def test_a_split_may_use_everything_but_no_more():
    check_split(0.9, 0.1)
    with pytest.raises(ValueError, match="the rest is the share"):
        check_split(0.9, 0.2)
