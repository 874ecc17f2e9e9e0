"""The masks that are shown are those of training at step 0."""

import jax
import numpy as np
import pytest

from mlm import experiment, learning
from mlm.data import save_units
from mlm.errors import ConfigError, DataError
from mlm.evaluation.frozen import masked_places
from mlm.input import prepare_text
from mlm.inspection import inspect_masks
from mlm.inspection.measure import measure
from mlm.inspection.sample import KEPT, MASK, NONE, RANDOM
from mlm.inspection.terminal import cells

CASES = {
    "token": {},
    "span, frequency, a range of rates, a schedule": {
        "unit": "span",
        "weights": "frequency",
        "rate": 0.4,
        "lowest_rate": 0.1,
        "schedule": "reversed",
        "final_rate": 0.5,
    },
    "pmi, fewer predictions": {"unit": "pmi", "rate": 0.4, "prediction_rate": 0.2},
    "word, adaptive": {"unit": "word", "weights": "loss", "rate": 0.3},
    "ngram, copies": {"unit": "ngram", "rate": 0.2, "prediction_rate": 0.4, "patterns": 2},
}


@pytest.fixture
def trained(monkeypatch):
    """`trained(config)`: batch 0 of its run, and what the run's own mask makes of it."""

    def run(config):
        made = []
        make_mask = learning.make_mask
        with monkeypatch.context() as patch:
            patch.setattr(
                learning, "make_mask", lambda *a, **k: made.append(make_mask(*a, **k)) or made[0]
            )
            exp = experiment.build(config, say=str)
        batch = exp.run.batch_at(0)
        adapts = config.masking.weights in ("loss", "accuracy")
        table = exp.run.init_state().mask_table if adapts else ()
        masked, _ = jax.jit(made[0])(batch, np.int32(0), table)
        return exp, batch, jax.device_get(masked)

    return run


@pytest.mark.parametrize("name", CASES)
def test_shows_what_training_draws(name, config_of, trained):
    config = config_of(**CASES[name])
    _, batch, want = trained(config)
    found = inspect_masks(config, masks=[config.masking.unit], say=str).masked[0]
    size = len(want["token_ids"])
    assert size == 16 * found.copies
    np.testing.assert_array_equal(found.token_ids[: size : found.copies], batch["token_ids"])
    np.testing.assert_array_equal(found.shown[:size], want["token_ids"])
    predicted = np.zeros(found.shown[:size].shape, bool)
    row, slot = np.nonzero(want["mask_weights"])
    predicted[row, want["mask_positions"][row, slot]] = True
    np.testing.assert_array_equal(found.predicted[:size], predicted)


def test_fates_units_and_what_was_asked_for(config_of):
    config = config_of(unit="word", rate=0.4, prediction_rate=0.2, lowest_rate=0.3)
    inspection = inspect_masks(config, masks=["word@0.2"], say=str)
    own, plain = inspection.masked
    mask = inspection.tokenizer.special.mask
    assert [m.name for m in (own, plain)] == ["config word@0.4", "word@0.2"]
    assert (own.requested, plain.requested) == (pytest.approx(0.35), 0.2)
    for masked in (own, plain):
        assert (masked.shown[masked.fates == MASK] == mask).all()
        kept = masked.fates == KEPT
        assert (masked.shown[kept] == masked.token_ids[kept]).all()
        assert not np.isin(masked.shown[masked.fates == RANDOM], [mask]).any()
        changed = masked.shown != masked.token_ids
        assert not (changed & (masked.fates == NONE)).any()
        assert not (masked.predicted & (masked.fates == NONE)).any()
        rate = (masked.fates != NONE).sum() / masked.selectable.sum()
        assert abs(rate - masked.requested) < 0.02
    assert own.predicted.sum() < (own.fates != NONE).sum()  # and kept ones without a label are seen
    assert (own.fates == KEPT).sum() > (own.predicted & (own.fates == KEPT)).sum()
    assert (plain.predicted == (plain.fates != NONE)).all()
    # A word is selected whole, as long as it was not cut.
    goes_on = inspection.continuations[plain.token_ids] & plain.selectable
    goes_on[:, 1:] &= plain.selectable[:, :-1]
    before = np.roll(plain.fates != NONE, 1, axis=1)
    assert ((plain.fates != NONE)[goes_on] == before[goes_on]).all() and goes_on.any()
    assert (plain.leaders[goes_on] < np.nonzero(goes_on)[1]).all()


def test_units_and_weights_of_ones_own(config_of, tmp_path, monkeypatch):
    (tmp_path / "own_pairs.py").write_text(
        "import jax.numpy as jnp\n"
        "def pairs(keys, ids, words):\n"
        "    return jnp.broadcast_to(jnp.arange(ids.shape[1]) % 2 == 1, ids.shape)\n"
        "def early(keys, ids, words):\n"
        "    return jnp.broadcast_to(1.0 * (jnp.arange(ids.shape[1]) < 9), ids.shape)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    config = config_of(unit="own_pairs:pairs", weights="own_pairs:early", rate=0.3)
    masked = inspect_masks(config, masks=["token"], say=str).masked[0]
    assert masked.name == "config own@0.3"
    pairs = masked.selectable & np.roll(masked.selectable, 1, axis=1)
    pairs[:, 1::2] = False
    assert (masked.leaders[pairs] == np.nonzero(pairs)[1] - 1).all() and pairs.any()
    selected = masked.fates != NONE
    assert selected[:, :9].any() and not selected[:, 9:].any()


def test_selected_tokens_without_a_slot_are_told(config_of):
    config = config_of(unit="word", rate=0.5, count="bernoulli", mask_selection_length=8)
    masked = inspect_masks(config, masks=["word@0.5"], say=str).masked[0]
    found = measure(masked, continuations=None, counts=np.ones(96, int))
    selected = int((masked.fates != NONE).sum())
    assert masked.overflow > 0
    assert cells(masked, found)[2] == f"{selected:,} ({masked.overflow:,} more found no slot)"


def test_equal_hashes_are_equal_masks(config_of):
    first, again = (inspect_masks(config_of(), masks=["token@0.3"], say=str) for _ in range(2))
    hashes = [m.hash for m in (*first.masked, *again.masked)]
    assert hashes[:2] == hashes[2:] and hashes[0] != hashes[1] and len(hashes[0]) == 64
    other = config_of()
    with other.unlocked():
        other.seed = 1
    assert inspect_masks(other, masks=["token"], say=str).masked[0].hash not in hashes
    assert masked_places(*np.zeros((2, 1, 4), int), *np.zeros((3, 1, 2), int)) == b""


# ---- lines of a file -----------------------------------------------------------------------------


@pytest.fixture
def lines(tmp_path):
    file = tmp_path / "lines.txt"
    file.write_text(
        "The cat sees the dog.\n\n" + 8 * "the teacher likes one of the children " + "\n"
    )
    return file


def test_lines_of_a_file_are_rows(config_of, lines):
    inspection = inspect_masks(config_of(unit="word"), file=str(lines), masks=["pmi"], say=str)
    own, pmi = inspection.masked
    special, decode = inspection.tokenizer.special, inspection.tokenizer.decode
    assert inspection.rows == f"{len(own.token_ids):,} rows: lines of {lines}"
    assert decode(own.token_ids[0][own.selectable[0]].tolist()) == "the cat sees the dog."
    assert (own.token_ids[:, 0] == special.cls).all()
    # What a long line holds goes on in the next row, and none of it is lost.
    text = lines.read_text().splitlines()[2]
    tokens = inspection.tokenizer.encode([text])[0]
    assert own.token_ids[1:][own.selectable[1:]].tolist() == tokens
    # "one of the children" stands in the stories and is cut as there.
    assert not np.array_equal(pmi.leaders, own.leaders)


def test_refuses_what_is_no_text(config_of, tmp_path):
    empty = tmp_path / "empty.txt"
    empty.write_text("\n  \n")
    with pytest.raises(DataError, match="no words"):
        inspect_masks(config_of(), file=str(empty), say=str)
    with pytest.raises(DataError, match="missing.txt"):
        inspect_masks(config_of(), file=str(tmp_path / "missing.txt"), say=str)


# ---- what cannot be had --------------------------------------------------------------------------


def test_external_units_beside_collocations(config_of, tmp_path, lines):
    text = prepare_text(config_of(), say=str)
    for side, store in text.stores.items():
        every_third = np.arange(store.token_count) % 3 == 0
        save_units(store, every_third, tmp_path / "own" / side)
    config = config_of(unit="external", units=str(tmp_path / "own"))
    own, pmi = inspect_masks(config, masks=["pmi"], say=str).masked
    assert not np.array_equal(own.leaders, pmi.leaders)
    units = [np.unique(row, return_counts=True)[1] for row in own.leaders]
    assert max(map(max, units)) == 3 and sum(map(sum, units)) == own.leaders.size
    with pytest.raises(ConfigError, match="leave out --text"):
        inspect_masks(config, file=str(lines), masks=["token"], say=str)


def test_a_strategy_that_cannot_be_had_is_left_out_unless_it_was_asked_for(config_of):
    config = config_of(pmi_count=10_000_000)
    with pytest.raises(DataError, match="no collocation"):
        inspect_masks(config, masks=["pmi"], say=str)
    inspection = inspect_masks(config, say=str)
    assert [m.name for m in inspection.masked] == [
        "config token@0.15",
        "word@0.15",
        "span@0.15",
        "ngram@0.15",
    ]
    [note] = inspection.notes
    assert note.startswith("pmi@0.15 is left out: ") and "no collocation" in note
