"""Collocations against definitions that are written down word by word."""

import itertools
import math
from collections import Counter

import numpy as np
import pytest

from mlm.data import WordTable, collocation_starts, find_collocations
from mlm.data.ngrams import Lookup, count_ngrams, stretches
from mlm.data.pmi import STEPS
from mlm.errors import DataError
from mlm.text import continuations, read_corpus, train_tokenizer, wordless

V = 60
SIGNS, INSIDE = range(10, 13), range(50, 60)  # ids that are signs, and that go on with a word
OFTEN = 3


@pytest.fixture
def table():
    ids = np.arange(V)
    return WordTable(np.isin(ids, INSIDE), np.isin(ids, SIGNS))


def random_documents(seed, documents=40):
    """Words of one to three pieces, signs, and a few phrases that come often."""
    draw = np.random.default_rng(seed)
    phrases = [[20, 21], [22, 50, 23], [24, 25, 26, 27, 28], [24, 25, 29], [30, 30, 30]]
    for _ in range(documents):
        document = [51] if draw.random() < 0.2 else []  # a document may begin in the middle
        for _ in range(draw.integers(1, 40)):
            kind = draw.random()
            if kind < 0.3:
                document += phrases[draw.integers(len(phrases))]
            elif kind < 0.4:
                document.append(int(draw.choice(SIGNS)))
            else:
                document.append(int(draw.integers(20, 34)))
                document += draw.integers(
                    50, 53, draw.integers(0, 3) * draw.integers(0, 2)
                ).tolist()
        yield document


@pytest.fixture
def documents():
    return list(random_documents(0))


@pytest.fixture
def text(make_store, documents):
    return make_store(documents, "text", vocabulary_size=V)


def words_of(document):
    """Tuples of ids, as a reader would cut them."""
    words = []
    for place, id in enumerate(document):
        if id in INSIDE and place:
            words[-1] += (id,)
        else:
            words.append((id,))
    return words


def is_sign(word):
    return all(id in SIGNS for id in word)


def ngrams_of(documents, n):
    for document in documents:
        words = words_of(document)
        for i in range(len(words) - n + 1):
            ngram = tuple(words[i : i + n])
            if not any(map(is_sign, ngram)):
                yield ngram


def count_all(documents):
    counts = {n: Counter(ngrams_of(documents, n)) for n in range(1, 6)}
    return counts, counts[1].total()


def pmi_of(ngram, counts, total):
    """The definition of arXiv:2010.01825, over every segmentation but the n-gram itself."""

    def log_p(part):
        return math.log(counts[len(part)][part] / total)

    n, scores = len(ngram), []
    for cuts in itertools.product([False, True], repeat=n - 1):
        if any(cuts):
            borders = [0, *(i + 1 for i, cut in enumerate(cuts) if cut), n]
            parts = [ngram[a:b] for a, b in itertools.pairwise(borders)]
            scores.append(log_p(ngram) - sum(map(log_p, parts)))
    return min(scores)


def read_words(store, begin, end):
    return tuple(words_of(store.tokens[begin:end].tolist()))


def found_words(store, collocations):
    places = zip(collocations.begins, collocations.ends, strict=True)
    return [read_words(store, begin, end) for begin, end in places]


@pytest.mark.parametrize("n", range(1, 6))
def test_counts_are_those_of_a_reader(text, table, documents, n):
    expected = Counter(ngrams_of(documents, n))
    counted = count_ngrams(text, table, n, more_than=OFTEN)
    assert counted.total == expected.total()
    assert sorted(counted.counts) == sorted(c for c in expected.values() if c > OFTEN)
    assert np.all(counted.hashes[1:] > counted.hashes[:-1])


@pytest.mark.parametrize("seed", range(3))
def test_scores_are_the_least_of_all_segmentations(make_store, table, seed):
    documents = list(random_documents(seed))
    store = make_store(documents, f"s{seed}", vocabulary_size=V)
    counts, total = count_all(documents)
    found = find_collocations(store, table, more_than=OFTEN)
    words = found_words(store, found)
    assert [len(ngram) for ngram in words] == found.words.tolist()
    for ngram, count, score in zip(words, found.counts, found.scores, strict=True):
        assert count == counts[len(ngram)][ngram] > OFTEN
        assert score == pytest.approx(pmi_of(ngram, counts, total), abs=1e-8)
    assert set(found.words) == {2, 3, 4, 5} and found.scores.min() > 0


def reach_of(documents, ngrams):
    """Tokens that stand in one of the n-grams."""
    reached = 0
    for document in documents:
        words, inside = words_of(document), set()
        for n, i in itertools.product(range(2, 6), range(len(words))):
            if tuple(words[i : i + n]) in ngrams and i + n <= len(words):
                inside |= set(range(i, i + n))
        reached += sum(len(words[i]) for i in inside)
    return reached


def ranked(documents):
    """(size of the list with which it enters, n-gram) of every candidate, by the definition."""
    counts, total = count_all(documents)
    entries = []
    for n, step in STEPS.items():
        often = [ngram for ngram, count in counts[n].items() if count > OFTEN]
        scores = {ngram: round(pmi_of(ngram, counts, total), 9) for ngram in often}
        best = sorted((-s, -counts[n][ngram], ngram) for ngram, s in scores.items() if s > 0)
        entries += [(step * rank, *entry) for rank, entry in enumerate(best, 1)]
    return entries


def test_the_list_is_as_long_as_it_takes_to_reach_half_of_the_tokens(text, table, documents):
    found = find_collocations(text, table, more_than=OFTEN)
    size = max(
        entry[0] for entry in ranked(documents) if entry[-1] in set(found_words(text, found))
    )
    half = text.token_count / 2
    listed = set(found_words(text, found))
    assert reach_of(documents, listed) >= half
    assert reach_of(documents, {e[-1] for e in ranked(documents) if e[0] < size}) < half
    for n, step in STEPS.items():  # half of the list are bigrams, a quarter trigrams, ...
        candidates = sum(len(entry[-1]) == n for entry in ranked(documents))
        assert np.count_nonzero(found.words == n) == min(size // step, candidates)


def test_all_are_taken_where_they_do_not_reach_half(make_store, table):
    rare = [[20, 21, 30 + i, 40 + i] for i in range(8)]  # half, less the sign below
    store = make_store([*rare, [10]], vocabulary_size=V)
    found = find_collocations(store, table, more_than=OFTEN)
    assert found_words(store, found) == [((20,), (21,))]
    assert found.counts.tolist() == [8]
    assert found.scores[0] == pytest.approx(math.log((8 / 32) / (8 / 32) ** 2))


@pytest.mark.parametrize("chunk, part", [(1, 300), (3, 100), (50, 7), (1 << 20, 100)])
def test_sizes_decide_the_memory_and_not_the_result(text, table, chunk, part):
    expected = find_collocations(text, table, more_than=OFTEN)
    found = find_collocations(text, table, more_than=OFTEN, chunk=chunk, part=part)
    for values, others in zip(found, expected, strict=True):
        assert np.array_equal(values, others)
    starts = [
        np.concatenate(list(collocation_starts(text, table, found, chunk=size)))
        for size in (chunk, text.token_count)
    ]
    assert np.array_equal(*starts)


@pytest.mark.parametrize("chunk", [1, 4, 64])
def test_stretches_make_up_the_store(text, table, documents, chunk):
    bounds = [stretch.bounds for stretch in stretches(text, table, chunk=chunk)]
    assert bounds[0][0] == 0 and bounds[-1][-1] == text.token_count
    assert all(a[-1] == b[0] for a, b in itertools.pairwise(bounds))
    lengths = [len(word) for document in documents for word in words_of(document)]
    assert np.concatenate([np.diff(b) for b in bounds]).tolist() == lengths


def cut(documents, listed):
    """Where units begin: the longest first, from left to right, the rest words."""
    starts = []
    for document in documents:
        words = words_of(document)
        taken, inside = [False] * len(words), [False] * len(words)
        for n in (5, 4, 3, 2):
            for i in range(len(words) - n + 1):
                if tuple(words[i : i + n]) in listed and not any(taken[i : i + n]):
                    taken[i : i + n] = [True] * n
                    inside[i + 1 : i + n] = [True] * (n - 1)
        for word, within in zip(words, inside, strict=True):
            starts += [not within] + [False] * (len(word) - 1)
    return starts


@pytest.mark.parametrize("seed", range(3))
def test_units_are_the_longest_collocations_from_left_to_right(make_store, text, table, seed):
    found = find_collocations(text, table, more_than=OFTEN)
    listed = set(found_words(text, found))
    documents = list(random_documents(seed + 10))  # as of a held-out text
    other = make_store(documents, f"other{seed}", vocabulary_size=V)
    starts = np.concatenate(list(collocation_starts(other, table, found)))
    assert starts.dtype == np.bool_
    assert starts.tolist() == cut(documents, listed)
    words = sum(len(words_of(document)) for document in documents)
    assert starts.sum() < 0.9 * words


def test_a_worked_example(make_store, table):
    """Phrases are found, within documents and sentences only."""
    phrase, fill = [20, 50, 21, 22], [[30, 31], [32], [33, 34, 35], [36]]
    sentences = [[*fill[i % 4], *phrase, 10, *fill[i % 3]] for i in range(8)]
    apart = [[20, 50], [21, 22], [20, 50, 10, 21, 22]]  # in two documents, across a sign
    store = make_store([*sentences, *apart], vocabulary_size=V)
    found = find_collocations(store, table, more_than=OFTEN)
    whole = ((20, 50), (21,), (22,))
    assert whole in found_words(store, found)
    assert found.counts[found_words(store, found).index(whole)] == 8
    starts = np.concatenate(list(collocation_starts(store, table, found)))
    assert starts[1 + 1 : 1 + 5].tolist() == [True, False, False, False]
    tail = np.array(sum(apart, []))
    assert starts[-len(tail) :].tolist() == [
        True,
        False,
        True,
        False,
        True,
        False,
        True,
        True,
        False,
    ]


@pytest.mark.parametrize(
    "documents",
    [
        [[10, 11, 12, 10] * 20],  # signs alone
        [[20, 21], [22, 23], [24, 25]],  # nothing often enough
        [[20] * 50],  # no more often than by chance
    ],
)
def test_a_text_without_collocations(make_store, table, documents):
    store = make_store(documents, vocabulary_size=V)
    with pytest.raises(DataError, match="no collocation: .* more than 3 times") as error:
        find_collocations(store, table, more_than=3)
    assert "lower masking.pmi_count" in str(error.value) and str(store.path) in str(error.value)


def test_a_document_that_is_longer_than_what_is_read_at_once(make_store, table):
    documents = [[20, 21] * 20_000, *([22, 23] for _ in range(30))]
    store = make_store(documents, vocabulary_size=V)
    found = find_collocations(store, table, more_than=10, chunk=100)
    starts = np.concatenate(list(collocation_starts(store, table, found)))
    assert len(starts) == store.token_count and starts[-60:].tolist() == [True, False] * 30


def test_lookup():
    draw = np.random.default_rng(0)
    hashes = np.unique(draw.integers(0, 1 << 64, 500, np.uint64))
    asked = np.concatenate([hashes[::-1], hashes + np.uint64(1), hashes ^ np.uint64(1 << 63)])
    expected = [{h: i for i, h in enumerate(hashes.tolist())}.get(h, -1) for h in asked.tolist()]
    assert Lookup(hashes).find(asked).tolist() == expected
    assert (Lookup(hashes[:0]).find(asked) == -1).all()


def test_forty_percent_of_tokens_hide_as_many_collocations_as_pmi_at_fifteen(make_store):
    """Wettig et al. (arXiv:2202.08005): what a higher rate does is what PMI masking is for."""
    documents = read_corpus("builtin:python_docs").documents[::3]
    tokenizer = train_tokenizer(documents, vocabulary_size=8192, lowercase=True)
    store = make_store(tokenizer.encode(documents), vocabulary_size=tokenizer.vocabulary_size)
    table = WordTable(continuations(tokenizer), wordless(tokenizer))
    found = find_collocations(store, table, more_than=10)
    starts = np.flatnonzero(np.concatenate(list(collocation_starts(store, table, found))))
    is_word_start = ~table.continues[store.tokens]
    several = np.add.reduceat(is_word_start.astype(int), starts) > 1
    assert several.sum() > 5000
    draw = np.random.default_rng(0)

    def hidden_by_tokens(rate):
        masked = draw.random(store.token_count) < rate
        return np.mean(np.logical_and.reduceat(masked, starts)[several])

    by_units = np.mean((draw.random(len(starts)) < 0.15)[several])
    assert hidden_by_tokens(0.40) == pytest.approx(by_units, rel=0.2)
    assert hidden_by_tokens(0.15) < by_units / 6
