"""`evaluate` and `predict`: the same masks at every call, and numbers checked by hand."""

import jax
import numpy as np
import pytest
from small_model import CONFIG, FEATURES, LABELS, TEXTS, TOKENIZER, WEIGHTS, make_model

from mlm import DistilBertMaskedLM, DistilBertMaskedLMPreprocessor
from mlm.masking import mask_tokens, row_keys
from mlm.task.scoring import frozen_key


@pytest.fixture(scope="module")
def model():
    model = make_model()
    # Far from uniform, so that losses differ and some guesses are right.
    word = 20 * model.backbone.params["embeddings"]["word"]
    embeddings = {**model.backbone.params["embeddings"], "word": word}
    model.backbone.params = {**model.backbone.params, "embeddings": embeddings}
    return model


@pytest.fixture(scope="module")
def prediction(model):
    return model.predict(TEXTS, batch_size=8)


def log_probabilities(logits):
    return np.asarray(jax.nn.log_softmax(logits.astype(np.float64)))


def test_the_masks_are_those_of_the_transform(model, prediction):
    rows = model.preprocessor.pack([TEXTS], multiple=16)
    spec = model.preprocessor.masking_spec(16)
    keys = row_keys(frozen_key(), 0, np.arange(len(TEXTS)))
    masked = mask_tokens(keys, rows["token_ids"], spec, rate=0.15)
    for name in ("mask_positions", "mask_ids", "mask_weights", "token_ids"):
        np.testing.assert_array_equal(getattr(prediction, name), getattr(masked, name))
    assert prediction.logits.shape == (20, 4, CONFIG.vocabulary_size)


def test_a_prediction_is_what_a_call_gives(model, prediction):
    rows = model.preprocessor.pack([TEXTS], multiple=16)
    features = {
        "token_ids": prediction.token_ids,
        "padding_mask": rows["padding_mask"],
        "mask_positions": prediction.mask_positions,
    }
    np.testing.assert_allclose(model(features), prediction.logits, atol=1e-6)
    of_features = model.predict(features, batch_size=9)
    assert of_features.dtype == np.float32
    np.testing.assert_allclose(of_features, prediction.logits, atol=1e-6)


def test_evaluate_against_numpy(model, prediction):
    report = model.evaluate(TEXTS)
    chosen = prediction.mask_weights > 0
    labels = prediction.mask_ids[chosen]
    logs = log_probabilities(prediction.logits)[chosen]
    at_label = logs[np.arange(len(labels)), labels]
    rank = (logs > at_label[:, None]).sum(axis=1)
    words = model.preprocessor.pack([TEXTS])["padding_mask"].sum(axis=1) - 2
    assert report["masked_tokens"] == chosen.sum() == np.ceil(0.15 * words).sum()
    assert report["realised_rate"] == chosen.sum() / words.sum()
    assert report["accuracy"] == (rank < 1).mean() and report["top5"] == (rank < 5).mean()
    assert 0 < report["top5"] < 1
    np.testing.assert_allclose(report["loss"], -at_label.mean(), rtol=1e-6)
    np.testing.assert_allclose(report["perplexity"], np.exp(report["loss"]), rtol=1e-6)


def test_the_same_numbers_at_every_call_and_batch_size(model):
    first = model.evaluate(TEXTS)
    assert model.evaluate(TEXTS) == first
    small = model.evaluate(TEXTS, batch_size=1)
    for name in ("mask_hash", "masked_tokens", "realised_rate", "accuracy", "top5"):
        assert small[name] == first[name]
    np.testing.assert_allclose(small["loss"], first["loss"], rtol=1e-6)  # another vectorisation
    other = model.evaluate(TEXTS[::-1])
    assert other["mask_hash"] != first["mask_hash"]


def test_a_model_of_another_seed_meets_the_same_masks(model):
    other = make_model(seed=7)
    assert other.evaluate(TEXTS[:8])["mask_hash"] == model.evaluate(TEXTS[:8])["mask_hash"]


def test_features_are_measured_by_their_labels_and_weights(model):
    logs = log_probabilities(np.asarray(model(FEATURES)))
    losses = -np.take_along_axis(logs, LABELS[..., None], axis=2)[..., 0]
    report = model.evaluate(FEATURES, LABELS, WEIGHTS)
    np.testing.assert_allclose(report["loss"], losses[WEIGHTS > 0].mean(), rtol=1e-6)
    assert report["masked_tokens"] == 3 and "realised_rate" not in report
    everywhere = model.evaluate(FEATURES, LABELS)
    np.testing.assert_allclose(everywhere["loss"], losses.mean(), rtol=1e-6)
    # Shares of less than one in all: the sum is still divided by their sum.
    light = model.evaluate(FEATURES, LABELS, 0.1 * WEIGHTS)
    np.testing.assert_allclose(light["loss"], report["loss"], rtol=1e-6)
    nothing = model.evaluate(FEATURES, LABELS, 0 * WEIGHTS)
    assert nothing["loss"] == 0 and nothing["masked_tokens"] == 0


def test_pairs(model):
    pairs = (["the cat", "the dog"], ["the fox", "the bird"])
    prediction = model.predict(pairs)
    rows = model.preprocessor.pack(pairs, multiple=16)["token_ids"]
    assert (rows == TOKENIZER.special.sep).sum() == 4
    changed = prediction.token_ids != rows
    assert changed.sum() <= prediction.mask_weights.sum() and not changed[:, 0].any()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([TEXTS, LABELS], "texts make labels and weights of their own"),
        ([FEATURES], "features come without labels"),
        ([(FEATURES, LABELS)], "give them apart, as x, y and weights"),
        (["the cat"], "put it in a list"),
        ([TEXTS, None, None, 0], "batch_size is 0; give 1 or more"),
        ([TEXTS, None, None, 1.5], "batch_size is 1.5; give an integer"),
    ],
)
def test_what_evaluate_refuses(model, arguments, words):
    with pytest.raises(ValueError, match=words):
        model.evaluate(*arguments)


def test_a_preprocessor_that_does_not_fit(model):
    other = DistilBertMaskedLM(model.backbone)
    for call in (other.fit, other.evaluate, other.predict):
        with pytest.raises(
            ValueError, match="make it with from_preset, set .preprocessor, or give"
        ):
            call(TEXTS)
    other.preprocessor = DistilBertMaskedLMPreprocessor(TOKENIZER)
    with pytest.raises(ValueError, match="set preprocessor.sequence_length = 32"):
        other.predict(TEXTS)
    smaller = make_model(CONFIG.__class__(**{**vars(CONFIG), "vocabulary_size": 50}))
    with pytest.raises(ValueError, match="tokenizer has 59 ids, the model 50"):
        smaller.predict(TEXTS)
