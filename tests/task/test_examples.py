"""Rows in memory and the batches cut of them."""

import jax
import numpy as np
import pytest
from small_model import CONFIG, FEATURES, LABELS, TEXTS, TOKENIZER, WEIGHTS

from mlm import DistilBertMaskedLMPreprocessor
from mlm.task.examples import make_mask, read_examples, split_validation


def of_texts(texts=TEXTS, **settings):
    preprocessor = DistilBertMaskedLMPreprocessor(TOKENIZER, **{"sequence_length": 32, **settings})
    return read_examples(texts, config=CONFIG, preprocessor=preprocessor)


def test_texts_become_rows_of_one_short_length():
    examples = of_texts()
    assert len(examples) == 20 and examples.rows["token_ids"].shape == (20, 16)
    assert of_texts([TEXTS[0] * 2]).rows["token_ids"].shape == (1, 32)
    assert of_texts(sequence_length=10).rows["token_ids"].shape == (20, 10)
    assert examples.rows["example_ids"].tolist() == list(range(20))
    assert examples.masking == of_texts(TEXTS[:3]).masking  # so they share compiled functions
    assert examples.masking != of_texts(mask_token_rate=0.5).masking
    assert examples.masking != of_texts(mask_selection_rate=0.16).masking


def test_features_keep_their_slots_and_get_no_masks():
    examples = read_examples(FEATURES, LABELS, WEIGHTS, config=CONFIG, preprocessor=None)
    batch = next(examples.batches(2))
    masked, counts = make_mask(examples.masking, jax.random.key(0))(batch)
    assert masked is batch and counts.selectable == counts.overflow == 0
    assert (batch["mask_ids"] == LABELS).all() and (batch["mask_weights"] == WEIGHTS).all()
    unlabelled = read_examples(FEATURES, config=CONFIG, preprocessor=None, labelled=False)
    assert "mask_ids" not in unlabelled.rows


def test_batches_follow_the_order_and_the_last_is_filled_up():
    examples = of_texts()
    order = np.random.default_rng(0).permutation(20)
    batches = list(examples.batches(8, order=order, visit=3))
    assert [len(batch["token_ids"]) for batch in batches] == [8, 8, 8]
    seen = np.concatenate([batch["token_ids"] for batch in batches])
    np.testing.assert_array_equal(seen[:20], examples.rows["token_ids"][order])
    assert (seen[20:] == TOKENIZER.special.pad).all()
    last = batches[-1]
    assert not last["padding_mask"][4:].any() and last["visits"].tolist() == [3] * 4 + [0] * 4
    masked, counts = make_mask(examples.masking, jax.random.key(0))(last)
    assert masked["mask_weights"][:4].any() and not masked["mask_weights"][4:].any()
    assert counts.selectable == last["padding_mask"].sum() - 2 * 4


def test_batch_sizes():
    examples = of_texts()
    sizes = [examples.batch_size(asked, devices=8) for asked in (1, 8, 9, 20, 1000)]
    assert sizes == [8, 8, 16, 24, 24]
    assert examples.batch_size(1000, devices=1) == 20


def test_validation_data():
    assert split_validation(TEXTS) == (TEXTS, None, None)
    pairs = (["a"], ["b"])
    assert split_validation(pairs) == (pairs, None, None)
    assert split_validation((FEATURES, LABELS)) == (FEATURES, LABELS, None)
    assert split_validation((FEATURES, LABELS, WEIGHTS)) == (FEATURES, LABELS, WEIGHTS)
    with pytest.raises(ValueError, match="validation_data holds 4 things"):
        split_validation((FEATURES, 1, 2, 3))
