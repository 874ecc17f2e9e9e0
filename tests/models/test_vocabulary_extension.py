from pathlib import Path

import jax
import numpy as np
import pytest

from mlm.conversion import load_huggingface
from mlm.models import apply, create_abstract, extend_vocabulary

SOURCE = Path(__file__).parents[1] / "parity" / "hf_distilbert_tiny"


@pytest.fixture
def model():
    loaded = load_huggingface(SOURCE)
    config, params = loaded.config, loaded.params
    word = params["backbone"]["embeddings"]["word"]
    word[:4] = np.arange(4, dtype=np.float32)[:, None] * np.ones(32, np.float32)
    params["head"]["output_bias"][:4] = [1.0, 2.0, 6.0, 0.25]
    return config, params


def test_a_new_row_is_the_mean_of_its_pieces(model):
    config, params = extend_vocabulary(*model, [[1, 2], [3], [3, 3, 0, 1]])
    assert config.vocabulary_size == 123
    word, bias = params["backbone"]["embeddings"]["word"], params["head"]["output_bias"]
    assert word.shape == (123, 32) and bias.shape == (123,)
    assert word.dtype == bias.dtype == np.float32
    np.testing.assert_array_equal(word[120:, 5], [1.5, 3.0, 1.75])
    np.testing.assert_array_equal(bias[120:], [4.0, 0.25, 0.875])


def test_what_was_there_stays_and_what_was_given_too(model):
    config, params = model
    before = jax.tree.map(np.copy, params)
    _, extended = extend_vocabulary(config, params, [[5, 6]])
    jax.tree.map(np.testing.assert_array_equal, params, before)
    extended["backbone"]["embeddings"]["word"] = extended["backbone"]["embeddings"]["word"][:120]
    extended["head"]["output_bias"] = extended["head"]["output_bias"][:120]
    jax.tree.map(np.testing.assert_array_equal, extended, before)


def test_logits_of_old_ids_keep_their_bits(model):
    longer = extend_vocabulary(*model, [[5, 6], [7]])
    ids = np.random.default_rng(0).integers(5, 120, (3, 9)).astype(np.int32)
    old, new = (apply(create_abstract(c)[0], p, {"token_ids": ids}) for c, p in (model, longer))
    assert new.shape == (3, 9, 122)
    np.testing.assert_array_equal(new[..., :120], old)
    np.testing.assert_array_equal(new[..., 121], old[..., 7])


def test_no_new_tokens_change_nothing(model):
    config, params = extend_vocabulary(*model, [])
    assert config is model[0] and params is model[1]
