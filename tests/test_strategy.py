"""Functions of the user's own that say what is masked."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tokenizers

from mlm.config import apply_overrides, load_config
from mlm.data import token_counts
from mlm.errors import ConfigError, DataError
from mlm.input import prepare_text
from mlm.masking import MaskingSpec, row_keys
from mlm.strategy import make_starts, make_weights
from mlm.text.tokenizer import SPECIAL_TOKENS, with_special_tokens

DEFAULT = Path(__file__).parent.parent / "configs/default.py"
OWN = """
def given(keys, token_ids, words):
    return words

def of_one_row(keys, token_ids, words):
    return words[0]

def numbers(keys, token_ids, words):
    return token_ids

def of_two(keys, token_ids):
    return token_ids > 0

def a_list(keys, token_ids, words):
    return [words]
"""


@pytest.fixture
def make_config(tiny, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "own_functions.py").write_text(OWN)

    def make_config(**masking):
        config = load_config(str(DEFAULT))
        apply_overrides(config, tiny | {f"masking.{n}": value for n, value in masking.items()})
        return config

    return make_config


@pytest.mark.parametrize(
    "field, function, message",
    [
        ("unit", "of_one_row", r"returns bool\[16\] for ids \(2, 16\); give a .* -> bool\[B, L\]"),
        ("unit", "numbers", r"returns int32\[2, 16\] for ids"),
        ("unit", "of_two", "failed: TypeError: of_two.. takes 2"),
        ("unit", "a_list", "returns list; give a function"),
        ("weights", "of_one_row", r"returns bool\[16\] .* -> float32\[V\] or float32\[B, L\]"),
        ("weights", "numbers", r"returns int32\[2, 16\] for ids"),
    ],
)
def test_a_function_that_gives_something_else_is_told_before_the_compile(
    make_config, field, function, message
):
    config = make_config(**{field: f"own_functions:{function}"})
    text = prepare_text(config, say=str)
    spec = MaskingSpec(len(token_counts(text.train)), 4, 4)
    with pytest.raises(ConfigError, match=f"masking.{field} own_functions:{function}.*{message}"):
        if field == "unit":
            make_starts(config, config.masking.unit, text.tokenizer)
        else:
            make_weights(config, text, spec)


def test_units_of_ones_own_need_no_words(make_config):
    """The error of a tokenizer that does not tell words names them as a way out."""
    vocabulary = {token: id for id, token in enumerate([*SPECIAL_TOKENS, "a", "b"])}
    backend = tokenizers.Tokenizer(tokenizers.models.WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer = with_special_tokens(backend, source="test")
    config = make_config(unit="own_functions:given")
    with pytest.raises(DataError, match="or a function of your own"):
        make_starts(config, "word", tokenizer)
    starts = make_starts(config, config.masking.unit, tokenizer)
    keys, ids = row_keys(jax.random.key(0), 0, np.arange(2)), jnp.full((2, 16), 5)
    assert starts(keys, ids, ids > 0, {}).all()
