"""What is told of a tokenizer is so: kinds are tried out, pieces and ids are those of the file."""

import json

import pytest
import tokenizers
from tokenizers import decoders, models, normalizers, pre_tokenizers

from mlm.text import load_tokenizer
from mlm.text.show import describe, kind, show_texts
from mlm.text.tokenizer import SPECIAL_TOKENS, with_special_tokens

PIECES = "[PAD] [UNK] [CLS] [SEP] [MASK] the cat ##s ##é é e".split()


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "vocab.txt").write_text("\n".join(PIECES) + "\n", encoding="utf-8")
    return tmp_path


def test_what_a_tokenizer_is(folder):
    tokenizer = load_tokenizer(folder)
    assert describe(tokenizer) == [
        f"tokenizer {tokenizer.hash[:12]}, vocabulary 11",
        "special tokens: [PAD] 0   [UNK] 1   [CLS] 2   [SEP] 3   [MASK] 4",
        "kind: WordPiece, lower-cases, strips accents; a word of more than 100 characters is [UNK]",
        "pieces: 4 begin a word, 2 continue one (##)",
    ]


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"do_lower_case": False}, "keeps case, keeps accents"),
        ({"do_lower_case": True, "strip_accents": False}, "lower-cases, keeps accents"),
        ({"do_lower_case": False, "strip_accents": True}, "keeps case, strips accents"),
    ],
)
def test_case_and_accents(folder, settings, told):
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    assert kind(load_tokenizer(folder)) == f"WordPiece, {told}"


def byte_level(normalizer=None):
    vocabulary = {piece: id for id, piece in enumerate([*SPECIAL_TOKENS, "a", "b", "Ġ", "Ġa"])}
    backend = tokenizers.Tokenizer(models.BPE(vocabulary, [("Ġ", "a")], unk_token="[UNK]"))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    if normalizer:
        backend.normalizer = normalizer
    return with_special_tokens(backend, source="test")


def test_byte_level_pieces():
    tokenizer = byte_level()
    _, special, kind_line, pieces = describe(tokenizer)
    assert special.endswith("[MASK] 4") and kind_line == "kind: BPE, keeps case, keeps accents"
    assert pieces == "pieces: 2 begin a word (Ġ), 2 continue one"
    assert show_texts(tokenizer, ["b a"]) == ["b a", "    b 6   Ġa 8"]
    nested = normalizers.Sequence([normalizers.NFD(), normalizers.Lowercase()])
    assert kind(byte_level(nested)) == "BPE, lower-cases, keeps accents"


def test_texts_by_piece_and_id(folder):
    tokenizer = load_tokenizer(folder)
    assert show_texts(tokenizer, ["The cats [MASK] dog", ""]) == [
        "The cats [MASK] dog",
        "    the 5   cat 6   ##s 7   [MASK] 4   [UNK] 1",
        "",
        "    no token",
    ]
