"""New words become entries of the vocabulary that every reader of the saved file cuts alike."""

import json

import pytest
import tokenizers

from mlm.errors import DataError
from mlm.text import extend_tokenizer, load_tokenizer

PIECES = "[PAD] [UNK] [CLS] [SEP] [MASK] the cat ##s ##fish ##er dog ##y t ##h ##e é 中".split()


@pytest.fixture
def tokenizer(tmp_path):
    (tmp_path / "vocab.txt").write_text("\n".join(PIECES) + "\n", encoding="utf-8")
    return load_tokenizer(tmp_path / "vocab.txt")


def refused(tokenizer, *tokens) -> str:
    with pytest.raises(DataError) as caught:
        extend_tokenizer(tokenizer, tokens)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_new_word_is_one_id_and_other_texts_keep_theirs(tokenizer):
    extended, pieces = extend_tokenizer(tokenizer, ("catfish", "bird"))
    assert pieces == [[6, 8], [1]]
    assert extended.vocabulary_size == 19 and tokenizer.vocabulary_size == 17
    assert extended.special == tokenizer.special
    assert extended.encode(["The catfish, a BIRD"]) == [[5, 17, 1, 1, 18]]
    texts = ["the cats dogs", "cat fish", "thecatfish catfis", "é 中 [MASK]", ""]
    assert extended.encode(texts) == tokenizer.encode(texts)
    assert extended.encode_prompt("[MASK] catfish") == [4, 17]


def test_a_longer_word_is_cut_behind_the_new_one(tokenizer):
    extended, _ = extend_tokenizer(tokenizer, ["catfish"])
    assert tokenizer.encode(["catfishs"]) == [[6, 8, 7]]
    assert extended.encode(["catfishs"]) == [[17, 7]]


def test_the_saved_files_cut_alike(tokenizer, tmp_path):
    extended, _ = extend_tokenizer(tokenizer, ["catfish", "dogdog"])
    extended.save(tmp_path / "tokenizer.json")
    text = "the catfishs dogdog dogs the [mask]"
    [ids] = extended.encode([text])
    plain = tokenizers.Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    assert plain.encode(text).ids == [2, *ids, 3]
    assert load_tokenizer(tmp_path / "tokenizer.json").hash == extended.hash != tokenizer.hash
    by_id = sorted(extended.backend.get_vocab().items(), key=lambda item: item[1])
    (tmp_path / "vocab.txt").write_text("\n".join(piece for piece, _ in by_id), encoding="utf-8")
    assert load_tokenizer(tmp_path / "vocab.txt").encode([text]) == [ids]
    added = json.loads((tmp_path / "tokenizer.json").read_text())["added_tokens"]
    assert [token["id"] for token in added] == [0, 1, 2, 3, 4]


def test_an_extended_tokenizer_can_be_extended(tokenizer):
    once, _ = extend_tokenizer(tokenizer, ["catfish"])
    twice, pieces = extend_tokenizer(once, ["catfishery"])
    assert pieces == [[17, 9, 11]] and twice.encode(["catfishery"]) == [[18]]
    assert extend_tokenizer(once, [])[0] is once


@pytest.mark.parametrize(
    ("token", "words"),
    [
        ("cat", "'cat' is in the vocabulary already, as id 6: leave it out"),
        ("##s", "'##s' is in the vocabulary already, as id 7"),
        ("[MASK]", "'[MASK]' is in the vocabulary already, as id 4"),
        ("Catfish", "'Catfish' is read as 'catfish': write it so"),
        ("naïve", "'naïve' is read as 'naive': write it so"),
        (" catfish", "' catfish' is read as 'catfish': write it so"),
        ("cat fish", "'cat fish' is read as 2 words, 'cat fish': give one word"),
        ("covid-19", "'covid-19' is read as 3 words, 'covid - 19': give one word"),
        ("##ing", "'##ing' is read as 3 words, '# # ing'"),
        ("国国", "'国国' is read as 2 words, '国 国'"),
        ("", "'' is read as 0 words"),
        ("a" * 101, "'aaaaaaaaaaaaaaaaaaaa'... has 101 characters: give words of up to 100"),
    ],
)
def test_what_is_no_new_word_is_refused(tokenizer, token, words):
    assert f"1 of 1 new tokens cannot be added: {words}" in refused(tokenizer, token)


def test_all_refused_words_are_told_at_once(tokenizer):
    message = refused(tokenizer, "bird", "bird", "cat", "dog", "the", "é", "Bird", "t")
    assert message.startswith("7 of 8 new tokens cannot be added: 'bird' is given twice")
    assert message.endswith("; and 2 more") and message.count("leave") == 5


def test_case_matters_where_the_tokenizer_keeps_it(tokenizer, tmp_path):
    cased = load_tokenizer(tmp_path / "vocab.txt", lowercase=False)
    extended, _ = extend_tokenizer(cased, ["Cat", "naïve"])
    assert extended.encode(["Cat cat naïve"]) == [[17, 6, 18]]


def test_other_kinds_of_vocabularies_are_refused(tokenizer):
    vocabulary = {piece: id for id, piece in enumerate(PIECES)}
    bpe = tokenizers.Tokenizer(tokenizers.models.BPE(vocabulary, []))
    tokenizer.__dict__["backend"] = bpe
    assert "this tokenizer is BPE; use the tokenizer of a BERT" in refused(tokenizer, "bird")
