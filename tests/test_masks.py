"""The masks of training and of evaluation, from a config on a small corpus."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mlm import input as inputs
from mlm.config import apply_overrides, load_config
from mlm.data import read_rows
from mlm.errors import ConfigError
from mlm.masks import adaptive, make_evaluation_masks, make_mask
from mlm.training.adaptive import init_table

DEFAULT = Path(__file__).parent.parent / "configs/default.py"
ROOT = jax.random.key(3)
STEPS = 10
OWN = """
import numpy as np
import jax.numpy as jnp

def pairs(keys, token_ids, words):
    return jnp.broadcast_to(jnp.arange(token_ids.shape[1]) % 2 == 1, token_ids.shape)

def first_half(keys, token_ids, words):
    return jnp.where(jnp.arange(token_ids.shape[1]) < 16, 1.0, 0.0) + 0.0 * token_ids

def falling(step, total_steps):
    return 0.5 - 0.4 * step / total_steps

def high(step, total_steps): return 0.6
def none(step, total_steps):
    return 0.0

def leaving(step, total_steps):
    return 0.5 + step
"""


@pytest.fixture(scope="module")
def make_config(tiny):
    def make_config(**fields):
        config = load_config(str(DEFAULT))
        apply_overrides(config, tiny | {"data.length": 32, "model.max_length": 32} | fields)
        return config

    return make_config


@pytest.fixture(scope="module")
def text(make_config):
    return inputs.prepare_text(make_config(), say=str)


@pytest.fixture
def make(make_config, text, tmp_path, monkeypatch):
    """`make(**masking)`: the config, the mask function and a batch of rows of their first visit."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "own_strategies.py").write_text(OWN)

    def make(rows=64, **masking):
        config = make_config(**{f"masking.{name}": value for name, value in masking.items()})
        mask = make_mask(config, text, root=ROOT, total_steps=STEPS)
        ids = np.arange(rows, dtype=np.int32)
        batch = read_rows(inputs.training_rows(config, text, say=str), ids)
        table = adaptive(config, text.tokenizer.vocabulary_size)
        table = () if table is None else init_table(table)
        return mask, batch | {"example_ids": ids, "visits": np.zeros_like(ids)}, table

    return make


def masked(made, step=0, **changed):
    mask, batch, table = made
    result, counts = jax.jit(mask)(batch | changed, jnp.int32(step), table)
    return jax.device_get(result), jax.device_get(counts)


@pytest.mark.parametrize(
    "masking, selected, predicted",
    [
        ({"rate": 0.4}, 0.4, 0.4),
        ({"rate": 0.4, "unit": "word"}, 0.4, 0.4),
        ({"rate": 0.4, "unit": "span"}, 0.4, 0.4),
        ({"rate": 0.4, "unit": "ngram", "ngram": (2, 2)}, 0.4, 0.4),
        ({"rate": 0.4, "unit": "pmi", "fit": "truncate"}, 0.4, 0.4),
        ({"rate": 0.4, "unit": "word", "count": "bernoulli"}, 0.4, 0.4),
        ({"rate": 0.4, "unit": "own_strategies:pairs"}, 0.4, 0.4),
        ({"rate": 0.4, "weights": "frequency", "unit": "word"}, 0.4, 0.4),
        ({"rate": 0.4, "weights": "loss"}, 0.4, 0.4),
        ({"rate": 0.4, "random_ids": "unigram", "patterns": 2}, 0.4, 0.4),
        ({"rate": 0.4, "prediction_rate": 0.2, "unit": "word"}, 0.4, 0.2),
        (
            {"rate": 0.2, "final_rate": 0.4, "schedule": "reversed", "prediction_rate": 0.2},
            0.4,
            0.2,
        ),
        ({"rate": 0.4, "prediction_rate": 0.2, "mask_selection_length": 7}, 0.4, 0.2),
        ({"rate": 0.2, "prediction_rate": 0.6}, 0.2, 0.6),
        ({"rate": 0.2, "prediction_rate": 0.4, "unit": "word", "fit": "truncate"}, 0.2, 0.4),
        ({"rate": 0.6, "lowest_rate": 0.2}, 0.4, 0.4),
        ({"schedule": "own_strategies:falling", "unit": "word"}, 0.5, 0.5),
        ({"schedule": "own_strategies:high", "prediction_rate": 0.3}, 0.6, 0.3),
    ],
)
def test_every_combination_selects_and_predicts_as_much_as_asked(
    make, masking, selected, predicted
):
    made = make(**masking)
    batch, counts = masked(made)
    slack = 0.05 if masking.get("count") == "bernoulli" or "lowest_rate" in masking else 0.02
    assert counts.corrupted / counts.selectable == pytest.approx(selected, abs=slack)
    assert batch["mask_weights"].sum() / counts.selectable == pytest.approx(predicted, abs=slack)
    assert counts.overflow == 0 and "unit_starts" not in batch
    copies = len(batch["token_ids"]) // 64
    originals = np.repeat(made[1]["token_ids"], copies, axis=0)
    filled = batch["mask_weights"] > 0
    at_slots = np.take_along_axis(originals, batch["mask_positions"], axis=1)
    np.testing.assert_array_equal(batch["mask_ids"][filled], at_slots[filled])
    assert {len(values) for values in batch.values()} == {64 * copies}


def test_copies_of_a_row_stand_side_by_side_and_hide_other_tokens(make):
    made = make(rate=0.2, prediction_rate=0.6)
    batch, _ = masked(made)
    np.testing.assert_array_equal(batch["example_ids"], np.repeat(np.arange(64), 3))
    for row in range(64):
        of_row = slice(3 * row, 3 * row + 3)
        places = batch["mask_positions"][of_row][batch["mask_weights"][of_row] > 0]
        assert len(places) == len(set(places.tolist()))


@pytest.mark.parametrize(
    "patterns, same",
    [(0, [[0], [1], [2], [3]]), (1, [[0, 1, 2, 3]]), (3, [[0, 3], [1], [2]])],
)
def test_patterns_come_again_in_turn(make, patterns, same):
    made = make(patterns=patterns, rate=0.5)
    hashes = {}
    for visit in range(4):
        batch, _ = masked(made, visits=np.full(64, visit, np.int32))
        hashes.setdefault(batch["mask_positions"].tobytes(), []).append(visit)
    assert list(hashes.values()) == same


def test_a_schedule_moves_rate_and_split_without_compiling_again(make):
    made = make(
        rate=0.5,
        final_rate=0.1,
        mask_token_rate=1.0,
        final_mask_token_rate=0.0,
        random_token_rate=0.0,
        schedule="linear",
    )
    traces = []

    @jax.jit
    def mask(step):
        traces.append(step)
        return made[0](made[1], step, made[2])

    shares = []
    for step in range(STEPS):
        batch, counts = mask(jnp.int32(step))
        hidden = (batch["token_ids"] == 4).sum()
        shares.append((counts.corrupted / counts.selectable, hidden / counts.corrupted))
    np.testing.assert_allclose(shares[0], (0.5, 1), atol=0.01)
    np.testing.assert_allclose(shares[4], (0.5 - 4 / 9 * 0.4, 1 - 4 / 9), atol=0.06)
    np.testing.assert_allclose(shares[-1], (0.1, 0), atol=0.01)
    assert len(traces) == 1


def test_rows_draw_their_rate_from_a_range(make):
    made = make(rate=0.8, lowest_rate=0.2, count="exact")
    batch, _ = masked(made)
    selectable = np.isin(made[1]["token_ids"], (0, 2, 3, 4), invert=True).sum(axis=1)
    rates = batch["mask_weights"].sum(axis=1) / selectable
    assert 0.15 < rates.min() < 0.3 and 0.7 < rates.max() < 0.9
    assert abs(rates.mean() - 0.5) < 0.07


def test_weights_of_0_are_never_selected_and_adaptive_ones_follow_their_table(make):
    batch, _ = masked(make(rate=0.3, weights="own_strategies:first_half"))
    assert batch["mask_positions"].max() < 16
    mask, rows, table = make(rate=0.15, weights="accuracy")
    known = np.bincount(rows["token_ids"].ravel(), minlength=96)[5:].argmax() + 5
    before, _ = masked((mask, rows, table))
    after, _ = masked((mask, rows, table.at[known].set(1.0)))
    seen = [(b["mask_ids"] == known).sum() for b in (before, after)]
    assert seen[1] < seen[0] / 10


@pytest.mark.parametrize("unit", ["token", "word", "span", "ngram", "pmi"])
def test_masks_do_not_depend_on_the_batch(make, unit):
    whole, rows, table = make(unit=unit, rate=0.3)
    batch, _ = masked((whole, rows, table))
    some = np.array([40, 3, 17])
    part, _ = masked((whole, {name: values[some] for name, values in rows.items()}, table))
    for name, values in part.items():
        np.testing.assert_array_equal(values, batch[name][some])


def test_evaluation_masks_ignore_the_settings_of_training(make_config, text):
    kinds = {"eval.masks": ("token@0.15", "word@0.3", "span@0.3")}
    changed = {
        "rate": 0.5,
        "count": "exact",
        "fit": "truncate",
        "weights": "frequency",
        "mask_token_rate": 1.0,
        "random_token_rate": 0.0,
        "select_unknown": False,
        "patterns": 2,
    }
    changed = {f"masking.{name}": value for name, value in changed.items()}
    config, other = make_config(**kinds), make_config(**kinds, **changed)
    ids = np.arange(16, dtype=np.int32)
    batch = read_rows(inputs.heldout_rows(config, text), ids)
    batch |= {"example_ids": ids, "visits": np.zeros_like(ids)}
    ours, theirs = (make_evaluation_masks(c, text.tokenizer) for c in (config, other))
    assert list(ours) == list(theirs) == ["token@0.15", "word@0.3", "span@0.3"]
    for name, (mask, rate) in ours.items():
        one, two = (jax.device_get(m(batch, rate)[0]) for m in (mask, theirs[name][0]))
        for field in one:
            np.testing.assert_array_equal(one[field], two[field])


@pytest.mark.parametrize(
    "masking, message",
    [
        ({"schedule": "own_strategies:leaving"}, "leaving is 1.5 at step 1 of 10; return a share"),
        ({"schedule": "own_strategies:none"}, "none is 0 at every step"),
        ({"schedule": "own_strategies:pairs"}, "pairs failed: TypeError: pairs"),
        ({"schedule": "own_strategies:nothing"}, "has no attribute 'nothing'"),
        (
            {"schedule": "own_strategies:falling", "mask_selection_length": 8},
            "data.length 32 at masking.schedule own_strategies:falling 0.5 needs 16",
        ),
        (
            {"schedule": "own_strategies:falling", "lowest_rate": 0.3},
            "masking.lowest_rate 0.3 is above the smallest rate of masking.schedule own_strat",
        ),
        ({"weights": "absent.npy"}, "masking.weights absent.npy: no such file"),
        ({"weights": "short.npy"}, "masking.weights short.npy: 5 for a vocabulary of 96"),
    ],
)
def test_what_a_config_names_and_cannot_be_used(make, masking, message, tmp_path):
    np.save(tmp_path / "short.npy", np.ones(5))
    with pytest.raises(ConfigError, match=message):
        make(**masking)
