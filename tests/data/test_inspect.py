"""The numbers of a prepared folder, and its two commands."""

import pytest

from mlm.__main__ import main
from mlm.data import token_counts
from mlm.data.inspect import inspect_text, unknown_share
from mlm.data.prepare import TextSettings, prepare
from mlm.errors import ConfigError, DataError

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
    content[3] ^= 1
    file.write_bytes(content)
    with pytest.raises(DataError, match="heldout/tokens.bin is damaged .sha256"):
        main(["store", "verify", str(text.folder)])


def test_wrong_words(tmp_path):
    with pytest.raises(ConfigError, match="invalid choice: 'list'"):
        main(["store", "list", str(tmp_path)])
    with pytest.raises(DataError, match="holds no prepared text; make it with python -m mlm"):
        main(["store", "inspect", str(tmp_path)])
