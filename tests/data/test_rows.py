"""Every token stands in exactly one row, and each row is what its mode says."""

import os

import numpy as np
import pytest

from mlm.data import MODES, locate, make_rows, read_rows, useful_share
from mlm.errors import ConfigError

PAD, CLS, SEP = 0, 1, 2  # as in the fixture `special`
LENGTHS = [3, 8, 16, 64]


def every(rows):
    return read_rows(rows, np.arange(len(rows)))


def pieces_of(corpus, length):
    cut = length - 2
    return [[*doc[i : i + cut]] for doc in corpus for i in range(0, len(doc), cut)]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("length", LENGTHS)
def test_every_token_stands_in_exactly_one_row(store, corpus, special, mode, length):
    rows = make_rows(store, mode=mode, length=length, special=special)
    ids = every(rows)["token_ids"]
    assert ids.shape == (len(rows), length)
    assert sorted(ids[ids > SEP]) == sum(corpus, [])
    assert useful_share(rows) == pytest.approx(np.mean(ids > SEP))


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("length", LENGTHS)
def test_padding_is_at_the_end_and_marked(store, special, mode, length):
    batch = every(make_rows(store, mode=mode, length=length, special=special))
    ids, mask = batch["token_ids"], batch["padding_mask"]
    assert mask.dtype == np.bool_ and ids.dtype == np.int32
    assert np.array_equal(mask, ids != PAD)
    assert not np.any(mask[:, 1:] & ~mask[:, :-1])
    assert mask[:, 0].all()


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("length", LENGTHS)
def test_locate_names_the_text_of_each_slot(store, corpus, special, mode, length):
    rows = make_rows(store, mode=mode, length=length, special=special)
    ids = every(rows)["token_ids"]
    document, offset = locate(rows, np.arange(len(rows)))
    assert document.dtype == offset.dtype == np.int64
    assert np.array_equal(document >= 0, ids > SEP)
    assert np.array_equal(offset >= 0, ids > SEP)
    for where in zip(*np.nonzero(ids > SEP), strict=True):
        assert corpus[document[where]][offset[where]] == ids[where]


@pytest.mark.parametrize("length", LENGTHS)
def test_document_rows(store, corpus, special, length):
    batch = every(make_rows(store, mode="document", length=length, special=special))
    expected = [[CLS, *piece, SEP] for piece in pieces_of(corpus, length)]
    assert batch.keys() == {"token_ids", "padding_mask"}
    assert [row[row != PAD].tolist() for row in batch["token_ids"]] == expected


@pytest.mark.parametrize("length", LENGTHS)
def test_blocks_rows(store, corpus, special, length):
    batch = every(make_rows(store, mode="blocks", length=length, special=special))
    stream = sum(([CLS, *doc, SEP] for doc in corpus), [])
    stream += [PAD] * (-len(stream) % length)
    assert batch.keys() == {"token_ids", "padding_mask"}
    assert batch["token_ids"].tolist() == np.reshape(stream, (-1, length)).tolist()


@pytest.mark.parametrize("length", LENGTHS)
def test_packed_rows(store, corpus, special, length):
    batch = every(make_rows(store, mode="packed", length=length, special=special))
    ids, segments = batch["token_ids"], batch["segment_ids"]
    assert segments.dtype == batch["position_ids"].dtype == np.int32
    assert np.array_equal(segments == 0, ids == PAD)
    assert not batch["position_ids"][ids == PAD].any()
    found = []
    for row in range(len(ids)):
        used = segments[row][segments[row] > 0]
        assert used[0] == 1 and set(np.diff(used)) <= {0, 1}
        for number in range(1, used[-1] + 1):
            piece = segments[row] == number
            found.append(ids[row, piece].tolist())
            assert batch["position_ids"][row, piece].tolist() == list(range(piece.sum()))
    assert sorted(found) == sorted([CLS, *piece, SEP] for piece in pieces_of(corpus, length))


def test_packed_worked_example(make_store, special):
    store = make_store([[11, 12], [21], [31, 32, 33, 34, 35, 36, 37]])
    batch = every(make_rows(store, mode="packed", length=8, special=special))
    assert batch["token_ids"].tolist() == [
        [CLS, 31, 32, 33, 34, 35, 36, SEP],
        [CLS, 11, 12, SEP, CLS, 21, SEP, PAD],
        [CLS, 37, SEP, PAD, PAD, PAD, PAD, PAD],
    ]
    assert batch["segment_ids"].tolist() == [[1] * 8, [1] * 4 + [2] * 3 + [0], [1] * 3 + [0] * 5]
    assert batch["position_ids"].tolist() == [
        [0, 1, 2, 3, 4, 5, 6, 7],
        [0, 1, 2, 3, 0, 1, 2, 0],
        [0, 1, 2, 0, 0, 0, 0, 0],
    ]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("length", LENGTHS)
def test_any_selection_of_rows(store, special, mode, length):
    rows = make_rows(store, mode=mode, length=length, special=special)
    whole = every(rows)
    chosen = [5, *reversed(range(len(rows))), 5]
    for name, value in read_rows(rows, chosen).items():
        assert np.array_equal(value, whole[name][chosen]), name
    assert read_rows(rows, [])["token_ids"].shape == (0, length)
    assert locate(rows, [])[0].shape == (0, length)


@pytest.mark.parametrize("index", [-1, 10_000])
def test_a_row_that_does_not_exist(store, special, index):
    rows = make_rows(store, mode="packed", length=16, special=special)
    with pytest.raises(IndexError, match=f"row {index} does not exist"):
        read_rows(rows, [0, index])


def test_uint32_stores_are_read_too(make_store, special):
    store = make_store([[100_000, 70_000]], vocabulary_size=100_001)
    rows = make_rows(store, mode="document", length=5, special=special)
    assert every(rows)["token_ids"].tolist() == [[CLS, 100_000, 70_000, SEP, PAD]]


def test_unknown_mode_and_short_rows(store, special):
    with pytest.raises(ConfigError, match="'segments' is unknown; choose one of packed, doc"):
        make_rows(store, mode="segments", length=16, special=special)
    with pytest.raises(ConfigError, match="row length 2"):
        make_rows(store, mode="packed", length=2, special=special)


def packed(store, special, cache, length=16):
    return every(make_rows(store, mode="packed", length=length, special=special, cache_dir=cache))


def test_the_cached_plan_is_read(store, special, tmp_path):
    packed(store, special, tmp_path)
    (file,) = tmp_path.glob("*.npz")
    alone = make_rows(store, mode="document", length=16, special=special)
    plan = {name: getattr(alone.layout, name) for name in ("starts", "lengths", "bounds")}
    np.savez(
        file, **plan, sources=[0, len(alone)]
    )  # a whole plan of the same tokens, one piece per row
    assert np.array_equal(packed(store, special, tmp_path)["token_ids"], every(alone)["token_ids"])


def test_a_plan_of_other_tokens_is_made_again(store, special, tmp_path):
    made = packed(store, special, tmp_path)
    (file,) = tmp_path.glob("*.npz")
    np.savez(file, starts=[0], lengths=[5], bounds=[0, 1], sources=[0, 1])
    again = packed(store, special, tmp_path)
    assert all(np.array_equal(made[name], again[name]) for name in made)


@pytest.mark.parametrize(
    "damage", [lambda b: b"", lambda b: b[:-40], lambda b: b[:200] + b"x" * 64 + b[264:]]
)
def test_a_damaged_plan_is_made_again(store, special, tmp_path, damage):
    made = packed(store, special, tmp_path / "cache")
    (file,) = (tmp_path / "cache").iterdir()
    whole = file.read_bytes()
    file.write_bytes(damage(whole))
    again = packed(store, special, tmp_path / "cache")
    assert all(np.array_equal(made[name], again[name]) for name in made)
    assert len(file.read_bytes()) == len(whole)
    assert os.listdir(tmp_path / "cache") == [file.name]


def test_each_store_and_length_has_its_own_plan(make_store, store, corpus, special, tmp_path):
    cache = tmp_path / "cache"
    packed(store, special, cache)
    packed(store, special, cache, length=32)
    packed(make_store(corpus[:-1], "fewer"), special, cache)
    packed(make_store(corpus, "other", fingerprint="e0" * 32), special, cache)
    packed(make_store(corpus, "third", tokenizer_hash="b2" * 32), special, cache)
    packed(make_store(corpus, "same"), special, cache)
    assert len(os.listdir(cache)) == 5


def test_a_cache_that_cannot_be_written_is_not_fatal(store, special, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.warns(UserWarning, match="not cached"):
        batch = packed(store, special, tmp_path / "file" / "cache")
    assert len(batch["token_ids"])


# Pieces that overlap.


@pytest.mark.parametrize("mode", ["packed", "document"])
@pytest.mark.parametrize("length, overlap", [(8, 1), (8, 5), (16, 3), (64, 10)])
def test_pieces_repeat_the_end_of_the_one_before(store, corpus, special, mode, length, overlap):
    batch = every(make_rows(store, mode=mode, length=length, special=special, overlap=overlap))
    found = []
    for ids in batch["token_ids"]:
        text = [token for token in ids.tolist() if token != PAD]
        while text:
            end = text.index(SEP)
            found.append(text[1:end])
            text = text[end + 1 :]
    longest = length - 2
    expected = []
    for doc in corpus:
        start = 0
        while True:
            expected.append(doc[start : start + longest])
            if start + longest >= len(doc):
                break
            start += longest - overlap
    assert sorted(found) == sorted(expected)


def test_overlap_is_part_of_the_plan_and_no_new_text(store, special, tmp_path):
    plain, again, cached = (
        make_rows(
            store,
            mode="packed",
            length=16,
            special=special,
            cache_dir=tmp_path / "cache",
            overlap=overlap,
        )
        for overlap in (0, 6, 6)
    )
    assert len(again) > len(plain)
    assert useful_share(again) == pytest.approx(np.mean(every(again)["token_ids"] > SEP))
    assert np.array_equal(every(cached)["token_ids"], every(again)["token_ids"])
    assert len(os.listdir(tmp_path / "cache")) == 2


@pytest.mark.parametrize("mode, overlap", [("blocks", 1), ("packed", 14), ("document", -1)])
def test_an_overlap_that_pieces_cannot_have(store, special, mode, overlap):
    with pytest.raises(ConfigError, match=f"overlap of {overlap} tokens .* choose 0 to 13"):
        make_rows(store, mode=mode, length=16, special=special, overlap=overlap)


# Rows of several sources.


SOURCES = ((0, 13), (13, 13), (13, 45), (45, 60))  # documents; the second source has none


@pytest.fixture
def mixed_store(make_store, corpus):
    """The corpus as documents of four sources."""
    store = make_store(corpus)
    table = [
        {"name": f"s{i}", "documents": end - begin, "tokens": sum(map(len, corpus[begin:end]))}
        for i, (begin, end) in enumerate(SOURCES)
    ]
    store.meta["sources"] = table
    return store


@pytest.mark.parametrize("length", LENGTHS)
@pytest.mark.parametrize("mode", ["packed", "document"])
def test_each_source_has_its_own_rows(mixed_store, corpus, special, mode, length, tmp_path):
    for _ in range(2):  # made, and from the cache
        rows = make_rows(
            mixed_store,
            mode=mode,
            length=length,
            special=special,
            by_source=True,
            cache_dir=tmp_path,
        )
        assert rows.source_bounds[0] == 0 and rows.source_bounds[-1] == len(rows)
        for i, (begin, end) in enumerate(SOURCES):
            of_source = np.arange(rows.source_bounds[i], rows.source_bounds[i + 1])
            ids = read_rows(rows, of_source)["token_ids"]
            assert sorted(ids[ids > SEP]) == sum(corpus[begin:end], [])


@pytest.mark.parametrize("length", LENGTHS)
def test_a_block_belongs_to_the_source_it_begins_in(mixed_store, corpus, special, length):
    rows = make_rows(mixed_store, mode="blocks", length=length, special=special, by_source=True)
    together = make_rows(mixed_store, mode="blocks", length=length, special=special)
    assert np.array_equal(every(rows)["token_ids"], every(together)["token_ids"])
    first = np.cumsum([0, *(len(doc) + 2 for doc in corpus)])  # of each document in the stream
    for i, (begin, end) in enumerate(SOURCES):
        starts = np.arange(rows.source_bounds[i], rows.source_bounds[i + 1]) * length
        assert np.all((starts >= first[begin]) & (starts < first[end]))
    assert rows.source_bounds[-1] == len(rows)


def test_without_sources_all_rows_are_of_one(mixed_store, special):
    rows = make_rows(mixed_store, mode="packed", length=16, special=special)
    assert rows.source_bounds.tolist() == [0, len(rows)]
