"""A folder stands for the tokenizer in it, and what the folder says about case is what holds."""

import json

import pytest

from mlm.errors import DataError
from mlm.text import load_tokenizer, train_tokenizer

PIECES = "[PAD] [UNK] [CLS] [SEP] [MASK] the The cafe café 中 中文 ##文".split()


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "vocab.txt").write_text("\n".join(PIECES) + "\n", encoding="utf-8")
    return tmp_path


def configure(folder, **config) -> None:
    (folder / "tokenizer_config.json").write_text(json.dumps(config))


def pieces(tokenizer, text: str) -> list[str]:
    return [tokenizer.token(id) for id in tokenizer.encode([text])[0]]


def error_of(path) -> str:
    with pytest.raises(DataError) as caught:
        load_tokenizer(path)
    message = str(caught.value)
    assert "\n" not in message and str(path) in message
    return message


def test_a_folder_with_tokenizer_json(folder):
    trained = train_tokenizer(["other words"] * 3, vocabulary_size=64, lowercase=False)
    trained.save(folder / "tokenizer.json")
    configure(folder, do_lower_case=True)  # of the vocab.txt, which is not read
    for lowercase in (None, True, False):
        assert load_tokenizer(folder, lowercase=lowercase).hash == trained.hash
    assert load_tokenizer(str(folder)).hash == trained.hash


def test_a_folder_with_vocab_txt_alone_is_read_as_the_file(folder):
    for lowercase in (None, True, False):
        file = load_tokenizer(folder / "vocab.txt", lowercase=lowercase)
        assert load_tokenizer(folder, lowercase=lowercase).hash == file.hash
    configure(folder, model_max_length=512)  # nothing about case
    assert pieces(load_tokenizer(folder), "The") == ["the"]
    assert pieces(load_tokenizer(folder, lowercase=False), "The") == ["The"]


@pytest.mark.parametrize("lowercase", [None, True, False])
def test_what_the_folder_says_about_case_wins(folder, lowercase):
    configure(folder, do_lower_case=False)
    assert pieces(load_tokenizer(folder, lowercase=lowercase), "The café") == ["The", "café"]
    configure(folder, do_lower_case=True)
    assert pieces(load_tokenizer(folder, lowercase=lowercase), "The café") == ["the", "cafe"]
    # The file by its own name has nothing beside it.
    assert pieces(load_tokenizer(folder / "vocab.txt", lowercase=False), "The") == ["The"]


def test_accents_and_chinese_characters_as_the_folder_says(folder):
    configure(folder, do_lower_case=True, strip_accents=None, tokenize_chinese_chars=True)
    assert load_tokenizer(folder).hash == load_tokenizer(folder / "vocab.txt").hash
    configure(folder, do_lower_case=True, strip_accents=False, tokenize_chinese_chars=False)
    assert pieces(load_tokenizer(folder), "The CAFÉ 中文") == ["the", "café", "中文"]
    configure(folder, strip_accents=True)
    assert pieces(load_tokenizer(folder, lowercase=False), "The café") == ["The", "cafe"]


def test_a_folder_without_a_tokenizer(tmp_path):
    message = error_of(tmp_path)
    assert "without tokenizer.json or vocab.txt" in message and "Hugging Face" in message


def test_errors_name_the_file_in_the_folder(folder):
    (folder / "vocab.txt").write_text("[PAD]\n[UNK]\n[SEP]\nthe\n")
    assert f"{folder / 'vocab.txt'} lacks [CLS], [MASK]" in error_of(folder)
    (folder / "tokenizer.json").write_text("{}")
    assert f"{folder / 'tokenizer.json'} is not a file of the" in error_of(folder)


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        ("{", "is not JSON (Expecting"),
        ("[]", "is not a JSON object but list; mend it, or"),
        ('{"do_lower_case": "no"}', "has do_lower_case 'no', which is not true or false"),
        ('{"do_lower_case": null}', "has do_lower_case None"),
        ('{"strip_accents": 1}', "has strip_accents 1"),
        ('{"word_tokenizer_type": "mecab"}', "splits words by 'mecab', which we cannot"),
    ],
)
def test_a_tokenizer_config_that_cannot_be_used(folder, content, complaint):
    (folder / "tokenizer_config.json").write_text(content)
    assert f"{folder / 'tokenizer_config.json'} {complaint}" in error_of(folder)


def test_a_path_to_nothing(tmp_path):
    assert "nor a folder with one of them; correct the path" in error_of(tmp_path / "checkpoint")


def test_an_id_far_beyond_the_pieces(tmp_path):
    """tokenizers 0.23 makes a table up to the largest id, 4 GiB here, and aborts the process."""
    file = tmp_path / "tokenizer.json"
    train_tokenizer(["other words"] * 3, vocabulary_size=64, lowercase=True).save(file)
    content = json.loads(file.read_text())
    content["model"]["vocab"]["other"] = 1 << 31
    file.write_text(json.dumps(content))
    assert "has an id 2147483648 among " in error_of(file)
