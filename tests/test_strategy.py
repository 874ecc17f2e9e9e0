"""Functions of the user as units and weights: what they are told, what is said of wrong ones."""

import importlib
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tokenizers

from mlm.config import apply_overrides, load_config
from mlm.data import read_rows
from mlm.errors import ConfigError, DataError
from mlm.input import prepare_text, training_rows
from mlm.masking import row_keys
from mlm.masks import make_evaluation_masks, make_mask
from mlm.strategy import make_starts
from mlm.text import continuations
from mlm.text.tokenizer import SPECIAL_TOKENS, with_special_tokens

# Functions that a config names; `own.py` in the test's folder.
OWN = """
import jax, jax.numpy as jnp

told = []

def pairs(keys, token_ids, words):  # of words, the first one as the row's key says
    told.append((keys, token_ids, words))
    place = jnp.cumsum(words, axis=1) + jax.vmap(jax.random.bits)(keys)[:, None] % 2
    return words & (place % 2 == 0)

def late(keys, token_ids, words):  # the right half of a row
    right = jnp.arange(token_ids.shape[1]) >= token_ids.shape[1] // 2
    return jnp.broadcast_to(right, token_ids.shape).astype(jnp.float32)

def by_id(keys, token_ids, words):
    return (jnp.arange(96) % 2).astype(jnp.float32)

def column(keys, token_ids, words):
    return words[:, :1]

def numbers(keys, token_ids, words):
    return token_ids

def nothing(keys, token_ids, words):
    pass

def looks(keys, token_ids, words):
    return words if token_ids[0, 0] else ~words

def raises(keys, token_ids, words):
    raise KeyError("a name\\nof two lines")

def two(keys, token_ids):
    return token_ids

def short(keys, token_ids, words):
    return words[:, :16]

def grows(step, total_steps):
    return 0.1 + 0.1 * step

def gap(step, total_steps):
    return 0.1 if step != 2 else float("nan")
"""
WANTED = "give a function (keys key[B], token_ids int32[B, L], words bool[B, L]) -> "


@pytest.fixture(scope="module")
def text(tiny):
    config = load_config("configs/default.py")
    apply_overrides(config, tiny)
    return prepare_text(config, say=str)


@pytest.fixture
def make(tiny, text, tmp_path, monkeypatch):
    """`make(**masking) -> (config, text)`; `own` can be imported."""

    (tmp_path / "own.py").write_text(OWN)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "own", raising=False)

    def make(eval_length=16, **masking):
        config = load_config("configs/default.py")
        fields = {f"masking.{name}": value for name, value in masking.items()}
        apply_overrides(config, {**tiny, "eval.length": eval_length, **fields})
        return config, text

    return make


def batch_of(config, text, rows=32):
    batch = dict(read_rows(training_rows(config, text, say=str), np.arange(rows)))
    batch["example_ids"] = np.arange(rows, dtype=np.int32)
    batch["visits"] = np.zeros(rows, np.int32)
    return batch


def hidden(config, text, batch):
    """`bool[B, L]`: what stands behind [MASK]; every selected token does."""
    split = {"masking.mask_token_rate": 1.0, "masking.random_token_rate": 0.0}
    apply_overrides(config, {**split, "masking.rate": 0.5})
    mask = make_mask(config, text, root=jax.random.key(0), total_steps=3)
    masked, _ = mask(batch, jnp.int32(0), ())
    return np.asarray(masked["token_ids"]) == text.tokenizer.special.mask


def test_units_of_ones_own_are_hidden_whole(make):
    own = importlib.import_module("own")
    config, text = make(unit="own:pairs")
    batch = batch_of(config, text)
    masks = hidden(config, text, batch)
    keys, ids, words = own.told[-1]
    np.testing.assert_array_equal(ids, batch["token_ids"])
    np.testing.assert_array_equal(words, ~continuations(text.tokenizer)[batch["token_ids"]])
    starts = np.asarray(own.pairs(keys, jnp.asarray(ids), jnp.asarray(words)))
    special = np.isin(batch["token_ids"], text.tokenizer.special_ids)
    inside = ~starts[:, 1:] & ~special[:, 1:] & ~special[:, :-1]
    assert inside.sum() > 50 and masks.sum() > 50
    np.testing.assert_array_equal(masks[:, 1:][inside], masks[:, :-1][inside])


def test_the_keys_of_ones_own_differ_by_row_and_from_ours(make):
    own = importlib.import_module("own")
    config, text = make(unit="own:pairs")
    hidden(config, text, batch_of(config, text))
    drawn = jax.random.key_data(own.told[-1][0]).tolist()
    ours = jax.random.key_data(row_keys(jax.random.key(0), np.zeros(32, int), np.arange(32)))
    assert len({tuple(key) for key in [*drawn, *ours.tolist()]}) == 64


@pytest.mark.parametrize("function", ["late", "by_id"])
def test_weights_of_ones_own_decide_what_is_never_selected(make, function):
    config, text = make(weights=f"own:{function}")
    batch = batch_of(config, text)
    masks = hidden(config, text, batch)
    never = batch["token_ids"] % 2 == 0
    if function == "late":
        never = np.broadcast_to(np.arange(16) < 8, never.shape)
    assert masks.sum() > 50 and not masks[never].any()


@pytest.mark.parametrize(
    ("field", "function", "words"),
    [
        ("unit", "column", "it gives bool[3, 1] for token_ids int32[3, 16]"),
        ("unit", "numbers", "it gives int32[3, 16]"),
        ("unit", "nothing", "it gives NoneType"),
        ("unit", "looks", "TracerBoolConversionError"),
        ("unit", "raises", r"KeyError: 'a name\nof two lines'"),
        ("unit", "two", "TypeError: two() takes 2 positional arguments but 3 were given"),
        ("weights", "numbers", "it gives int32[3, 16]"),
        ("weights", "column", "it gives bool[3, 1]"),
        ("weights", "pairs", "it gives bool[3, 16]"),
    ],
)
def test_a_wrong_function_is_one_line_before_anything_is_compiled(make, field, function, words):
    config, text = make(**{field: f"own:{function}"})
    with pytest.raises(ConfigError) as error:
        make_mask(config, text, root=jax.random.key(0), total_steps=3)
    line = str(error.value)
    result = "bool[B, L]" if field == "unit" else "float32[B, L] or float32[V]"
    assert line.startswith(f"masking.{field} is 'own:{function}': ") and "\n" not in line
    assert words in line
    assert line.endswith(WANTED + result)


@pytest.mark.parametrize(
    ("function", "words"),
    [
        ("grows", "masking.schedule own:grows is 1.1"),
        ("gap", "masking.schedule own:gap is nan at step 2 of 12; "),
        ("pairs", "masking.schedule own:pairs failed: TypeError: "),
        ("none", "masking.schedule is 'own:none': AttributeError: "),
    ],
)
def test_a_wrong_schedule_is_one_line_as_well(make, function, words):
    config, text = make(schedule=f"own:{function}")
    with pytest.raises(ConfigError) as error:
        make_mask(config, text, root=jax.random.key(0), total_steps=12)
    assert str(error.value).startswith(words) and "\n" not in str(error.value)


def test_rows_of_evaluation_are_tried_too(make):
    config, text = make(eval_length=32, unit="own:short")
    with pytest.raises(ConfigError, match=r"gives bool\[3, 16\] for token_ids int32\[3, 32\]"):
        make_evaluation_masks(config, text.tokenizer)


def test_units_of_ones_own_need_no_words(make):
    """The error of a tokenizer that does not tell words names them as a way out."""
    vocabulary = {token: id for id, token in enumerate([*SPECIAL_TOKENS, "a", "b"])}
    backend = tokenizers.Tokenizer(tokenizers.models.WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer = with_special_tokens(backend, source="test")
    config, _ = make(unit="own:pairs")
    with pytest.raises(DataError, match="or a function of your own"):
        make_starts(config, "word", tokenizer)
    starts = make_starts(config, config.masking.unit, tokenizer)
    keys, ids = row_keys(jax.random.key(0), 0, np.arange(4)), jnp.full((4, 16), 5)
    assert starts(keys, ids, ids > 0, {}).sum() == 4 * 8  # each token is a word
