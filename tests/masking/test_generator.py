"""The class against KerasHub's recorded results and its own tests, then what ours adds."""

import copy
import json
import pickle
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mlm import MaskedLMMaskGenerator

RECORDED = Path(__file__).parent.parent / "parity/mask_generator/deterministic_cases.json"
CASES = {case["name"]: case for case in json.loads(RECORDED.read_text())}
# What KerasHub lets through, or breaks on only when it is called: refused here.
REFUSED = {
    "rate 2": "mask_selection_rate is 2.0",
    "ids above the vocabulary": "token id 50 .* is outside the vocabulary of 20",
    "mask id equal to the vocabulary size": "Mask token id should be",
    "mask id negative": "mask_token_id is -1",
    "rates above 1 together": "add up to more than 1",
}
# Where its data-pipeline path fails and ours has an answer, that of its other path.
EMPTY = {"only empty rows", "empty 1-D"}

# The settings of KerasHub's own tests: 13 ids, 1 is [MASK], every token selected and masked.
ALL = dict(vocabulary_size=13, mask_selection_rate=1, mask_selection_length=4, mask_token_id=1)
ALL |= dict(mask_token_rate=1, random_token_rate=0)
SOME = dict(vocabulary_size=1000, mask_selection_rate=0.15, mask_token_id=4)
SOME |= dict(mask_selection_length=6, unselectable_token_ids=[0, 2, 3])
IDS = np.random.default_rng(0).integers(5, 1000, (6, 32)).astype(np.int32)


def plain(outputs):
    return {k: v if isinstance(v, list) else np.asarray(v).tolist() for k, v in outputs.items()}


def assert_same(first, second):
    assert plain(first) == plain(second)


@pytest.mark.parametrize("name", [name for name in CASES if name not in REFUSED])
def test_recorded_results_of_the_original(name):
    case = CASES[name]
    outputs = MaskedLMMaskGenerator(**case["config"])(case["input"])
    assert plain(outputs) == case["python" if name in EMPTY else "tf_text"]
    if name not in EMPTY | {"length 0"}:  # there ours are arrays of width 0
        lists = sorted(k for k, v in outputs.items() if isinstance(v, list))
        assert lists == case["tf_text_ragged_list"]


@pytest.mark.parametrize("name", REFUSED)
def test_what_the_original_lets_through_is_refused(name):
    with pytest.raises(ValueError, match=REFUSED[name]):
        MaskedLMMaskGenerator(**CASES[name]["config"])(CASES[name]["input"])


def test_length_zero_gives_empty_arrays():
    outputs = MaskedLMMaskGenerator(**{**ALL, "mask_selection_length": 0})([[1, 2], [3, 4]])
    assert outputs["token_ids"].tolist() == [[1, 2], [3, 4]]
    assert [outputs[k].shape for k in list(outputs)[1:]] == [(2, 0)] * 3


# KerasHub's own tests of the layer, replayed.


def test_original_ragged():
    outputs = MaskedLMMaskGenerator(**ALL)([[5, 3, 2], [1, 2, 3, 4]])
    assert outputs["token_ids"] == [[1, 1, 1], [1, 1, 1, 1]]
    assert outputs["mask_positions"].tolist() == [[0, 1, 2, 0], [0, 1, 2, 3]]
    assert outputs["mask_ids"].tolist() == [[5, 3, 2, 0], [1, 2, 3, 4]]


def test_original_dense():
    outputs = MaskedLMMaskGenerator(**ALL)([[5, 3, 2, 4], [1, 2, 3, 4]])
    assert plain(outputs) == {
        "token_ids": [[1] * 4] * 2,
        "mask_positions": [[0, 1, 2, 3]] * 2,
        "mask_ids": [[5, 3, 2, 4], [1, 2, 3, 4]],
        "mask_weights": [[1] * 4] * 2,
    }


def test_original_unbatched():
    outputs = MaskedLMMaskGenerator(**ALL)([5, 3, 2, 4])
    assert plain(outputs) == {
        "token_ids": [1] * 4,
        "mask_positions": [0, 1, 2, 3],
        "mask_ids": [5, 3, 2, 4],
        "mask_weights": [1] * 4,
    }


def test_original_random_replacement():
    config = {**ALL, "vocabulary_size": 10_000, "mask_token_rate": 0, "random_token_rate": 1}
    outputs = MaskedLMMaskGenerator(**config)([5, 3, 2, 4])
    assert (outputs["token_ids"] != 1).all()  # there: not all of them
    assert outputs["mask_positions"].tolist() == [0, 1, 2, 3]
    assert outputs["mask_ids"].tolist() == [5, 3, 2, 4]


def test_original_number_of_masked_positions():
    masker = MaskedLMMaskGenerator(13, 0.5, 1, mask_selection_length=0)
    outputs = masker([[0, 1, 2], [0, 1, 2, 3, 4, 5], [0, 1, 2, 3, 4]])
    assert outputs["mask_positions"].sum() == 0


def test_original_invalid_mask_token():
    with pytest.raises(ValueError, match="Mask token id should be*"):
        MaskedLMMaskGenerator(13, 0.5, mask_token_id=13, mask_selection_length=5)


def test_original_unselectable_tokens():
    config = {**ALL, "mask_selection_length": 5, "unselectable_token_ids": [12, 11]}
    assert MaskedLMMaskGenerator(**config)([[12, 11]])["mask_weights"].sum() == 0


def test_original_config():
    masker = MaskedLMMaskGenerator(13, 0.5, 1, 5, unselectable_token_ids=[12, 11])
    config = masker.get_config()
    assert config["vocabulary_size"] == 13 and config["unselectable_token_ids"] == [12, 11]
    MaskedLMMaskGenerator.from_config(config)([[5, 3, 2], [1, 2, 3, 4]])


def test_original_batching_before_and_after():
    masker, ones = MaskedLMMaskGenerator(13, 0.5, 1, 5), np.ones((8, 10), np.int32)
    assert masker(ones)["token_ids"].shape == np.stack([masker(r)["token_ids"] for r in ones]).shape


# Seeds and keys.


def test_calls_draw_anew_and_a_seed_repeats_the_whole_sequence():
    one, two = (MaskedLMMaskGenerator(**SOME, seed=7) for _ in range(2))
    calls = [one(IDS) for _ in range(4)]
    assert len({str(plain(outputs)["mask_positions"]) for outputs in calls}) == 4
    for outputs in calls:
        assert_same(outputs, two(IDS))
    assert plain(MaskedLMMaskGenerator(**SOME, seed=8)(IDS)) != plain(calls[0])


def test_without_a_seed_every_object_draws_its_own():
    one, two = (MaskedLMMaskGenerator(**SOME)(IDS) for _ in range(2))
    assert plain(one) != plain(two)


def test_a_key_makes_one_call_reproducible_and_leaves_the_seed_alone():
    one, two = (MaskedLMMaskGenerator(**SOME, seed=7) for _ in range(2))
    assert_same(one(IDS, key=jax.random.key(1)), one(IDS, key=jax.random.key(1)))
    assert plain(one(IDS, key=jax.random.key(2))) != plain(one(IDS, key=jax.random.key(1)))
    assert_same(one(IDS), two(IDS))


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))])
def test_a_copy_goes_on_where_the_original_is(copied):
    masker = MaskedLMMaskGenerator(**SOME, seed=7)
    masker(IDS)
    assert_same(copied(masker)(IDS), masker(IDS))


def test_a_refused_call_draws_nothing():
    one, two = (MaskedLMMaskGenerator(**SOME, seed=7) for _ in range(2))
    with pytest.raises(ValueError):
        one([1000])
    assert_same(one(IDS), two(IDS))


def test_a_row_keeps_its_mask_in_a_longer_batch_and_with_padding():
    masker, key = MaskedLMMaskGenerator(**SOME), jax.random.key(0)
    batch = masker(IDS, key=key)
    wider = masker(np.pad(IDS, ((0, 0), (0, 20))), key=key)
    first = masker(IDS[0], key=key)
    np.testing.assert_array_equal(wider["mask_positions"], batch["mask_positions"])
    np.testing.assert_array_equal(first["token_ids"], batch["token_ids"][0])


def test_config_round_trip_through_json():
    masker = MaskedLMMaskGenerator(**SOME, seed=3)
    config = masker.get_config()
    assert config == {**SOME, "mask_token_rate": 0.8, "random_token_rate": 0.1, "seed": 3}
    again = MaskedLMMaskGenerator.from_config(json.loads(json.dumps(config)))
    assert again.get_config() == config
    assert_same(again(IDS), masker(IDS))
    config["unselectable_token_ids"].append(9)
    assert masker.get_config() == again.get_config()


def test_a_config_of_the_original_is_read():
    layer = {"name": "masker", "trainable": True, "dtype": "float32"}
    masker = MaskedLMMaskGenerator.from_config({**layer, **SOME})
    assert masker.mask_token_id == 4 and masker.unselectable_token_ids == [0, 2, 3]
    assert "mask_selection_rate=0.15" in repr(masker)


def test_a_changed_setting_counts_from_the_next_call():
    masker = MaskedLMMaskGenerator(**SOME, seed=0)
    masker.mask_token_rate, masker.random_token_rate = 0.0, 0.0
    np.testing.assert_array_equal(masker(IDS)["token_ids"], IDS)
    masker.mask_token_id = 1000
    with pytest.raises(ValueError, match="Mask token id should be"):
        masker(IDS)


# Forms of input.


@pytest.mark.parametrize("dtype", ["int32", "int64", "uint16", "uint32", "int16", "uint64"])
def test_numpy_comes_back_as_numpy_of_its_dtype(dtype):
    outputs = MaskedLMMaskGenerator(**SOME, seed=0)(IDS.astype(dtype))
    assert {k: (type(v), str(v.dtype)) for k, v in outputs.items()} == {
        "token_ids": (np.ndarray, dtype),
        "mask_positions": (np.ndarray, "int32"),
        "mask_ids": (np.ndarray, "int32"),
        "mask_weights": (np.ndarray, "float32"),
    }
    assert_same(outputs, MaskedLMMaskGenerator(**SOME, seed=0)(IDS.tolist()))


@pytest.mark.parametrize("dtype", ["int32", "uint16"])
def test_jax_arrays_come_back_as_jax_arrays(dtype):
    outputs = MaskedLMMaskGenerator(**SOME, seed=0)(jnp.asarray(IDS, dtype))
    assert all(isinstance(x, jax.Array) for x in outputs.values())
    assert outputs["token_ids"].dtype == dtype
    assert_same(outputs, MaskedLMMaskGenerator(**SOME, seed=0)(IDS))


def test_without_a_length_each_row_has_what_was_selected():
    masker = MaskedLMMaskGenerator(**{**SOME, "mask_selection_length": None}, seed=0)
    outputs = masker([IDS[0].tolist(), IDS[1, :7].tolist(), []])
    assert [len(row) for row in outputs["token_ids"]] == [32, 7, 0]
    for name in ("mask_positions", "mask_ids", "mask_weights"):
        assert [len(row) for row in outputs[name]] == [5, 2, 0]  # ceil(0.15 n)
    one = masker(IDS[0])
    assert one["mask_positions"].shape == (5,)
    np.testing.assert_array_equal(IDS[0][one["mask_positions"]], one["mask_ids"])


@pytest.mark.parametrize("one", [True, False])
def test_inside_jit_the_same_masks_as_outside(one):
    ids = IDS[0] if one else IDS
    masker, key = MaskedLMMaskGenerator(**SOME), jax.random.key(5)
    inside = jax.jit(lambda ids, key: masker(ids, key=key))(ids.astype(np.uint16), key)
    assert inside["token_ids"].dtype == jnp.uint16
    assert_same(dict(inside), masker(ids, key=key))


def test_inside_jit_constants_are_checked_and_need_a_key_as_well():
    masker, key = MaskedLMMaskGenerator(**SOME, seed=0), jax.random.key(5)
    with pytest.raises(ValueError, match="masker\\(token_ids, key=key\\)"):
        jax.jit(lambda x: masker(IDS)["mask_positions"] + x)(0)
    for inside in (lambda key: masker(IDS, key=key), lambda _: masker(IDS, key=jax.random.key(5))):
        assert_same(dict(jax.jit(inside)(key)), masker(IDS, key=key))
    with pytest.raises(ValueError, match="token id 1000 .row 0, position 1"):
        jax.jit(lambda key: masker([[5, 1000]], key=key))(key)
    with pytest.raises(ValueError, match="rows of equal length"):
        jax.jit(lambda key: masker([[5, 6], [7]], key=key))(key)
    with pytest.raises(ValueError, match="an array inside jax.jit"):
        jax.jit(lambda a, b: masker([a, b], key=key))(IDS[0], IDS[1])


def test_no_rows_at_all():
    outputs = MaskedLMMaskGenerator(**SOME)(np.zeros((0, 9), np.int32))
    assert outputs["token_ids"].shape == (0, 9) and outputs["mask_ids"].shape == (0, 6)


def test_more_than_the_slots_hold_is_dropped_at_random():
    config = {**SOME, "mask_selection_rate": 0.5, "mask_selection_length": 2}
    outputs = MaskedLMMaskGenerator(**config, seed=0)(np.full((4096, 8), 9))
    assert (outputs["mask_weights"] == 1).all()
    hits = np.bincount(outputs["mask_positions"].ravel(), minlength=8)
    assert np.abs(hits - 1024).max() < 5 * np.sqrt(1024 * 7 / 8)


# Refused.


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"mask_selection_rate": -0.1}, "mask_selection_rate is -0.1"),
        ({"mask_selection_rate": float("nan")}, "mask_selection_rate is nan"),
        ({"mask_selection_rate": None}, "mask_selection_rate is None"),
        ({"mask_token_rate": 1.5}, "mask_token_rate is 1.5"),
        ({"random_token_rate": -0.5}, "random_token_rate is -0.5"),
        ({"mask_token_rate": 0.9, "random_token_rate": 0.2}, "add up to more than 1"),
        ({"mask_token_id": 1000}, "Mask token id should be from 0 .* which is 999"),
        ({"mask_selection_length": -1}, "mask_selection_length is -1"),
        ({"unselectable_token_ids": [-1]}, "unselectable_token_ids holds -1"),
        ({"unselectable_token_ids": [1000]}, "unselectable_token_ids holds 1000"),
        ({"seed": 0.5}, "seed is 0.5; give an integer"),
        # JAX keeps the lower 32 bits: 2^32 would be 0 again.
        ({"seed": 2**32}, "seed is 4294967296; give an integer from 0 to"),
        ({"seed": -1}, "seed is -1"),
    ],
)
def test_impossible_settings(change, words):
    with pytest.raises(ValueError, match=words):
        MaskedLMMaskGenerator(**{**SOME, **change})


@pytest.mark.parametrize(
    ("inputs", "words"),
    [
        ([1000], "token id 1000 .row 0, position 0. is outside the vocabulary of 1000"),
        ([[5], [5, -1]], "token id -1 .row 1, position 1. is outside"),
        (np.array([5, 2**63], np.uint64), "token id 9223372036854775808 .row 0, position 1"),
        ([1.5, 2.5], "token ids are float64; give integers"),
        ([[1.5], [2, 3]], "token ids are float64; give integers"),
        (np.ones((2, 3), np.float32), "token ids are float32; give integers"),
        (["a", "b"], "token ids are text; tokenize it first"),
        ("some text", "token ids are text; tokenize it first"),
        (None, "0 dimensions"),
        (jax.random.key(0), "give integers"),
        ([True, False], "token ids are bool; give integers"),
        ([[[5]]], "3 dimensions"),
        ([[[5]], [5, 6]], "3 dimensions"),
        ([5, [6]], "5 stands among lists"),
        (5, "0 dimensions"),
        (np.ones(3, np.uint8), "uint8, which cannot hold every id of a vocabulary of 1000"),
    ],
)
def test_impossible_inputs(inputs, words):
    with pytest.raises(ValueError, match=words):
        MaskedLMMaskGenerator(**SOME)(inputs)


def test_inside_jit_a_key_and_a_length_are_needed():
    masker = MaskedLMMaskGenerator(**SOME)
    with pytest.raises(ValueError, match="masker\\(token_ids, key=key\\)"):
        jax.jit(masker)(IDS)
    masker = MaskedLMMaskGenerator(**{**SOME, "mask_selection_length": None})
    with pytest.raises(ValueError, match="give mask_selection_length"):
        jax.jit(lambda ids, key: masker(ids, key=key))(IDS, jax.random.key(0))


def test_wrong_keys():
    masker = MaskedLMMaskGenerator(**SOME)
    for key in (jax.random.PRNGKey(0), "a", 0):
        with pytest.raises(ValueError, match="make them with jax.random.key"):
            masker(IDS, key=key)
    with pytest.raises(ValueError, match="give one"):
        masker(IDS, key=jax.random.split(jax.random.key(0), 3))
    with pytest.raises(ValueError, match="threefry"):
        masker(IDS, key=jax.random.key(0, impl="rbg"))
