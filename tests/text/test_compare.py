"""Numbers that can be counted by hand, and a table of them that fits a terminal."""

import io

import pytest
from rich.console import Console

from mlm.errors import DataError
from mlm.text import Reading, load_tokenizer
from mlm.text import compare as module
from mlm.text.compare import Measure, compare_texts, comparison_table, measure, shared_pieces

PIECES = "[PAD] [UNK] [CLS] [SEP] [MASK] [ ] mask the The cat ##s e é".split()


@pytest.fixture
def uncased(tmp_path):
    (tmp_path / "vocab.txt").write_text("\n".join(PIECES) + "\n", encoding="utf-8")
    return load_tokenizer(tmp_path / "vocab.txt")


@pytest.fixture
def cased(uncased, tmp_path):
    return load_tokenizer(tmp_path / "vocab.txt", lowercase=False)


def of(text, *tokenizers):
    return measure([text], tokenizers)


def printed(measures) -> str:
    console = Console(file=io.StringIO(), width=100, markup=False)
    console.print(comparison_table(measures))
    return console.file.getvalue()


def test_words_tokens_and_unknown_words(uncased, cased):
    # the cat ##s [UNK] and The cat ##s [UNK]: "dogs" is unknown, four of eleven characters.
    expected = Measure(words=3, characters=11, tokens=4, unknown=1, unread=4, signs=11, dropped=0)
    assert of("The cats\n dogs ", uncased, cased) == [expected, expected]
    assert expected.unknown_share == 1 / 4 and expected.unread_share == 4 / 11


def test_the_name_of_a_special_token_is_text(uncased):
    [found] = of("[MASK] [UNK]", uncased)
    assert (found.tokens, found.unknown, found.unread) == (6, 1, 3)  # [ mask ] [ unk ]


def test_characters_that_normalisation_drops(uncased, cased):
    for text in ("é the", "e\N{COMBINING ACUTE ACCENT} the"):  # composed or not
        [lower, kept] = of(text, uncased, cased)
        assert (lower.signs, lower.dropped, lower.dropped_share) == (5, 1, 1 / 5)
        assert (kept.signs, kept.dropped) == (5, 0)
    # Hindi: two letters and a vowel sign between them.
    [hindi] = of("हुत", uncased)
    assert (hindi.characters, hindi.signs, hindi.dropped) == (3, 3, 1)
    # Korean syllables come apart without a loss, and the cased one drops control characters.
    assert of("한국", uncased)[0].dropped == 0
    assert of("the\N{ZERO WIDTH NON-JOINER}", cased)[0].dropped == 1


def test_a_word_of_more_than_a_hundred_characters_is_one_token(uncased):
    [found] = of("e" * 101 + " the", uncased)
    assert (found.tokens, found.unknown, found.unread) == (2, 1, 101)
    assert found.unread_share == 101 / 104


def test_long_texts_are_cut_without_changing_a_number(uncased, monkeypatch):
    text = "The cats  dog\té " * 9000 + "x" * 70_000
    whole = uncased.encode([text])[0]
    monkeypatch.setattr(module, "BATCH", 1 << 17)
    batches = list(module._batches([text, " ", "the"]))
    assert len(batches) > 1 and max(len(piece) for batch in batches for piece in batch) == 65536
    [found] = of(text[:-70_000], uncased)
    assert found.words == 4 * 9000 and found.tokens == len(whole) - 1 == 5 * 9000
    assert found.unread == 3 * 9000 and found.characters == 11 * 9000
    assert of(text, uncased)[0].unread == 3 * 9000 + 70_000


def test_files_and_all_of_them(uncased, cased, tmp_path):
    folder = tmp_path / "texts"
    (folder / "deep").mkdir(parents=True)
    (folder / "a.txt").write_text("The cat\n\nThe cats")
    (folder / "deep/b.jsonl").write_text('{"body": "dog"}\n')
    (folder / "empty.txt").write_text("\n")
    found = compare_texts(f"{folder}", [uncased, cased], Reading(field="body"))
    assert list(found) == ["a.txt", "deep/b.jsonl", "empty.txt", "in all"]
    assert [m.words for m, _ in found.values()] == [4, 1, 0, 5]
    assert [m.tokens for m, _ in found.values()] == [5, 1, 0, 6]
    assert [m.unknown for _, m in found.values()] == [0, 1, 0, 1]
    assert found["empty.txt"][0] == Measure()
    single = compare_texts(f"{folder / 'a.txt'},", [uncased], Reading())
    assert list(single) == ["a.txt"] and single["a.txt"] == found["a.txt"][:1]
    assert module.warnings(found) == [
        "warning: deep/b.jsonl: A reads 100.0% of the text as [UNK], which is 100.0% of its tokens",
        "warning: deep/b.jsonl: B reads 100.0% of the text as [UNK], which is 100.0% of its tokens",
        "warning: in all: A reads 18.8% of the text as [UNK], which is 16.7% of its tokens",
        "warning: in all: B reads 18.8% of the text as [UNK], which is 16.7% of its tokens",
    ]


def test_a_long_word_is_warned_of_though_it_is_one_token_of_many(uncased):
    found = {"a.txt": of("the " * 200 + "e" * 101, uncased)}
    assert found["a.txt"][0].unknown_share < 0.01
    assert module.warnings(found) == [
        "warning: a.txt: A reads 14.4% of the text as [UNK], which is 0.5% of its tokens"
    ]
    assert module.warnings({"a.txt": of("the cats", uncased)}) == []


def test_the_builtin(uncased, monkeypatch):
    monkeypatch.setattr("mlm.text.corpus.python_docs", lambda: ["the cat", "the"])
    found = compare_texts("builtin:python_docs", [uncased], Reading())
    assert list(found) == ["builtin:python_docs"] and found["builtin:python_docs"][0].words == 3


def test_texts_without_a_word(uncased, tmp_path):
    (tmp_path / "a.txt").write_text(" \n")
    with pytest.raises(DataError, match="a.txt has no words, only white space; name another"):
        compare_texts(str(tmp_path / "a.txt"), [uncased], Reading())


def test_the_table_fits_twenty_files_and_two_tokenizers_into_a_hundred_columns(uncased, cased):
    one = Measure(1_234_567, 6_000_000, 2_000_000, 300_000, 600_000, 6_500_000, 1_170_000)
    lines = printed({f"ell_monotonic{i}.txt": [one, Measure()] for i in range(20)}).splitlines()
    header, rows = lines[1].split(), [line.split() for line in lines[3:-1]]
    assert header == "text words by tokens/word chars/token [UNK] unread dropped".split()
    assert len(rows) == 40
    shares = ["15.00%", "10.00%", "18.00%"]
    assert rows[0] == ["ell_monotonic0.txt", "1,234,567", "A", "1.62", "3.00", *shares]
    assert rows[1] == ["B", "0.00", "0.00", "0.00%", "0.00%", "0.00%"]


def test_what_vocabularies_share(uncased, tmp_path):
    (tmp_path / "other.txt").write_text("\n".join([*PIECES[:5], "]", "the", "dog"]))
    other = load_tokenizer(tmp_path / "other.txt")
    assert shared_pieces([uncased, other]) == [
        "A: 14 pieces, 7 of them in no other",
        "B: 8 pieces, 1 of them in no other",
        "common to all: 7 pieces, 5 of them with the same id",
    ]
    assert shared_pieces([uncased, uncased, other])[0] == "A: 14 pieces, 0 of them in no other"
