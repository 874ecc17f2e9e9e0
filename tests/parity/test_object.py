"""The object for notebooks on the recorded models: the numbers that the originals gave."""

from pathlib import Path

import jax
import numpy as np
import pytest

from mlm import DistilBertMaskedLM, DistilBertMaskedLMPreprocessor

FOLDER = Path(__file__).parent
TOLERANCE = 2e-5


def recorded(name):
    inputs, outputs = (np.load(FOLDER / name / f"{kind}.npz") for kind in ("inputs", "outputs"))
    return inputs, outputs


@pytest.fixture(scope="module")
def keras():
    return DistilBertMaskedLM.from_preset(FOLDER / "kerashub_distilbert_tiny")


def test_predictions_and_losses_of_a_kerashub_preset(keras):
    inputs, outputs = recorded("kerashub_distilbert_tiny")
    names = ("token_ids", "padding_mask", "mask_positions")
    features = {name: inputs[name] for name in names}
    logits = keras(features)
    np.testing.assert_allclose(logits, outputs["predictions"], atol=TOLERANCE)
    real = inputs["padding_mask"].astype(bool)  # elsewhere states mean nothing
    states = keras.backbone({name: inputs[name] for name in names[:2]})
    np.testing.assert_allclose(states[real], outputs["sequence_output"][real], atol=TOLERANCE)

    report = keras.evaluate(features, inputs["labels"], inputs["sample_weight"])
    # Theirs is divided by all slots, empty ones as well; ours by what is masked.
    share = inputs["sample_weight"].sum() / inputs["sample_weight"].size
    np.testing.assert_allclose(report["loss"] * share, outputs["evaluate_loss"], atol=TOLERANCE)
    np.testing.assert_allclose(report["accuracy"], outputs["evaluate_accuracy"], atol=1e-6)


def test_the_preset_brings_its_tokenizer_and_settings(keras, tmp_path):
    preprocessor = keras.preprocessor
    assert preprocessor.sequence_length == 19 and preprocessor.mask_selection_length == 6
    same = DistilBertMaskedLMPreprocessor.from_preset(FOLDER / "kerashub_distilbert_tiny", seed=0)
    assert repr(same) == repr(preprocessor)
    keras.save_to_preset(tmp_path / "ours")
    again = DistilBertMaskedLM.from_preset(tmp_path / "ours")
    assert repr(again.preprocessor) == repr(preprocessor) and again.config == keras.config
    assert again.preprocessor.tokenizer.hash == preprocessor.tokenizer.hash
    same = jax.tree.map(np.array_equal, again.params, keras.params)
    assert all(jax.tree.leaves(same))


def test_predictions_of_a_hugging_face_folder():
    inputs, outputs = recorded("hf_distilbert_tiny")
    model = DistilBertMaskedLM.from_preset(FOLDER / "hf_distilbert_tiny")
    features = {
        "token_ids": inputs["input_ids"],
        "padding_mask": inputs["attention_mask"],
        "mask_positions": inputs["mask_positions"],
    }
    expected = outputs["logits_at_mask_positions"]
    np.testing.assert_allclose(model.predict(features), expected, atol=TOLERANCE)
    assert model.preprocessor.sequence_length == model.config.max_length == 64
