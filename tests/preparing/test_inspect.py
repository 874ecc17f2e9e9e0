"""The numbers of a prepared folder, and its two commands."""

import pytest

from mlm.__main__ import main
from mlm.data import token_counts
from mlm.errors import ConfigError, DataError
from mlm.preparing import TextSettings, prepare
from mlm.preparing.inspect import inspect_text, unknown_share

SETTINGS = dict(document="line", heldout_fraction=0.3, lowercase=True)


@pytest.fixture
def text(tmp_path):
    (tmp_path / "a.txt").write_text("\n".join(f"the cat {n} sees" for n in range(40)))
    settings = TextSettings(
        corpus=str(tmp_path / "a.txt"), tokenizer="", vocabulary_size=60, **SETTINGS
    )
    return prepare(settings, folder=tmp_path / "prepared", cache_dir=tmp_path, say=str)


def test_what_is_told_of_a_store(text):
    lines = inspect_text(text)
    assert lines[1].startswith("made from ") and "a.txt (1 file), 0.0 MB" in lines[1]
    train = text.train
    assert f"train: {train.documents:,} documents, {train.token_count:,} tokens" in lines
    assert any("tokens per document: min 4" in line for line in lines)
    assert any("most frequent: " in line and " the" in line for line in lines)
    # Documents of one to five tokens alone in a row of 128 leave nearly all of it empty.
    [short, _] = [line for line in lines if "at L=128" in line]
    shares = dict(zip(short.split()[6::2], map(float, short.split()[7::2]), strict=True))
    assert shares["document"] < 0.05 < 0.4 < shares["packed"] <= shares["blocks"]
    assert not any("warning" in line for line in lines)


def test_an_unsuited_tokenizer_is_told(text, tmp_path):
    (tmp_path / "b.txt").write_text(
        "\n".join(["кошка the cat"] * 9 + [f"пёс {n}" for n in range(9)])
    )
    settings = TextSettings(
        corpus=str(tmp_path / "b.txt"),
        tokenizer=str(text.folder / "tokenizer.json"),
        vocabulary_size=60,
        **SETTINGS,
    )
    other = prepare(settings, cache_dir=tmp_path, say=str)
    share = unknown_share(token_counts(other.train), other.tokenizer)
    assert share > 0.2
    assert f"warning: {share:.1%} of the tokens are [UNK]" in inspect_text(other)[-1]
    assert inspect_text(other)[-1].endswith("with data.new_tokens")


def test_the_commands(text, capsys):
    main(["store", "inspect", str(text.folder)])
    whole = capsys.readouterr().out
    main(["store", "inspect", str(text.folder / "train")])
    assert capsys.readouterr().out == whole == "\n".join(inspect_text(text)) + "\n"
    main(["store", "verify", str(text.folder)])
    assert capsys.readouterr().out.count("as it was written") == 2


def test_a_flipped_bit_is_found(text):
    file = text.folder / "heldout/tokens.bin"
    content = bytearray(file.read_bytes())
    content[3] ^= 1  # the upper half of the second id
    file.write_bytes(content)
    with pytest.raises(DataError, match="heldout/tokens.bin is damaged .token 1 is id"):
        main(["store", "verify", str(text.folder)])


def test_wrong_words(tmp_path):
    with pytest.raises(ConfigError, match="invalid choice: 'list'"):
        main(["store", "list", str(tmp_path)])
    with pytest.raises(DataError, match="holds no prepared text; name another folder"):
        main(["store", "inspect", str(tmp_path)])


def test_lengths_are_drawn_and_duplicates_counted(tmp_path):
    lines = ["a b c"] * 3 + ["a b c d e f g h"] * 2 + [f"a {n}" for n in "bcdefgh"]
    (tmp_path / "a.txt").write_text("\n".join(lines))
    (tmp_path / "own.txt").write_text("b c\na b c d\na b c d e")
    settings = TextSettings(
        corpus=str(tmp_path / "a.txt"),
        heldout_corpus=str(tmp_path / "own.txt"),
        tokenizer="",
        vocabulary_size=40,
        **SETTINGS,
    )
    lines = inspect_text(prepare(settings, cache_dir=tmp_path, say=str))
    train = lines[lines.index("train: 12 documents, 39 tokens") :]
    assert train[2:4] == [
        f"  {'2-3':>17} {10:>11} {'#' * 40}",
        f"  {'4-7':>17} {0:>11} ",
    ]
    assert train[4] == f"  {'8-15':>17} {2:>11} {'#' * 8}"
    assert "  duplicates: 3 documents repeat one before them" in train


def test_sources_are_told_where_there_are_several(tmp_path):
    for name, words in (("a", "the cat sees"), ("b", "a dog")):
        (tmp_path / f"{name}.txt").write_text("\n".join(f"{words} {n}" for n in range(40)))
    corpus = f"{tmp_path / 'a.txt'},{tmp_path / 'b.txt'}"
    settings = TextSettings(corpus=corpus, tokenizer="", vocabulary_size=60, **SETTINGS)
    text = prepare(settings, cache_dir=tmp_path, say=str)
    first, second = text.train.sources
    assert [first["name"], second["name"]] == corpus.split(",")
    assert first["documents"] + second["documents"] == text.train.documents
    assert first["tokens"] + second["tokens"] == text.train.token_count
    share = first["tokens"] / text.train.token_count
    line = f"{first['documents']} documents, {first['tokens']} tokens ({share:.1%})"
    assert any(line in told for told in inspect_text(text))
