"""Documents out of parquet files and datasets, and a line on every table that has none."""

import sys
from collections import Counter

import datasets
import pyarrow
import pytest
from pyarrow import parquet

from mlm.errors import DataError
from mlm.text import Reading, read_corpus, source_identity
from mlm.text.files import read_documents

RECORDS = [{"text": "a cat", "n": 1}, {"text": " two\nlines ", "n": 2}, {"text": " ", "n": 3}]


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "hf")
    datasets.disable_progress_bars()


@pytest.fixture
def table(tmp_path):
    """`table(records)`: the path of a parquet file."""

    def table(records, name="a.parquet"):
        parquet.write_table(pyarrow.Table.from_pylist(records), tmp_path / name, row_group_size=2)
        return tmp_path / name

    return table


def read(path, **reading):
    return list(read_documents(path, Reading(**reading), Counter()))


def error_of(path, **reading):
    with pytest.raises(DataError) as caught:
        read(path, **reading)
    assert "\n" not in str(caught.value) and str(path) in str(caught.value)
    return str(caught.value)


def test_a_row_is_a_document(table):
    assert read(table(RECORDS)) == ["a cat", "two\nlines"]
    many = [{"text": f"row {n}"} for n in range(3000)]
    assert read(table(many)) == [record["text"] for record in many]


def test_a_column_by_its_name(table):
    path = table([{"title": "one", "body": "first"}, {"title": "two", "body": "second"}])
    assert read(path, field="body") == ["first", "second"]
    assert read(path, field="text, title") == ["one", "two"]
    assert "row 1 has no text in the field 'text' (it has body, title)" in error_of(path)


def test_a_column_that_is_not_text(table):
    assert "row 1 has no text in the field 'n'" in error_of(table(RECORDS), field="n")
    path = table([{"text": "one"}, {"text": None}])
    assert "row 2 has no text in the field 'text'" in error_of(path)


def test_a_nul_in_a_row(table):
    path = table([{"text": "one"}, {"text": "t\0wo"}])
    assert "row 2 holds a NUL character" in error_of(path)
    counts = Counter()
    texts = list(read_documents(path, Reading(on_bad_bytes="replace"), counts))
    assert texts == ["one", "t\ufffdwo"] and counts["replaced"] == 1


def test_damaged_and_missing_files(table, tmp_path):
    path = table(RECORDS)
    content = path.read_bytes()
    for damaged in (b"", content[:-20], b"PAR1" + bytes(200) + b"PAR1"):
        path.write_bytes(damaged)
        assert "is damaged after row 0" in error_of(path)
    assert "does not exist" in error_of(tmp_path / "gone.parquet")


def test_the_package_is_named_where_it_is_missing(table, monkeypatch):
    path = table(RECORDS)
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    assert "is a .parquet file, which needs pyarrow: pip install pyarrow" in error_of(path)


# datasets:NAME


def documents(name, **reading):
    return read_corpus(name, Reading(**reading)).documents


def test_a_dataset_that_was_saved(tmp_path):
    saved = datasets.Dataset.from_list(RECORDS)
    saved.save_to_disk(tmp_path / "saved")
    name = f"datasets:{tmp_path}/saved"
    corpus = read_corpus(name)
    assert corpus.documents == ("a cat", "two\nlines")
    assert corpus.origin["datasets"] == [{"name": name, "rows": 3}]
    before = source_identity(name)
    assert source_identity(name) == before != source_identity(name, Reading(field="n"))
    saved.map(lambda record: {"text": record["text"] + "!"}).save_to_disk(tmp_path / "other")
    assert source_identity(f"datasets:{tmp_path}/other") != before


def test_a_split_of_a_saved_dictionary(tmp_path):
    splits = {name: datasets.Dataset.from_list([{"text": name}]) for name in ("train", "test")}
    datasets.DatasetDict(splits).save_to_disk(tmp_path / "saved")
    assert documents(f"datasets:{tmp_path}/saved") == ("train",)
    assert documents(f"datasets:{tmp_path}/saved::test") == ("test",)


def test_a_folder_of_data_files(tmp_path):
    (tmp_path / "raw").mkdir()
    (tmp_path / "raw/train.jsonl").write_text('{"body": "one"}\n{"body": "two"}\n')
    assert documents(f"datasets:{tmp_path}/raw", field="body") == ("one", "two")


def test_what_cannot_be_loaded(tmp_path, monkeypatch):
    (tmp_path / "raw").mkdir()
    (tmp_path / "raw/train.jsonl").write_text('{"text": "one"}\n')
    datasets.Dataset.from_list(RECORDS).save_to_disk(tmp_path / "saved")
    assert documents(f"datasets:{tmp_path}/raw::train[:1]") == ("one",)
    for name, words in (
        (f"datasets:{tmp_path}/nothing", "cannot be loaded"),
        (f"datasets:{tmp_path}/raw::tset", 'Unknown split "tset"'),
        (f"datasets:{tmp_path}/saved::test", "a saved Dataset has no splits"),
    ):
        with pytest.raises(DataError) as caught:
            documents(name)
        assert words in str(caught.value) and "\n" not in str(caught.value)
        assert "write datasets:NAME[:CONFIGURATION[:SPLIT]]" in str(caught.value)
    with pytest.raises(DataError, match="row 1 has no text in the field 'body'"):
        documents(f"datasets:{tmp_path}/raw", field="body")
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(DataError, match="which needs datasets: pip install datasets"):
        documents(f"datasets:{tmp_path}/raw")
