"""What a run is made from is compared by content when it goes on."""

import numpy as np
import pytest

from mlm.config import apply_overrides, load_config
from mlm.data import save_units
from mlm.errors import CheckpointError
from mlm.input import prepare_text, training_rows
from mlm.saved import check_text, keep_text


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
    with pytest.raises(CheckpointError, match="began with units .* give masking.units back"):
        keep_text(tmp_path, *text_and_rows(2))


def test_a_run_does_not_go_on_with_another_table_of_weights(text_and_rows, tmp_path):
    made, table = text_and_rows(3), tmp_path / "table.npy"
    np.save(table, np.ones(96))
    begun(tmp_path, *made, weights=str(table))
    keep_text(tmp_path, *made, weights=str(table))
    np.save(table, np.arange(96))
    with pytest.raises(CheckpointError, match="began with weights .* give masking.weights back"):
        check_text(tmp_path, *made, weights=str(table))
    table.unlink()
    with pytest.raises(CheckpointError, match="it is missing"):
        check_text(tmp_path, *made, weights=str(table))


def test_a_run_from_before_units_were_kept_goes_on(text_and_rows, tmp_path):
    text, rows = text_and_rows(3)
    begun(tmp_path, text, rows)
    file = tmp_path / "text.json"
    file.write_text(file.read_text().replace('"units"', '"was"').replace('"weights"', '"were"'))
    keep_text(tmp_path, text, rows)
