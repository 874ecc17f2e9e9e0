"""Which pieces go on with a word: seen on what small tokenizers make of real text."""

import numpy as np
import pytest
import tokenizers
from tokenizers import models, normalizers, pre_tokenizers, trainers

from mlm.errors import DataError
from mlm.text import continuations, extend_tokenizer, train_tokenizer, wordless
from mlm.text.keras_tokenizer import keras_tokenizer
from mlm.text.tokenizer import SPECIAL_TOKENS, bert_tokenizer, with_special_tokens

PIECES = "don ##t ' t , . ( ) $ walk ##ing ##ed the 中 文 か ##な 한 ##국 😀 ##😀 ok ##k 12 ##0 - é"
VOCABULARY = {piece: id for id, piece in enumerate([*SPECIAL_TOKENS, *PIECES.split()])}


@pytest.fixture
def wordpiece():
    return bert_tokenizer(VOCABULARY, lowercase=True, source="test", strip_accents=False)


def words_of(tokenizer, text):
    """The text as its words, the pieces of a word joined by +."""
    table, words = continuations(tokenizer), []
    for id in tokenizer.encode([text])[0]:
        piece = tokenizer.token(id)
        if table[id] and words:
            words[-1] += "+" + piece
        else:
            words.append(piece)
    return words


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("walking the walked", ["walk+##ing", "the", "walk+##ed"]),
        ("don't", ["don", "'", "t"]),  # each sign is a word of its own
        ("(the) $12,", ["(", "the", ")", "$", "12", ","]),
        ("walk-walking...", ["walk", "-", "walk+##ing", ".", ".", "."]),
        ("中文中", ["中", "文", "中"]),  # each ideograph too
        ("the中文", ["the", "中", "文"]),
        ("かな 한국", ["か+##な", "한+##국"]),  # kana and hangul are letters
        ("ok😀 😀 😀k", ["ok+##😀", "😀", "😀+##k"]),  # emoji are not split off
        ("walking zebra 120", ["walk+##ing", "[UNK]", "12+##0"]),
    ],
)
def test_wordpiece(wordpiece, text, words):
    assert words_of(wordpiece, text) == words


def test_wordpiece_of_kerashub_splits_the_same_way():
    tokenizer = keras_tokenizer(VOCABULARY, lowercase=True, strip_accents=False, source="test")
    assert words_of(tokenizer, "Walking, don't 中文") == "walk+##ing , don ' t 中 文".split()


def test_ideographs_that_the_tokenizer_does_not_split():
    vocabulary = VOCABULARY | {"##文": len(VOCABULARY)}
    tokenizer = bert_tokenizer(
        vocabulary, lowercase=True, source="test", handle_chinese_chars=False
    )
    assert words_of(tokenizer, "中文 中") == ["中+##文", "中"]


def test_new_tokens_begin_a_word_that_others_go_on_with(wordpiece):
    tokenizer, _ = extend_tokenizer(wordpiece, ["transformer"])
    assert words_of(tokenizer, "the transformering") == ["the", "transformer+##ing"]
    assert len(continuations(tokenizer)) == len(wordless(tokenizer)) == len(VOCABULARY) + 1


def test_tables_name_special_ids_and_signs(wordpiece):
    assert continuations(wordpiece).dtype == wordless(wordpiece).dtype == np.bool_
    inside = {piece for piece in VOCABULARY if piece.startswith("##")}
    signs = {*SPECIAL_TOKENS, "'", ",", ".", "(", ")", "$", "-"}
    assert {wordpiece.token(i) for i in np.flatnonzero(continuations(wordpiece))} == inside
    assert {wordpiece.token(i) for i in np.flatnonzero(wordless(wordpiece))} == signs


def test_every_word_of_a_trained_tokenizer_is_one_that_its_splitter_made():
    text = "Don't stop the crowd-funded walkers, re-walking 1,200 crowded (crowd) streets! Ünïcode"
    tokenizer = train_tokenizer([text] * 3, vocabulary_size=64, lowercase=True)
    backend = tokenizer.backend
    split = backend.pre_tokenizer.pre_tokenize_str(backend.normalizer.normalize_str(text))
    joined = [word.replace("+##", "") for word in words_of(tokenizer, text)]
    assert joined == [word for word, _ in split]
    assert continuations(tokenizer)[tokenizer.encode([text])[0]].any()


# Tokenizers that mark a space.

TEXTS = ["don't stop, (hello) world\nnew wörld 中文 12,000", "a well-known thing… “quoted”"]


def trained(backend, trainer):
    backend.train_from_iterator(TEXTS * 3, trainer)
    return with_special_tokens(backend, source="test")


def byte_level():
    backend = tokenizers.Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=list(SPECIAL_TOKENS),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    )
    return trained(backend, trainer)


def test_byte_level_bpe():
    tokenizer = byte_level()
    found = words_of(tokenizer, "don't stop, (hello) world\nnew line")
    assert found[0].replace("+", "") == "don't"
    joined = [word.replace("+", "") for word in found]
    assert joined == ["don't", "Ġstop", ",", "Ġ(hello", ")", "Ġworld", "Ċnew", "Ġline"]
    # The bytes of "…" and "“" together are signs; a part of a letter is none.
    assert not wordless(tokenizer)[tokenizer.backend.token_to_id("Ã")]
    assert [w.replace("+", "") for w in words_of(tokenizer, "a wörld… “quoted”")] == [
        "a",
        "ĠwÃ¶rld",
        "âĢ¦",
        "ĠâĢľquoted",
        "âĢĿ",
    ]


def test_characters_of_byte_level_bpe_are_bytes():
    from mlm.text.words import _bytes_of_characters

    table = _bytes_of_characters()
    assert sorted(table.values()) == list(range(256))
    assert set(table) == set(pre_tokenizers.ByteLevel.alphabet())
    splitter = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    for text in (" \n\tAz~", "é中😀", "\x00\x7f\x80\xad"):
        seen = "".join(word for word, _ in splitter.pre_tokenize_str(text))
        assert bytes(table[character] for character in seen) == text.encode()


@pytest.mark.parametrize("kind", ["unigram", "bpe", "normalizer"])
def test_sentencepiece(kind):
    special = {"vocab_size": 90, "special_tokens": list(SPECIAL_TOKENS)}
    if kind == "unigram":
        backend = tokenizers.Tokenizer(models.Unigram())
        trainer = trainers.UnigramTrainer(unk_token="[UNK]", **special)
    else:
        backend, trainer = tokenizers.Tokenizer(models.BPE()), trainers.BpeTrainer(**special)
    if kind == "normalizer":  # as in Llama
        marks = [normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]
        backend.normalizer = normalizers.Sequence(marks)
        backend.pre_tokenizer = pre_tokenizers.Split("▁", "merged_with_next")
    else:
        backend.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer = trained(backend, trainer)
    joined = [word.replace("+", "") for word in words_of(tokenizer, "stop the don't hello")]
    assert joined in (
        ["▁stop", "▁the", "▁don", "'t", "▁hello"],
        ["▁stop", "▁the", "▁don't", "▁hello"],  # where "'" is in no piece of its own
    )


def test_added_tokens_begin_a_word():
    tokenizer = byte_level()
    tokenizer.backend.add_tokens(["<name>"])
    assert words_of(tokenizer, "stop <name>stop")[-1].startswith("<name>")
    assert not continuations(tokenizer)[list(tokenizer.special_ids)].any()
    assert wordless(tokenizer)[list(tokenizer.special_ids)].all()


# Tokenizers that know no words.


def word_level():
    vocabulary = {token: id for id, token in enumerate([*SPECIAL_TOKENS, "a", "b"])}
    backend = tokenizers.Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    backend.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    return with_special_tokens(backend, source="test")


def end_marking():
    trainer = trainers.BpeTrainer(special_tokens=list(SPECIAL_TOKENS), end_of_word_suffix="</w>")
    backend = tokenizers.Tokenizer(models.BPE(end_of_word_suffix="</w>"))
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    return trained(backend, trainer)


@pytest.mark.parametrize("make", [word_level, end_marking])
def test_a_tokenizer_without_words(make):
    tokenizer = make()
    with pytest.raises(DataError, match="does not tell where a word begins") as error:
        continuations(tokenizer)
    assert tokenizer.hash[:12] in str(error.value) and "needs no words: 'token'" in str(error.value)
    assert error.value.exit_code == 3
