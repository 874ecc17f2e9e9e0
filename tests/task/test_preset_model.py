"""The object before it learns: called, filled in, printed, saved and loaded."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from small_model import CONFIG, FEATURES, TEXTS, TOKENIZER, make_model

from mlm import DistilBertBackbone, DistilBertMaskedLM, DistilBertMaskedLMPreprocessor, models
from mlm.errors import ConfigError, OutputError


@pytest.fixture(scope="module")
def model():
    return make_model(mask_selection_length=5)


def bits(params):
    return [np.asarray(leaf).tobytes() for leaf in jax.tree.leaves(params)]


def test_a_call_gives_the_logits_of_the_model(model):
    graphdef, _ = models.create_abstract(CONFIG)
    logits = model(FEATURES)
    assert logits.shape == (2, 2, CONFIG.vocabulary_size) and logits.dtype == jnp.float32
    expected = models.apply(graphdef, model.params, FEATURES)
    np.testing.assert_allclose(logits, expected, atol=1e-6)
    lists = {name: np.asarray(array).astype(int).tolist() for name, array in FEATURES.items()}
    np.testing.assert_array_equal(model(lists), logits)


def test_the_head_is_that_of_the_seed_and_no_copy_of_the_embedding(model):
    assert bits(make_model().params) == bits(model.params)
    assert bits(make_model(seed=1).params["head"]) != bits(model.params["head"])
    width = CONFIG.width
    kernel, word = (
        model.params["head"]["dense"]["kernel"],
        model.backbone.params["embeddings"]["word"],
    )
    assert not np.allclose(kernel, word[:width])


def test_models_may_share_a_backbone(model):
    other = DistilBertMaskedLM(model.backbone)
    assert other.backbone is model.backbone and other.config == CONFIG
    word = other.params["backbone"]["embeddings"]["word"]
    assert word is model.params["backbone"]["embeddings"]["word"]


def test_params_can_be_set_as_a_whole_or_not_at_all(model):
    other, before = make_model(seed=1), bits(make_model(seed=1).params)
    with pytest.raises(ValueError, match="params do not fit the model: missing head/dense/bias"):
        other.params = {"backbone": model.params["backbone"], "head": {}}
    assert bits(other.params) == before
    other.params = model.params
    assert bits(other.params) == bits(model.params)


def test_fill_mask(model):
    text = "the [MASK] sees the [MASK]."
    first, second = model.fill_mask(text, top_k=3)
    ids = [TOKENIZER.special.cls, *TOKENIZER.encode_prompt(text), TOKENIZER.special.sep]
    features = {"token_ids": [ids], "padding_mask": [[1] * len(ids)], "mask_positions": [[2, 5]]}
    for guesses, logits in zip((first, second), np.asarray(model(features))[0], strict=True):
        best = np.argsort(-logits)[:3]
        assert [g.token for g in guesses] == [TOKENIZER.token(i) for i in best]
        expected = np.asarray(jax.nn.softmax(logits))[best]
        np.testing.assert_allclose([g.probability for g in guesses], expected, rtol=1e-5)
    assert model.fill_mask([text, "a [MASK]"], 3)[0] == [first, second]
    assert [len(guesses) for guesses in model.fill_mask("[MASK]")] == [5]


def test_fill_mask_refuses(model):
    with pytest.raises(ConfigError, match=r"has no \[MASK\]"):
        model.fill_mask("the cat")
    with pytest.raises(ConfigError, match="has 43 tokens; the model reads 32"):
        model.fill_mask("[MASK]" + " cat" * 40)
    with pytest.raises(ValueError, match="top_k is 0"):
        model.fill_mask("[MASK]", top_k=0)
    with pytest.raises(ValueError, match="no preprocessor: make it with from_preset"):
        DistilBertMaskedLM(model.backbone).fill_mask("[MASK]")


def test_a_preset_gives_the_same_model_again(model, tmp_path):
    model.save_to_preset(tmp_path / "mine")
    files = ["config.json", "model.safetensors", "preprocessor.json", "tokenizer.json"]
    assert sorted(path.name for path in (tmp_path / "mine").iterdir()) == files
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]

    loaded = DistilBertMaskedLM.from_preset(tmp_path / "mine")
    assert bits(loaded.params) == bits(model.params) and loaded.config == CONFIG
    assert loaded.preprocessor.tokenizer.hash == TOKENIZER.hash
    assert loaded.preprocessor.mask_selection_length == 5
    assert loaded.preprocessor.sequence_length == 16
    fresh = DistilBertMaskedLM.from_preset(tmp_path / "mine", load_weights=False, seed=2)
    assert bits(fresh.params) != bits(model.params)
    assert bits(fresh.params["backbone"]) == bits(DistilBertBackbone(CONFIG, seed=2).params)
    own = DistilBertMaskedLMPreprocessor(TOKENIZER, 8)
    assert DistilBertMaskedLM.from_preset(tmp_path / "mine", preprocessor=own).preprocessor is own
    without = DistilBertMaskedLM.from_preset(tmp_path / "mine", preprocessor=None)
    assert without.preprocessor is None
    without.save_to_preset(tmp_path / "bare")
    bare = DistilBertMaskedLM.from_preset(tmp_path / "bare", preprocessor=None)
    assert bits(bare.params) == bits(model.params)


def test_saving_leaves_what_is_there_and_no_half_folder(model, tmp_path, monkeypatch):
    (tmp_path / "full").mkdir()
    (tmp_path / "full/mine.txt").write_text("mine")
    (tmp_path / "file").write_text("mine")
    for name in ("full", "file"):
        with pytest.raises(OutputError, match="exists already; choose a new folder"):
            model.save_to_preset(tmp_path / name)
    with pytest.raises(OutputError, match="cannot be written"):
        model.save_to_preset(tmp_path / "file/below")

    def full_disk(folder, config, params):
        (folder / "config.json").write_text("{")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("mlm.task.preset_model.save_own", full_disk)
    with pytest.raises(OutputError, match="new cannot be written .No space left on device"):
        model.save_to_preset(tmp_path / "new")
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["file", "full", "mine.txt"]


def test_an_empty_folder_is_filled(model, tmp_path):
    (tmp_path / "empty").mkdir()
    model.save_to_preset(str(tmp_path / "empty"))
    assert (tmp_path / "empty/config.json").exists()


def test_summary(model, capsys):
    model.summary()
    total = models.parameter_count(model.params)
    assert capsys.readouterr().out.count(f"{total:,}") == 2
    model.backbone.trainable = False
    model.summary()
    model.backbone.trainable = True
    head = models.parameter_count(model.params["head"])
    rows = [line.split() for line in capsys.readouterr().out.splitlines() if "│" in line]
    sizes = {row[1]: (row[-4], row[-2]) for row in rows}
    assert sizes["all"] == (f"{total:,}", f"{head:,}")
    assert sizes["backbone/layers/0"] == ("2,224", "0")
    assert sizes["head/dense"] == ("272", "272")


def test_the_preprocessor_can_be_set(model):
    other = DistilBertMaskedLM(model.backbone)
    other.preprocessor = model.preprocessor
    assert other.preprocessor is model.preprocessor
    with pytest.raises(ValueError, match="preprocessor is 'vocab.txt'; give a DistilBertMasked"):
        other.preprocessor = "vocab.txt"
    assert other.preprocessor is model.preprocessor
    with pytest.raises(ValueError, match="backbone is .*; give an mlm.DistilBertBackbone"):
        DistilBertMaskedLM(CONFIG)


def test_texts_in_place_of_features(model):
    with pytest.raises(ValueError, match="features are list; give a dict .* or texts to fit"):
        model(TEXTS)
