import jax.numpy as jnp
import numpy as np
import pytest

from mlm.errors import ConfigError
from mlm.evaluation.fill_mask import make_fill_mask
from mlm.text import train_tokenizer

TEXTS = ["the cat sees the dog in the garden"] * 5
TOKENIZER = train_tokenizer(TEXTS, vocabulary_size=64, lowercase=True)


def follower(params, batch, key=None):
    """Logits that prefer the token before the position, then the one behind it."""
    positions = batch["mask_positions"]
    before = jnp.take_along_axis(batch["token_ids"], positions - 1, axis=1)
    behind = jnp.take_along_axis(batch["token_ids"], positions + 1, axis=1)
    ids = jnp.arange(TOKENIZER.vocabulary_size)
    return 5.0 * (ids == before[..., None]) + 4.0 * (ids == behind[..., None])


FILL = make_fill_mask(follower, TOKENIZER, length=12)


def test_each_mask_gets_its_own_candidates():
    first, second = FILL({}, "the [MASK] cat sees [MASK] dog", top_k=2)
    assert [g.token for g in first] == ["the", "cat"]
    assert [g.token for g in second] == ["sees", "dog"]
    size = TOKENIZER.vocabulary_size
    total = np.exp(5) + np.exp(4) + size - 2
    np.testing.assert_allclose(
        [g.probability for g in first], [np.exp(5) / total, np.exp(4) / total], rtol=1e-5
    )


def test_a_text_without_mask_is_refused():
    with pytest.raises(ConfigError, match=r"'the cat' has no \[MASK\]; write \[MASK\]"):
        FILL({}, "the cat")


def test_a_text_that_is_too_long_is_refused():
    with pytest.raises(ConfigError, match="has 23 tokens; the model reads 12"):
        FILL({}, "the [MASK]" + " cat" * 19)


def test_embeddings_beyond_the_vocabulary_are_no_candidates():
    def beyond(params, batch, key=None):
        logits = follower(params, batch)
        return jnp.pad(logits, ((0, 0), (0, 0), (0, 3)), constant_values=9.0)

    [guesses] = make_fill_mask(beyond, TOKENIZER, length=12)({}, "the [MASK] cat", top_k=2)
    assert [g.token for g in guesses] == ["the", "cat"] and guesses[0].probability < 0.01
