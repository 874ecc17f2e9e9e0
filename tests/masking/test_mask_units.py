"""Where units begin and end, against plain loops; how long spans and n-grams are, against laws."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlm.masking import row_keys
from mlm.masking.units import make_units, ngram_starts, span_starts, word_starts

ROOT, ROWS = jax.random.key(5), 8
LENGTHS = [1, 2, 31, 64]
compiled_units = jax.jit(make_units)
spans = jax.jit(span_starts, static_argnames=("p", "longest"))
ngrams = jax.jit(ngram_starts, static_argnames=("shortest", "longest"))


def keys_for(rows):
    return row_keys(ROOT, 0, jnp.arange(rows))


def draw_rows(seed, length, selectable, starts):
    draw = np.random.default_rng(seed)
    return draw.random((ROWS, length)) < selectable, draw.random((ROWS, length)) < starts


def units_by_loops(selectable, starts):
    """Leaders and lengths of one row, token by token."""
    units = []
    for i in range(len(selectable)):
        if i == 0 or starts[i] or not selectable[i] or not selectable[i - 1]:
            units.append([])
        units[-1].append(i)
    leaders = [unit[0] for unit in units for _ in unit]
    return leaders, [len(unit) for unit in units for _ in unit]


@settings(max_examples=30, deadline=None, derandomize=True)
@given(
    seed=st.integers(0, 2**32 - 1),
    length=st.sampled_from(LENGTHS),
    selectable=st.sampled_from([0.0, 0.5, 0.9, 1.0]),
    starts=st.sampled_from([0.0, 0.3, 1.0]),
)
def test_units_are_those_of_plain_loops(seed, length, selectable, starts):
    selectable, starts = draw_rows(seed, length, selectable, starts)
    units = compiled_units(selectable, starts)
    for row in range(ROWS):
        leaders, lengths = units_by_loops(selectable[row], starts[row])
        assert units.leaders[row].tolist() == leaders
        assert units.lengths[row].tolist() == lengths
    values = np.random.default_rng(seed).integers(0, 2**32, (ROWS, length), np.uint32)
    totals = np.asarray(jax.jit(lambda units, values: units.total(values))(units, values))
    for row in range(ROWS):
        for i, (first, n) in enumerate(zip(units.leaders[row], units.lengths[row], strict=True)):
            assert totals[row, i] == values[row, first : first + n].sum(dtype=np.uint32)


def test_without_starts_each_token_is_a_unit():
    units = make_units(jnp.ones((2, 5), bool), None)
    assert units.are_tokens and units.leaders.tolist() == [[0, 1, 2, 3, 4]] * 2


@pytest.mark.parametrize("shape", [(0, 5), (2, 0)])
def test_rows_of_nothing(shape):
    nothing = jnp.ones(shape, bool)
    units = make_units(nothing, nothing)
    assert units.leaders.shape == units.lengths.shape == shape
    keys = keys_for(shape[0])
    assert span_starts(keys, nothing, nothing).shape == shape
    assert ngram_starts(keys, nothing, nothing, shortest=1, longest=2).shape == shape


def test_words_begin_at_every_id_that_does_not_continue():
    continuations = np.isin(np.arange(10), (7, 8))
    starts = word_starts(jnp.array([[5, 7, 8, 6, 7, 7], [7, 5, 5, 8, 9, 8]]), continuations)
    assert starts.astype(int).tolist() == [[1, 0, 0, 1, 0, 0], [0, 1, 1, 0, 1, 0]]


def test_a_piece_behind_a_special_token_begins_a_unit():
    # A row cut from a stream may begin inside a word.
    selectable = jnp.array([[False, True, True, True, False, True]])
    words = jnp.array([[True, False, False, True, True, False]])
    assert make_units(selectable, words).leaders.tolist() == [[0, 1, 1, 3, 4, 5]]
    starts = ngrams(keys_for(1), words, selectable, shortest=1, longest=1)
    assert starts.astype(int).tolist() == [[0, 1, 0, 1, 0, 1]]


def tiles_by_loops(starts, words, selectable):
    """Tiles of one row in words, each with whether it was cut by the end of a text."""
    tiles, open_tile = [], None
    for i in range(len(starts)):
        if not selectable[i]:
            if open_tile is not None:
                tiles.append((open_tile, True))
            open_tile = None
            continue
        word = words[i] or i == 0 or not selectable[i - 1]
        if starts[i]:
            assert word, "a span begins inside a word"
            if open_tile is not None:
                tiles.append((open_tile, False))
            open_tile = 0
        assert open_tile is not None, "a text that does not begin with a span"
        open_tile += word
    return tiles + [(open_tile, True)] * (open_tile is not None)


@pytest.mark.parametrize("kind", ["span", "ngram", "pair"])
def test_tiles_begin_at_words_anew_behind_every_special_and_cover_the_text(kind):
    selectable, words = draw_rows(3, 64, 0.93, 0.6)
    selectable[0], words[1] = False, False
    keys = keys_for(ROWS)
    if kind == "span":
        starts, shortest, longest = spans(keys, words, selectable), 1, 10
    else:
        shortest, longest = {"ngram": (1, 3), "pair": (2, 2)}[kind]
        starts = ngrams(keys, words, selectable, shortest=shortest, longest=longest)
    starts = np.asarray(starts)
    assert not starts[~selectable].any() and not starts[0].any()
    sizes = [tiles_by_loops(starts[i], words[i], selectable[i]) for i in range(ROWS)]
    whole = [size for row in sizes for size, cut in row if not cut]
    cut = [size for row in sizes for size, cut in row if cut]
    assert len(whole) > 5 and min(whole) >= shortest and max(whole) <= longest
    assert len(cut) > 5 and max(cut) <= longest


def assert_fits(counts, shares):
    """Chi-square at five sigma (Wilson and Hilferty, 1931)."""
    expected = np.asarray(shares) * np.sum(counts)
    chi2 = np.sum((counts - expected) ** 2 / expected)
    spread = 2 / (9 * (len(counts) - 1))
    assert chi2 < (len(counts) - 1) * (1 - spread + 5 * np.sqrt(spread)) ** 3


def tile_sizes(starts, longest):
    """How often each size, of the tiles that begin early enough to end within the row."""
    counts = np.zeros(longest + 1)
    for row in np.asarray(starts):
        at = np.flatnonzero(row)
        whole = at[:-1] < len(row) - longest  # whatever its length: no bias towards short ones
        np.add.at(counts, np.diff(at)[whole], 1)
    return counts[1:]


TOKENS = np.ones((2000, 100), bool)  # each a word


def test_span_lengths_are_geometric():
    counts = tile_sizes(spans(keys_for(2000), TOKENS, TOKENS), 10)
    k = np.arange(1, 11)
    law = 0.2 * 0.8 ** (k - 1)
    law /= law.sum()
    assert_fits(counts, law)
    # SpanBERT's mean of 3.8 words.
    assert round(float((law * k).sum()), 1) == 3.8
    assert abs((counts * k).sum() / counts.sum() - 3.797) < 0.03
    leaning = law * np.where(k > 3, 0.9, 1)
    with pytest.raises(AssertionError):
        assert_fits(counts, leaning / leaning.sum())


@pytest.mark.parametrize("p", [0.5, 1.0])
def test_span_lengths_follow_p(p):
    counts = tile_sizes(spans(keys_for(2000), TOKENS, TOKENS, p=p, longest=4), 4)
    law = np.float64(p) * (1 - p) ** np.arange(4)
    if p == 1:
        assert counts[1:].sum() == 0 < counts[0]
    else:
        assert_fits(counts, law / law.sum())


def test_ngrams_are_as_often_of_each_length():
    counts = tile_sizes(ngrams(keys_for(2000), TOKENS, TOKENS, shortest=2, longest=5), 5)
    assert counts[0] == 0
    assert_fits(counts[1:], np.full(4, 1 / 4))


def test_a_fixed_n_tiles_the_text_and_the_last_tile_is_cut():
    starts = ngrams(keys_for(1), TOKENS[:1, :11], TOKENS[:1, :11], shortest=3, longest=3)
    assert np.flatnonzero(starts).tolist() == [0, 3, 6, 9]
    assert make_units(jnp.asarray(TOKENS[:1, :11]), starts).lengths[0, -1] == 2


def test_sizes_are_in_words_not_tokens():
    words = np.zeros((1, 12), bool)
    words[0, [0, 3, 4, 9]] = True
    starts = ngrams(keys_for(1), words, np.ones((1, 12), bool), shortest=2, longest=2)
    assert np.flatnonzero(starts).tolist() == [0, 4]


def test_a_longer_row_begins_with_the_tiles_of_a_shorter_one():
    selectable, words = draw_rows(1, 64, 0.95, 0.7)
    whole = spans(keys_for(ROWS), words, selectable)
    cut = span_starts(keys_for(ROWS), words[:, :37], selectable[:, :37])
    np.testing.assert_array_equal(whole[:, :37], cut)


def test_lengths_are_drawn_apart_for_each_row_and_text():
    starts = np.asarray(spans(keys_for(64), TOKENS[:64], TOKENS[:64]))
    assert len(np.unique(starts, axis=0)) == 64
    two = TOKENS[:64, :81].copy()
    two[:, 40] = False
    halves = np.asarray(spans(keys_for(64), two, two))
    assert (halves[:, :40] != halves[:, 41:]).any(axis=1).all()


def test_64_bit_mode_changes_nothing():
    selectable, words = draw_rows(1, 31, 0.95, 0.7)
    makers = [span_starts, lambda *a: ngram_starts(*a, shortest=2, longest=2)]
    for make in makers:
        narrow = make(keys_for(ROWS), jnp.asarray(words), jnp.asarray(selectable))
        with jax.enable_x64(True):
            wide = make(keys_for(ROWS), jnp.asarray(words), jnp.asarray(selectable))
            units = make_units(jnp.asarray(selectable), wide)
        np.testing.assert_array_equal(narrow, wide)
        assert units.leaders.dtype == units.lengths.dtype == jnp.int32


@pytest.mark.parametrize(
    ("make", "lengths", "words"),
    [
        (span_starts, {"p": 0.0}, "p is 0.0; give the chance"),
        (span_starts, {"p": 1.5}, "p is 1.5"),
        (span_starts, {"p": float("nan")}, "p is nan"),
        (span_starts, {"longest": 0}, "from 1 to 0 words"),
        (ngram_starts, {"shortest": 3, "longest": 2}, "from 3 to 2 words; give 1 or more"),
        (ngram_starts, {"shortest": 0, "longest": 2}, "from 0 to 2 words"),
    ],
)
def test_impossible_lengths_are_refused(make, lengths, words):
    with pytest.raises(ValueError, match=words):
        make(keys_for(1), TOKENS[:1], TOKENS[:1], **lengths)
