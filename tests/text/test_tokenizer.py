"""Ids are those of the file, text stays text, and unusable tokenizers are refused by name."""

import json
import pickle
from concurrent.futures import ThreadPoolExecutor

import pytest

from mlm.errors import DataError
from mlm.text import SpecialTokens, load_tokenizer

PIECES = "[PAD] [UNK] [CLS] [SEP] [MASK] [ ] mask the cat ##s é e".split()
VOCABULARY = {piece: id for id, piece in enumerate(PIECES)}


@pytest.fixture
def vocab_txt(tmp_path):
    path = tmp_path / "vocab.txt"
    path.write_text("\n".join(PIECES) + "\n", encoding="utf-8")
    return path


@pytest.fixture
def tokenizer(vocab_txt):
    return load_tokenizer(vocab_txt)


@pytest.fixture
def edit_json(tokenizer, tmp_path):
    """Writes the tokenizer.json of `tokenizer` after a function has changed it."""

    def edit(change) -> str:
        content = json.loads(tokenizer.backend.to_str())
        change(content)
        path = tmp_path / "tokenizer.json"
        path.write_text(json.dumps(content), encoding="utf-8")
        return str(path)

    return edit


def ids(*pieces: str) -> list[int]:
    return [VOCABULARY[piece] for piece in pieces]


def error_of(path) -> str:
    with pytest.raises(DataError) as caught:
        load_tokenizer(path)
    message = str(caught.value)
    assert "\n" not in message and str(path) in message
    return message


def test_encode_has_no_frame(tokenizer):
    assert tokenizer.encode(["The cats", "", "dog"]) == [ids("the", "cat", "##s"), [], ids("[UNK]")]
    assert tokenizer.encode(()) == []


def test_special_tokens(tokenizer):
    assert tokenizer.special == SpecialTokens(pad=0, unk=1, cls=2, sep=3, mask=4)
    assert tokenizer.special_ids == (0, 1, 2, 3, 4)
    assert tokenizer.vocabulary_size == len(PIECES)


def test_literal_special_tokens_are_text_in_a_corpus_and_special_in_a_prompt(tokenizer):
    bracketed = ids("[", "mask", "]")
    assert tokenizer.encode(["the [MASK]"]) == [ids("the") + bracketed]
    assert tokenizer.encode_prompt("The [MASK] [SEP]") == ids("the", "[MASK]", "[SEP]")
    assert tokenizer.encode_prompt("[mask]") == bracketed
    assert tokenizer.encode(["the [MASK]"]) == [ids("the") + bracketed]


def test_text_and_prompts_do_not_disturb_each_other_in_threads(tokenizer):
    with ThreadPoolExecutor(4) as pool:
        texts = [pool.submit(tokenizer.encode, ["[MASK]"] * 20) for _ in range(50)]
        prompts = [pool.submit(tokenizer.encode_prompt, "[MASK]") for _ in range(50)]
    assert all(text.result() == [ids("[", "mask", "]")] * 20 for text in texts)
    assert all(prompt.result() == ids("[MASK]") for prompt in prompts)


def test_a_pickled_copy_keeps_text_as_text(tokenizer):
    tokenizer.encode(["[MASK]"])
    copy = pickle.loads(pickle.dumps(tokenizer))
    assert copy.encode(["[MASK]"]) == [ids("[", "mask", "]")]
    assert copy.hash == tokenizer.hash and copy.special == tokenizer.special


def test_lowercase_belongs_to_vocab_txt_only(vocab_txt, edit_json):
    assert load_tokenizer(vocab_txt).encode(["THE é"]) == [ids("the", "e")]
    cased = load_tokenizer(vocab_txt, lowercase=False)
    assert cased.encode(["THE the é"]) == [ids("[UNK]", "the", "é")]
    saved = load_tokenizer(edit_json(lambda content: None), lowercase=False)
    assert saved.encode(["THE é"]) == [ids("the", "e")]


def test_decode_and_token(tokenizer):
    assert tokenizer.decode(ids("the", "cat", "##s", "[MASK]")) == "the cats [MASK]"
    assert tokenizer.token(10) == "##s"
    for id in (-1, len(PIECES), 2**40):
        with pytest.raises(DataError, match=f"token id {id} is not in .* below {len(PIECES)}"):
            tokenizer.token(id)


def test_save_keeps_hash_and_adds_the_frame_for_other_readers(tokenizer, vocab_txt, tmp_path):
    tokenizer.save(tmp_path / "saved.json")
    saved = load_tokenizer(tmp_path / "saved.json")
    assert saved.hash == tokenizer.hash == load_tokenizer(vocab_txt).hash
    assert saved.hash != load_tokenizer(vocab_txt, lowercase=False).hash
    assert saved.encode(["The cats [MASK]"]) == tokenizer.encode(["The cats [MASK]"])
    assert saved.backend.encode("the").ids == ids("[CLS]", "the", "[SEP]")


def test_truncation_and_padding_of_a_file_are_dropped(edit_json, tokenizer):
    def change(content):
        backend = type(tokenizer.backend).from_str(json.dumps(content))
        backend.enable_truncation(2)
        backend.enable_padding(length=8)
        content.update(json.loads(backend.to_str()))

    path = edit_json(change)
    assert '"max_length": 2' in open(path, encoding="utf-8").read()
    assert load_tokenizer(path).encode(["the cat the cat"]) == [ids("the", "cat", "the", "cat")]


def test_special_tokens_that_a_file_does_not_mark_as_special(edit_json):
    loaded = load_tokenizer(edit_json(lambda content: content.update(added_tokens=[])))
    assert loaded.encode(["[MASK]"]) == [ids("[", "mask", "]")]
    assert loaded.encode_prompt("[MASK]") == ids("[MASK]")


def test_vocabulary_size_counts_up_to_the_largest_id(edit_json):
    def change(content):
        content["model"]["vocab"]["far"] = 40

    assert load_tokenizer(edit_json(change)).vocabulary_size == 41


def test_windows_line_ends_and_blank_end_of_vocab_txt(vocab_txt, tokenizer):
    vocab_txt.write_bytes(b"\xef\xbb\xbf" + "\r\n".join([*PIECES, "", ""]).encode("utf-8"))
    assert load_tokenizer(vocab_txt).hash == tokenizer.hash


@pytest.mark.parametrize("name", ["vocab.txt", "tokenizer.json"])
def test_missing_file(tmp_path, name):
    message = error_of(tmp_path / name)
    assert "No such file" in message and "correct the path" in message


def test_wrong_suffix(tmp_path):
    assert "neither a vocab.txt nor a tokenizer.json" in error_of(tmp_path / "spiece.model")


@pytest.mark.parametrize("content", ["nonsense", "{}", '{"version": "1.0", "model": {}}'])
def test_json_of_another_kind(tmp_path, content):
    (tmp_path / "tokenizer.json").write_text(content)
    message = error_of(tmp_path / "tokenizer.json")
    assert "is not a file of the tokenizers library" in message and "vocab.txt" in message


def test_file_that_is_not_utf8(vocab_txt):
    vocab_txt.write_bytes(b"[PAD]\ncaf\xe9\n")
    assert "not UTF-8: byte 0xe9 in line 2" in error_of(vocab_txt)


def test_missing_special_tokens(vocab_txt):
    vocab_txt.write_text("[PAD]\n[UNK]\n[SEP]\nthe\n")
    message = error_of(vocab_txt)
    assert "lacks [CLS], [MASK]; use the tokenizer of a BERT" in message


def test_repeated_piece(vocab_txt):
    vocab_txt.write_text("\n".join([*PIECES, "cat"]), encoding="utf-8")
    message = error_of(vocab_txt)
    assert "line 14 repeats 'cat' of line 10" in message and "repair the file" in message


def test_special_tokens_with_one_id(edit_json):
    def change(content):
        content["added_tokens"] = []
        content["post_processor"] = None
        content["model"]["vocab"]["[MASK]"] = 0

    message = error_of(edit_json(change))
    assert "gives [PAD] and [MASK] the same id 0; each needs its own" in message


@pytest.mark.parametrize(
    ("texts", "complaint"),
    [
        ("the cat", "not 'the cat'; put the text in a list"),
        (None, "not None; put the text in a list"),
        (["the", b"cat"], "text 1 is b'cat', not a str; decode bytes as UTF-8"),
        (["the", "c\ud800t"], r"text 1 \('c\\ud800t'\) has a lone surrogate.*repair it"),
    ],
)
def test_items_that_are_not_text(tokenizer, texts, complaint):
    with pytest.raises(DataError, match=complaint):
        tokenizer.encode(texts)


def test_prompt_that_is_not_text(tokenizer):
    with pytest.raises(DataError, match="text 0 is b'cat', not a str"):
        tokenizer.encode_prompt(b"cat")
