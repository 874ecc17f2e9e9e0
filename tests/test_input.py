"""What `config.data` says, as text, rows and batches."""

import subprocess
import sys

import numpy as np
import pytest

from mlm import input as module
from mlm.config import apply_overrides, load_config
from mlm.data import read_rows, save_units
from mlm.errors import ConfigError, DataError


@pytest.fixture
def make(tiny, corpus_file, tmp_path):
    """`make(**fields)`: a config on two sources, the stories and forty numbered lines."""
    second = tmp_path / "numbers.jsonl"
    second.write_text("".join(f'{{"text": "the dog sees {n}"}}\n' for n in range(40)))

    def make(**fields):
        config = load_config("configs/default.py")
        both = {"data.corpus": f"{corpus_file},{second}", "data.cache_dir": str(tmp_path / "cache")}
        named = {f"data.{name}": value for name, value in fields.items()}
        apply_overrides(config, tiny | both | named)
        return config

    return make


def epoch_of(config):
    text = module.prepare_text(config, say=str)
    rows = module.training_rows(config, text)
    batch_at = module.batch_function(config, rows)
    batches = [batch_at(k) for k in range(len(rows) // 16)]
    ids = np.concatenate([batch["example_ids"] for batch in batches])
    return rows, ids, np.concatenate([batch["visits"] for batch in batches])


def test_sources_share_rows_unless_they_have_shares(make):
    rows, ids, visits = epoch_of(make())
    assert rows.source_bounds.tolist() == [0, len(rows)]
    assert len(set(ids.tolist())) == len(ids) and not visits.any()


@pytest.mark.parametrize(
    "fields, share", [({"shares": (0.25, 0.75)}, 0.25), ({"temperature": 1e6}, 0.5)]
)
def test_shares_of_an_epoch(make, fields, share):
    rows, ids, visits = epoch_of(make(**fields))
    begin, border, end = rows.source_bounds
    assert (begin, end) == (0, len(rows)) and border > 4 * (end - border)
    first = np.count_nonzero(ids < border)
    assert abs(first - share * len(rows)) < 17  # the epoch's last rows are in a batch of the next
    assert visits.max() > 2 and not visits[ids < border].any()
    text = read_rows(rows, np.arange(border, end))["token_ids"]
    assert np.count_nonzero(text[:, 0] == rows.special.cls) == len(text)


def test_a_curriculum_begins_with_frequent_words(make):
    rows, ids, _ = epoch_of(make(curriculum="rarity"))
    from mlm.data import row_difficulty

    difficulty = row_difficulty(rows, "rarity")[ids]
    tenth = len(ids) // 10
    assert difficulty[:tenth].max() < difficulty[-tenth:].min()


def test_an_overlap_makes_more_rows(make):
    assert len(epoch_of(make(overlap=8))[0]) > len(epoch_of(make())[0])


def test_held_out_rows_are_the_same_whatever_is_trained_on(make):
    plain = make()
    changed = make(overlap=8, shares=(0.5, 0.5), rows="document")
    rows = [module.heldout_rows(c, module.prepare_text(c, say=str)) for c in (plain, changed)]
    ids = [read_rows(r, np.arange(len(r)))["token_ids"] for r in rows]
    assert np.array_equal(*ids)


def test_a_prepared_store_and_something_to_prepare(make, tmp_path):
    config = make(store=str(tmp_path / "store"))
    with pytest.raises(ConfigError, match="is prepared already and documents would not be read"):
        module.prepare_text(config, documents=["a"], say=str)
    with pytest.raises(ConfigError, match="is prepared already and --out .* would stay empty"):
        module.prepare_text(config, folder=tmp_path / "out", say=str)


def test_shares_of_a_store_are_counted_when_it_is_opened(make, tmp_path):
    text = module.prepare_text(make(), folder=tmp_path / "store", say=str)
    config = make(store=str(tmp_path / "store"), shares=(1, 2, 3))
    rows = module.training_rows(config, text)
    with pytest.raises(ConfigError, match="data.shares has 3 numbers for 2 sources"):
        module.batch_function(config, rows)


def test_a_source_that_is_all_held_out(make, tmp_path):
    (tmp_path / "one.txt").write_text("the cat")
    corpus = f"{make().data.corpus},{tmp_path / 'one.txt'}"
    config = make(corpus=corpus, shares=(1, 1, 1), heldout_fraction=0.9999)
    text = module.prepare_text(make(corpus=corpus, heldout_fraction=0.9), say=str)
    assert text.train.sources[2]["documents"] == 0
    with pytest.raises(DataError, match="of .*one.txt there is no row to train on"):
        rows = module.training_rows(config, text)
        module.batch_function(config, rows)


def test_the_input_does_not_import_jax():
    code = "import sys, mlm.input; print([m for m in ('jax', 'flax', 'torch') if m in sys.modules])"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


# Units.


@pytest.fixture
def with_masking(make):
    def with_masking(masks=(), **fields):
        config = make()
        named = {f"masking.{name}": value for name, value in fields.items()}
        apply_overrides(config, named | {"eval.masks": masks})
        return config

    return with_masking


def units_of(config):
    """The names of the units of training and held-out rows."""
    text = module.prepare_text(config, say=str)
    rows = [make(config, text, say=str) for make in (module.training_rows, module.heldout_rows)]
    for made in rows:
        assert ("unit_starts" in read_rows(made, [0])) == bool(made.units)
    return [made.units and made.units.meta["name"] for made in rows]


@pytest.fixture
def external(with_masking, tmp_path):
    text = module.prepare_text(with_masking(), say=str)
    for side, store in text.stores.items():
        save_units(store, np.arange(store.token_count) % 3 == 0, tmp_path / "own" / side)
    return str(tmp_path / "own")


def test_rows_have_units_where_a_unit_needs_a_bitmap(with_masking, external):
    assert units_of(with_masking()) == [None, None]
    assert units_of(with_masking(unit="span", masks=("word@0.15",))) == [None, None]
    assert units_of(with_masking(unit="pmi")) == ["pmi", "pmi"]
    assert units_of(with_masking(unit="pmi", masks=("token@0.15",))) == ["pmi", None]
    assert units_of(with_masking(masks=("token@0.15", "pmi@0.4"))) == [None, "pmi"]
    assert units_of(with_masking(unit="external", units=external)) == ["own", "own"]
    mixed = with_masking(unit="external", units=external, masks=("pmi@0.15",))
    assert units_of(mixed) == ["own", "pmi"]


def test_units_that_rows_cannot_have(with_masking, external, tmp_path):
    both = with_masking(unit="pmi", masks=("pmi@0.15", "external@0.15"), units=external)
    with pytest.raises(ConfigError, match="eval.masks .* has both 'pmi' and 'external'"):
        units_of(both)
    with pytest.raises(ConfigError, match="masking.units is empty and 'external' needs it"):
        units_of(with_masking(unit="external"))
    with pytest.raises(DataError, match="no units at .*nowhere"):
        units_of(with_masking(unit="external", units=str(tmp_path / "nowhere")))
    text = module.prepare_text(with_masking(), say=str)
    save_units(text.train, np.ones(text.train.token_count, bool), tmp_path / "swapped" / "heldout")
    save_units(
        text.heldout, np.ones(text.heldout.token_count, bool), tmp_path / "swapped" / "train"
    )
    with pytest.raises(DataError, match="are of a store with tokens"):
        units_of(with_masking(unit="external", units=str(tmp_path / "swapped")))


def test_pmi_units_lie_beside_the_text_in_the_cache(with_masking, tmp_path):
    config, said = with_masking(unit="pmi"), []
    text = module.prepare_text(config, say=str)
    folder = module.unit_folder(config, text, say=said.append)
    assert folder.parent == tmp_path / "cache" and len(said) == 2
    assert module.unit_folder(config, text, side="heldout", say=said.append) == folder
    assert module.unit_folder(with_masking(), text) is None and len(said) == 2
