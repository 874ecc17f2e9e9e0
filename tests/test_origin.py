"""What a run is made from is compared by content when it goes on."""

import numpy as np
import pytest

from mlm.config import apply_overrides, load_config
from mlm.data import save_units
from mlm.errors import CheckpointError, ConfigError
from mlm.input import prepare_text, training_rows
from mlm.origin import (
    check_steps_left,
    check_text,
    check_unchanged,
    data_changes,
    keep_text,
    kept_start,
)
from mlm.text import load_tokenizer
from mlm.training.changes import Change


@pytest.fixture
def text_and_rows(tiny, tmp_path):
    """`text_and_rows(every)`: with a bitmap that begins a unit at every so many tokens."""

    def make(every):
        config = load_config("configs/default.py")
        folder = tmp_path / str(every)
        apply_overrides(config, {**tiny, "masking.unit": "external", "masking.units": str(folder)})
        text = prepare_text(config, say=str)
        starts = np.arange(text.train.token_count) % every == 0
        save_units(text.train, starts, folder / "train")
        return text, training_rows(config, text, say=str)

    return make


def begun(workdir, text, rows, **weights):
    keep_text(workdir, text, rows, **weights)
    (workdir / "checkpoints/4").mkdir(parents=True)
    (workdir / "checkpoints/4/params").touch()


def test_a_run_does_not_go_on_with_other_bitmaps(text_and_rows, tmp_path):
    text, rows = text_and_rows(3)
    begun(tmp_path, text, rows)
    keep_text(tmp_path, text, rows)
    with pytest.raises(CheckpointError, match="units: .* then, .* now\n.*--allow_data_change"):
        keep_text(tmp_path, *text_and_rows(2))


def test_a_run_does_not_go_on_with_another_table_of_weights(text_and_rows, tmp_path):
    made, table = text_and_rows(3), tmp_path / "table.npy"
    np.save(table, np.ones(96))
    begun(tmp_path, *made, weights=str(table))
    keep_text(tmp_path, *made, weights=str(table))
    np.save(table, np.arange(96))
    with pytest.raises(CheckpointError, match="weights: .* then, .* now\n.*--allow_data_change"):
        check_text(tmp_path, *made, weights=str(table))
    table.unlink()
    with pytest.raises(CheckpointError, match="then, missing "):
        check_text(tmp_path, *made, weights=str(table))


def test_a_run_from_before_units_were_kept_goes_on(text_and_rows, tmp_path):
    text, rows = text_and_rows(3)
    begun(tmp_path, text, rows)
    file = tmp_path / "text.json"
    file.write_text(file.read_text().replace('"units"', '"was"').replace('"weights"', '"were"'))
    keep_text(tmp_path, text, rows)


@pytest.fixture
def two_texts(tiny, tmp_path, corpus_file):
    """A text, another one read by the same tokenizer, and one with a tokenizer of its own."""
    other = tmp_path / "other.txt"
    other.write_text(corpus_file.read_text().replace("cat", "dog"))
    vocabulary = tmp_path / "vocab.txt"
    vocabulary.write_text("[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\nthe\ndog")

    def made(**fields):
        config = load_config("configs/default.py")
        apply_overrides(config, tiny | {f"data.{n}": str(value) for n, value in fields.items()})
        text = prepare_text(config, say=str)
        return text, training_rows(config, text, say=str)

    first = made()
    own = first[0].folder / "tokenizer.json"
    return first, made(corpus=other, tokenizer=own), made(tokenizer=vocabulary)


def test_a_change_of_text_is_written_down_with_all_that_differs(two_texts, tmp_path):
    (text, rows), other, _ = two_texts
    begun(tmp_path, text, rows)
    with pytest.raises(CheckpointError, match="text: .* then, .* now\nrows: .*\n.*2 differences"):
        check_text(tmp_path, *other)
    changes = keep_text(tmp_path, *other, allowed=[Change("seed", 0, 1)])
    assert [change.field for change in changes] == ["seed", "text", "rows"]
    assert data_changes(tmp_path)[0] == {"step": 4, "field": "seed", "then": 0, "now": 1}
    check_text(tmp_path, *other)  # it is the run's now
    assert keep_text(tmp_path, *other, allowed=[]) == []
    assert len(data_changes(tmp_path)) == 3
    with pytest.raises(CheckpointError, match="changed after step 4"):
        check_unchanged(tmp_path, 4)
    check_unchanged(tmp_path, 5)


def test_no_flag_fits_a_tokenizer_with_another_number_of_ids(two_texts, tmp_path):
    (text, rows), _, other = two_texts
    begun(tmp_path, text, rows)
    with pytest.raises(CheckpointError, match="of 96 ids, it is .* of 7 now, for which"):
        keep_text(tmp_path, *other, allowed=[])


def test_a_run_whose_text_may_change_keeps_its_tokenizer(two_texts, tmp_path, tiny):
    (text, rows), other, _ = two_texts
    begun(tmp_path, text, rows)
    config = load_config("configs/default.py")
    apply_overrides(config, tiny)
    assert kept_start(config, tmp_path) is None
    start = kept_start(config, tmp_path, allow_data_change=True)
    assert start.tokenizer.hash == load_tokenizer(tmp_path).hash
    keep_text(tmp_path, *other, allowed=[])
    assert kept_start(config, tmp_path).tokenizer.hash == start.tokenizer.hash


def test_less_text_may_not_end_a_run_before_where_it_is(two_texts, tmp_path):
    begun(tmp_path, *two_texts[0])
    check_steps_left(tmp_path, 4)
    with pytest.raises(ConfigError, match="has taken 4 steps, and on this text it ends after 3"):
        check_steps_left(tmp_path, 3)
