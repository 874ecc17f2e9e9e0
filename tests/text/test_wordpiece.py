"""Training is deterministic, keeps its size, and learns nothing special from the text."""

import subprocess
import sys
from pathlib import Path

import pytest

from mlm.errors import DataError
from mlm.text import load_tokenizer, train_tokenizer
from mlm.text import wordpiece as module

DOCUMENTS = (
    "The quick brown fox jumps over the lazy dog. The foxes jump; dogs were jumping too!",
    "Pack my box with five dozen liquor jugs, said the quickest of the foxes in the box.",
    "Unboxing quick jumps and lazily jumping over jugs: 1234567890 times, naïve café.",
    "[MASK] and [PAD] [MASK] [MASK] are words here; 中文 中 文 stand alone, один два два.",
)


def train(documents=DOCUMENTS, *, vocabulary_size=128, lowercase=True):
    return train_tokenizer(documents, vocabulary_size=vocabulary_size, lowercase=lowercase)


def test_same_text_gives_the_same_tokenizer():
    # Many pairs of these pieces occur equally often, so that an arbitrary order would show.
    first = train()
    assert {train().hash for _ in range(5)} == {first.hash}
    assert train(DOCUMENTS[::-1]).hash == first.hash
    assert train(lowercase=False).hash != first.hash


def test_another_process_trains_the_same_tokenizer_and_needs_no_jax():
    program = (
        "import sys\n"
        "from mlm.text import train_tokenizer\n"
        f"documents = {DOCUMENTS!r}\n"
        "print(train_tokenizer(documents, vocabulary_size=128, lowercase=True).hash)\n"
        "print([name for name in ('jax', 'flax', 'numpy') if name in sys.modules])\n"
    )
    root = Path(__file__).parents[2]
    result = subprocess.run(
        [sys.executable, "-c", program], cwd=root, capture_output=True, text=True, check=True
    )
    assert result.stdout.split("\n") == [train().hash, "[]", ""]
    assert result.stderr == ""  # no progress bar


def test_vocabulary_has_special_tokens_first_and_the_size_asked_for():
    tokenizer = train()
    assert [tokenizer.token(id) for id in range(5)] == [
        "[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]",
    ]  # fmt: skip
    assert tokenizer.special_ids == (0, 1, 2, 3, 4)
    assert tokenizer.vocabulary_size == 128
    assert train(vocabulary_size=100_000).vocabulary_size < 300  # a small text has few pairs


def test_every_training_text_is_covered_and_comes_back():
    tokenizer = train(lowercase=False)
    for text, ids in zip(DOCUMENTS, tokenizer.encode(DOCUMENTS), strict=True):
        assert tokenizer.special.unk not in ids
        joined = "".join(tokenizer.token(id).removeprefix("##") for id in ids)
        assert joined == text.replace(" ", "")


def test_lowercase_also_strips_accents():
    uncased, cased = train(), train(lowercase=False)
    assert uncased.encode(["NAÏVE Café"]) == uncased.encode(["naive cafe"])
    assert cased.encode(["café"]) != cased.encode(["cafe"])


def test_names_of_special_tokens_in_the_text_are_words():
    tokenizer = train()
    ids = tokenizer.encode(["[MASK]"])[0]
    assert [tokenizer.token(id) for id in ids] == ["[", "mask", "]"]
    assert not set(ids) & set(tokenizer.special_ids)
    assert tokenizer.encode_prompt("[MASK]") == [tokenizer.special.mask]


def test_characters_that_stand_alone_take_one_piece():
    vocabulary = train().backend.get_vocab()
    assert "中" in vocabulary and "##中" not in vocabulary
    assert "." in vocabulary and "##." not in vocabulary
    assert "д" in vocabulary and "##д" in vocabulary


def test_rare_characters_give_way(monkeypatch):
    monkeypatch.setattr(module, "COMMON_ALPHABET", 2)
    documents = ["ab " * 20_000 + "z"]  # "z" is one in 40,001 characters
    vocabulary = train(documents).backend.get_vocab()
    assert "a" in vocabulary and "b" in vocabulary and "z" not in vocabulary
    assert "c" in train(["abc"]).backend.get_vocab()  # one in three must be covered


def test_size_that_holds_just_the_characters():
    tokenizer = train(["abc abc"], vocabulary_size=11)
    assert tokenizer.vocabulary_size == 11
    assert len(tokenizer.encode(["abc"])[0]) == 3


def test_size_that_is_too_small():
    with pytest.raises(DataError) as caught:
        train(["abc abc"], vocabulary_size=10)
    message = str(caught.value)
    assert "vocabulary_size is 10" in message and "11 pieces; use a larger" in message
    assert "\n" not in message


@pytest.mark.parametrize("documents", [[], ["", " \n"]])
def test_no_text(documents):
    with pytest.raises(DataError, match=f"{len(documents)} documents, all blank; give"):
        train(documents)


def test_saved_and_loaded(tmp_path):
    tokenizer = train()
    tokenizer.save(tmp_path / "tokenizer.json")
    loaded = load_tokenizer(tmp_path / "tokenizer.json")
    assert loaded.hash == tokenizer.hash
    assert loaded.encode(DOCUMENTS) == tokenizer.encode(DOCUMENTS)
