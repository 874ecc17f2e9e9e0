"""A bit per token says where units begin, and rows of every mode carry it to the right slots."""

import json

import numpy as np
import pytest

from mlm.data import MODES, locate, make_rows, open_units, read_rows, save_units
from mlm.errors import ConfigError, DataError, OutputError


@pytest.fixture
def starts(store):
    return np.random.default_rng(1).random(store.token_count) < 0.4


@pytest.fixture
def units(store, starts, tmp_path):
    save_units(store, starts, tmp_path / "units" / "train")
    return open_units(tmp_path / "units" / "train", store)


def test_what_is_saved_is_read(store, starts, units):
    every = np.arange(store.token_count)
    assert np.array_equal(units.at(every), starts)
    chosen = np.array([5, 3, 3, store.token_count - 1])
    assert units.at(chosen).tolist() == starts[chosen].tolist()
    assert units.at(np.zeros(0, np.int64)).shape == (0,)


def test_the_format(store, starts, tmp_path):
    save_units(store, starts, tmp_path / "units", name="names", settings={"tagger": "mine"})
    packed = np.fromfile(tmp_path / "units" / "units.bin", np.uint8)
    assert np.array_equal(np.unpackbits(packed, bitorder="little")[: len(starts)], starts)
    meta = json.loads((tmp_path / "units" / "units.json").read_text())
    assert meta["tokens"] == store.token_count and meta["units"] == starts.sum()
    assert meta["tokens_sha256"] == store.meta["tokens_sha256"]
    assert (meta["name"], meta["settings"]) == ("names", {"tagger": "mine"})


@pytest.mark.parametrize("size", [1, 7, 8, 1000])
def test_starts_may_come_in_pieces(store, starts, units, tmp_path, size):
    pieces = (starts[begin : begin + size] for begin in range(0, len(starts), size))
    save_units(store, pieces, tmp_path / "pieces")
    written = (tmp_path / "pieces" / "units.bin").read_bytes()
    assert written == (units.path / "units.bin").read_bytes()


@pytest.mark.parametrize("tokens", [1, 7, 8, 9, 16])
def test_stores_of_any_size(make_store, tmp_path, tokens):
    store = make_store([[11] * tokens], name=f"s{tokens}")
    save_units(store, np.ones(tokens, bool), tmp_path / "units")
    assert (tmp_path / "units" / "units.bin").stat().st_size == -(-tokens // 8)
    assert open_units(tmp_path / "units", store).at(np.arange(tokens)).all()


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (lambda s: s[:-1], "unit starts for the"),
        (lambda s: np.append(s, True), "unit starts for the"),
        (lambda s: s.astype(np.int64), r"unit starts are int64\[\d+\]; give bool\[T\]"),
        (lambda s: s[None], r"unit starts are bool\[1, \d+\]"),
        (lambda s: s.tolist(), r"unit starts are bool\[\]"),
    ],
)
def test_starts_of_another_kind(store, starts, tmp_path, change, complaint):
    with pytest.raises(DataError, match=complaint):
        save_units(store, change(starts), tmp_path / "units")
    assert not list(tmp_path.glob("*units*"))


def test_nothing_is_left_of_units_that_fail_half_way(store, starts, tmp_path):
    def pieces():
        yield starts[:100]
        raise RuntimeError("killed")

    with pytest.raises(RuntimeError, match="killed"):
        save_units(store, pieces(), tmp_path / "new" / "units")
    assert list((tmp_path / "new").iterdir()) == []


def test_units_are_never_overwritten(store, starts, units):
    with pytest.raises(DataError, match="exists already; remove it or choose another"):
        save_units(store, starts, units.path)


def test_a_folder_that_cannot_be_written(store, starts, tmp_path, full_disk):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="cannot be written"):
        save_units(store, starts, tmp_path / "file" / "units")
    with full_disk(50), pytest.raises(OutputError, match="units cannot be written"):
        save_units(store, starts, tmp_path / "full" / "units")
    assert list((tmp_path / "full").iterdir()) == []


def test_units_of_another_store(make_store, corpus, store, units, special):
    other = make_store([[*corpus[0], 10], *corpus[1:]], name="other")
    for use in (
        lambda: open_units(units.path, other),
        lambda: make_rows(other, mode="blocks", length=16, special=special, units=units),
    ):
        with pytest.raises(DataError) as error:
            use()
        hashes = [s.meta["tokens_sha256"][:12] for s in (store, other)]
        assert all(text in str(error.value) for text in (*hashes, "save_units", str(other.path)))
    again = make_store(corpus, name="again")
    assert open_units(units.path, again).meta == units.meta  # what the tokens are decides


@pytest.mark.parametrize(
    ("damage", "complaint"),
    [
        (lambda folder: (folder / "units.json").unlink(), "no units at"),
        (lambda folder: (folder / "units.bin").unlink(), "units.bin is damaged"),
        (lambda folder: (folder / "units.json").write_text("{"), "not JSON"),
        (lambda folder: (folder / "units.json").write_text("[]"), "format version None"),
        (
            lambda folder: (folder / "units.json").write_text('{"format_version": 1}'),
            "no valid tokens, units, name",
        ),
        (lambda folder: flip(folder / "units.bin"), "is damaged .sha256"),
        (lambda folder: cut(folder / "units.bin"), "is damaged .sha256"),
    ],
)
def test_damaged_units(store, units, damage, complaint):
    damage(units.path)
    with pytest.raises(DataError, match=complaint):
        open_units(units.path, store)


def flip(file):
    content = bytearray(file.read_bytes())
    content[3] ^= 4
    file.write_bytes(content)


def cut(file):
    file.write_bytes(file.read_bytes()[:-1])


# Rows.


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("length", [3, 8, 64])
def test_rows_know_where_units_begin(store, special, starts, units, mode, length, tmp_path):
    rows = make_rows(
        store, mode=mode, length=length, special=special, units=units, cache_dir=tmp_path
    )
    every = np.arange(len(rows))
    batch = read_rows(rows, every)
    found = batch.pop("unit_starts")
    assert found.dtype == np.bool_ and found.shape == batch["token_ids"].shape
    document, offset = locate(rows, every)
    text = document >= 0
    begins = np.concatenate([[0], store.doc_ends])[document]
    assert np.array_equal(found[text], starts[(begins + offset)[text]])
    assert found[~text].all()
    plain = make_rows(store, mode=mode, length=length, special=special, cache_dir=tmp_path)
    for name, value in read_rows(plain, every).items():
        assert np.array_equal(batch.pop(name), value)
    assert not batch
    chosen = [len(rows) - 1, 0, 0]
    assert np.array_equal(read_rows(rows, chosen)["unit_starts"], found[chosen])
    assert read_rows(rows, [])["unit_starts"].shape == (0, length)


def test_overlapping_pieces_repeat_their_units(store, special, starts, units):
    rows = make_rows(store, mode="document", length=8, special=special, overlap=3, units=units)
    batch = read_rows(rows, np.arange(len(rows)))
    text = batch["token_ids"] > special.sep
    expected = starts[batch["token_ids"][text] - 10]  # the corpus numbers its tokens from 10
    assert np.array_equal(batch["unit_starts"][text], expected)


def test_other_mistakes_are_still_seen(store, special, units):
    with pytest.raises(ConfigError, match="row mode"):
        make_rows(store, mode="Packed", length=8, special=special, units=units)
