"""KerasHub's preprocessor, call by call, on its recorded results; then what ours adds."""

import json
from pathlib import Path

import jax
import numpy as np
import pytest
from small_model import CONFIG, TEXTS, TOKENIZER

from mlm import DistilBertMaskedLMPreprocessor, models
from mlm.conversion import save_own
from mlm.errors import CheckpointError, DataError
from mlm.task.preprocessor import read_settings
from mlm.text import load_tokenizer

RECORDED = Path(__file__).parents[1] / "parity/kerashub_distilbert_tiny"
CASES = {
    case["name"]: case for case in json.loads((RECORDED / "preprocessor_cases.json").read_text())
}
KERAS_TOKENIZER = load_tokenizer(RECORDED)


@pytest.mark.parametrize("name", CASES)
def test_recorded_results_of_the_original(name):
    case = CASES[name]
    preprocessor = DistilBertMaskedLMPreprocessor(KERAS_TOKENIZER, **case["config"])
    x = tuple(case["input"]) if case["segments"] else case["input"]
    features, labels, weights = preprocessor(x)
    assert {name: array.tolist() for name, array in features.items()} == case["x"]
    assert (labels.tolist(), weights.tolist()) == (case["y"], case["sample_weight"])


def test_what_a_call_gives():
    preprocessor = DistilBertMaskedLMPreprocessor(TOKENIZER, 16, mask_selection_length=3, seed=0)
    features, labels, weights = preprocessor(TEXTS)
    kinds = {name: (array.shape, str(array.dtype)) for name, array in features.items()}
    assert kinds == {
        "token_ids": ((20, 16), "int32"),
        "padding_mask": ((20, 16), "bool"),
        "mask_positions": ((20, 3), "int32"),
    }
    assert labels.shape == weights.shape == (20, 3) and weights.dtype == "float32"
    originals = features["token_ids"].copy()
    for row, slot in zip(*np.nonzero(weights), strict=True):
        originals[row, features["mask_positions"][row, slot]] = labels[row, slot]
    packed = preprocessor.pack([TEXTS])
    np.testing.assert_array_equal(originals, packed["token_ids"])
    words = packed["padding_mask"].sum(axis=1) - 2
    np.testing.assert_array_equal(weights.sum(axis=1), np.minimum(3, np.ceil(0.15 * words)))


def test_a_single_pair_and_a_batch_of_pairs_keep_both_segments():
    preprocessor = DistilBertMaskedLMPreprocessor(TOKENIZER, 16, mask_selection_rate=0)
    single, *_ = preprocessor(("the cat", "the dog"))
    batch, *_ = preprocessor((["the cat"], ["the dog"]))
    np.testing.assert_array_equal(single["token_ids"], batch["token_ids"][0])
    text = TOKENIZER.decode(single["token_ids"][single["padding_mask"]])
    assert text == "[CLS] the cat [SEP] the dog [SEP]"
    assert preprocessor(["the cat", "the dog"])[0]["token_ids"].shape == (2, 16)


def test_seeds_and_keys():
    make = lambda seed: DistilBertMaskedLMPreprocessor(TOKENIZER, 16, seed=seed)  # noqa: E731
    one, two, other = make(5), make(5), make(6)
    positions = [p(TEXTS)[0]["mask_positions"].tolist() for p in (one, one, two, two, other)]
    assert positions[:2] == positions[2:4] and positions[0] != positions[1] != positions[4]
    first, again = (one(TEXTS, key=jax.random.key(1))[1] for _ in range(2))
    np.testing.assert_array_equal(first, again)


def test_changed_settings_count_from_the_next_call():
    preprocessor = DistilBertMaskedLMPreprocessor(TOKENIZER, 16, seed=0)
    preprocessor.sequence_length, preprocessor.mask_selection_rate = 9, 0.0
    features, _, weights = preprocessor(TEXTS[:2])
    assert features["token_ids"].shape == (2, 9) and not weights.any()
    preprocessor.mask_selection_rate = 2.0
    with pytest.raises(ValueError, match="mask_selection_rate is 2.0"):
        preprocessor(TEXTS[:2])


def test_rows_as_long_as_the_longest_text_have_the_same_ids():
    preprocessor = DistilBertMaskedLMPreprocessor(TOKENIZER, 30)
    whole, short = preprocessor.pack([TEXTS]), preprocessor.pack([TEXTS], multiple=4)
    assert short["token_ids"].shape == (20, 12)
    np.testing.assert_array_equal(short["token_ids"], whole["token_ids"][:, :12])
    assert not whole["padding_mask"][:, 12:].any()
    assert preprocessor.pack([TEXTS], multiple=64)["token_ids"].shape == (20, 30)


def test_special_ids_are_never_selected_and_the_slots_hold_what_the_rate_needs():
    spec = DistilBertMaskedLMPreprocessor(TOKENIZER, 512).masking_spec(length=32)
    special = TOKENIZER.special
    assert set(spec.unselectable_token_ids) == {
        special.pad,
        special.cls,
        special.sep,
        special.mask,
    }
    assert (spec.count, spec.overflow, spec.mask_selection_length) == ("exact", "drop", 6)
    capped = DistilBertMaskedLMPreprocessor(TOKENIZER, 512, mask_selection_length=2)
    assert capped.masking_spec(length=512).mask_selection_length == 2


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"sequence_length": 2}, "sequence_length is 2; give 3 or more"),
        ({"sequence_length": 1.5}, "sequence_length is 1.5; give an integer"),
        ({"truncate": "left"}, "truncate is 'left'; choose"),
        ({"mask_selection_length": -1}, "mask_selection_length is -1"),
        ({"mask_selection_length": None}, "mask_selection_length is None; give an integer"),
        ({"mask_selection_rate": 1.5}, "mask_selection_rate is 1.5"),
        ({"mask_token_rate": 0.95}, "add up to more than 1"),
        ({"seed": -1}, "seed is -1"),
    ],
)
def test_impossible_settings(settings, words):
    with pytest.raises(ValueError, match=words):
        DistilBertMaskedLMPreprocessor(TOKENIZER, **settings)


def test_impossible_calls():
    with pytest.raises(ValueError, match="tokenizer is 'vocab.txt'; give one of mlm.text"):
        DistilBertMaskedLMPreprocessor("vocab.txt")
    preprocessor = DistilBertMaskedLMPreprocessor(TOKENIZER, 3)
    with pytest.raises(DataError, match="not a str"):
        preprocessor([1, 2])
    with pytest.raises(DataError, match="length=3 do not hold"):
        preprocessor(("a", "b", "c"))


def test_a_preset_keeps_the_settings_and_the_caller_has_the_last_word(tmp_path):
    save_own(tmp_path, CONFIG, models.create(CONFIG, jax.random.key(0))[1])
    DistilBertMaskedLMPreprocessor(TOKENIZER, 20, "waterfall", 0.3, 7, 0.5, 0.25).save(tmp_path)
    loaded = DistilBertMaskedLMPreprocessor.from_preset(tmp_path, sequence_length=24)
    assert repr(loaded) == repr(
        DistilBertMaskedLMPreprocessor(TOKENIZER, 24, "waterfall", 0.3, 7, 0.5, 0.25)
    )
    assert loaded.tokenizer.hash == TOKENIZER.hash
    (tmp_path / "preprocessor.json").unlink()
    assert DistilBertMaskedLMPreprocessor.from_preset(tmp_path).sequence_length == 32  # the model's
    (tmp_path / "tokenizer.json").unlink()
    with pytest.raises(CheckpointError, match="holds no tokenizer"):
        DistilBertMaskedLMPreprocessor.from_preset(tmp_path)


def test_settings_of_the_originals_preset():
    settings = read_settings(RECORDED)
    assert settings["sequence_length"] == 19 and settings["mask_selection_length"] == 6
    assert settings["truncate"] == "round_robin" and len(settings) == 6


@pytest.mark.parametrize("content", ["{", "[]", '{"config": 5}', "{}"])
def test_damaged_settings(tmp_path, content):
    (tmp_path / "preprocessor.json").write_text(content)
    with pytest.raises(CheckpointError, match="preprocessor.json cannot be read"):
        read_settings(tmp_path)
