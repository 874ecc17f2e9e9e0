"""KerasHub's tokenizer: what it splits, folds and refuses, as measured on keras-hub 0.32."""

import json

import pytest

from mlm.errors import DataError
from mlm.text import load_keras_tokenizer, load_tokenizer
from mlm.text.keras_tokenizer import keras_tokenizer

PIECES = (
    "[PAD] [UNK] [CLS] [SEP] [MASK] a b ##b fo ##x fox é ##ê e ##é café à ##à ss ##ss s ##ß ß σ "
    "##σ . ##. ##1 — fi ##n i ##v 中 ##文 ##i̇ ά α ##ι [ ] mask The the ❤ ##\ufe0f"
).split()
VOCABULARY = {piece: id for id, piece in enumerate(PIECES)}
SETTINGS = {
    "name": "distil_bert_tokenizer",
    "trainable": True,
    "dtype": {"class_name": "DTypePolicy", "config": {"name": "int32"}},
    "config_file": "tokenizer.json",
    "vocabulary": None,
    "sequence_length": None,
    "lowercase": True,
    "strip_accents": False,
    "split": True,
    "suffix_indicator": "##",
    "oov_token": "[UNK]",
    "special_tokens": None,
    "special_tokens_in_strings": False,
}


def pieces(text, *, lowercase=True, strip_accents=False, prompt=False):
    tokenizer = keras_tokenizer(
        VOCABULARY, lowercase=lowercase, strip_accents=strip_accents, source="test"
    )
    ids = tokenizer.encode_prompt(text) if prompt else tokenizer.encode([text])[0]
    return " ".join(tokenizer.token(id) for id in ids)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("CAFÉ", "café"),
        ("cafe\u0301", "café"),  # folded, then composed
        ("Aß", "a ##ss"),
        ("ẞ", "ss"),
        ("Σς", "σ ##σ"),
        ("ᾼ", "α ##ι"),
        ("ΆΙ", "ά ##ι"),
        ("ﬁn Ⅳ", "fi ##n i ##v"),
        ("ａ１", "a ##1"),
        ("a—b…fox", "a — b . ##. ##. fox"),  # cut out first, expanded afterwards
        ("fo\u00a0x", "[UNK]"),
        ("fo\u2028x", "[UNK]"),
        ("fo\u3000x", "[UNK]"),
        ("fo\u00adx", "fo [UNK]"),
        ("fo\u200dx", "fo [UNK]"),
        ("a\u000bb a\u0001b a\u0085b a\u0000b", "a b a b a b a b"),
        ("a\ufffdb a\ue000b", "[UNK] [UNK]"),
        ("❤\ufe0f", "❤"),  # variation selectors go with case
        ("中文", "中 [UNK]"),
        ("", ""),
        (" \t\n\u001f\u001e", ""),
    ],
)
def test_uncased_text(text, expected):
    assert pieces(text) == expected


def test_cased_text():
    assert pieces("The the", lowercase=False) == "The the"
    assert pieces("aß ẞ", lowercase=False) == "a ##ß [UNK]"
    assert pieces("❤\ufe0f fo\u00adx", lowercase=False) == "❤ ##\ufe0f fo [UNK]"


def test_accents_are_stripped_when_asked():
    assert pieces("É à", strip_accents=True) == "e a"
    assert pieces("é à", strip_accents=True, lowercase=False) == "e a"


@pytest.mark.parametrize("letter", ["b", "é", "ก", "𐐨"])
def test_a_word_has_at_most_100_bytes(letter):
    vocabulary = VOCABULARY | {f"##{letter}": 70, "x": 71, "##x": 72}
    tokenizer = keras_tokenizer(vocabulary, lowercase=True, strip_accents=False, source="test")
    letters, rest = divmod(99, len(letter.encode()))
    longest = "x" * (1 + rest) + letter * letters
    assert len(longest.encode()) == 100
    too_long = f"a x{longest} a"
    assert tokenizer.encode([longest, too_long]) == [
        [71, *[72] * rest, *[70] * letters],
        [VOCABULARY["a"], VOCABULARY["[UNK]"], VOCABULARY["a"]],
    ]
    assert tokenizer.backend.encode(too_long, add_special_tokens=False).offsets == [
        (0, 1),
        (2, len(too_long) - 2),
        (len(too_long) - 1, len(too_long)),
    ]


def test_special_tokens_in_texts_and_prompts():
    assert pieces("a [MASK] b") == "a [ mask ] b"
    assert pieces("a [MASK] b", prompt=True) == "a [MASK] b"


@pytest.fixture
def preset(tmp_path):
    (tmp_path / "assets" / "tokenizer").mkdir(parents=True)
    lines = "".join(f"{piece}\n" for piece in PIECES)
    (tmp_path / "assets" / "tokenizer" / "vocabulary.txt").write_text(lines, encoding="utf-8")
    configure(tmp_path)
    return tmp_path


def configure(folder, registered_name="keras_hub>DistilBertTokenizer", **changes):
    content = {"registered_name": registered_name, "config": SETTINGS | changes}
    (folder / "tokenizer.json").write_text(json.dumps(content))


def error_of(folder) -> str:
    with pytest.raises(DataError) as caught:
        load_keras_tokenizer(folder)
    message = str(caught.value)
    assert "\n" not in message and str(folder) in message
    return message


def test_a_preset_directory_is_recognised(preset):
    expected = keras_tokenizer(VOCABULARY, lowercase=True, strip_accents=False, source="").hash
    for place in (preset, str(preset), preset / "tokenizer.json"):
        assert load_tokenizer(place).hash == expected
    configure(preset, lowercase=False, strip_accents=True, special_tokens_in_strings=True)
    cased = keras_tokenizer(VOCABULARY, lowercase=False, strip_accents=True, source="").hash
    assert load_tokenizer(preset, lowercase=True).hash == cased != expected


def test_presets_of_keras_nlp_are_read(preset):
    configure(preset, registered_name="keras_nlp>DistilBertTokenizer")
    assert load_tokenizer(preset).vocabulary_size == len(PIECES)


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("split", False),
        ("split_on_cjk", False),
        ("suffix_indicator", "@@"),
        ("oov_token", "<unk>"),
        ("special_tokens", ["[EXTRA]"]),
        ("sequence_length", 16),
        ("vocabulary", ["a"]),
        ("lowercase", 1),
        ("strip_accents", None),
        ("do_basic_tokenize", False),
    ],
)
def test_settings_that_ours_does_not_have(preset, setting, value):
    configure(preset, **{setting: value})
    message = error_of(preset)
    assert f"settings that ours cannot follow: {setting}={value!r}; use" in message


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        ('{"registered_name": "keras_hub>GPT2Tokenizer"}', "is of 'keras_hub>GPT2Tokenizer', but"),
        ('{"registered_name": "keras_hub>DistilBertTokenizer"}', "has no config"),
        ("[]", "is of None, but"),
        ("{", "is not JSON (Expecting"),
        ("[" * 100_000, "is not JSON (nested too deeply"),
    ],
)
def test_a_tokenizer_json_that_cannot_be_used(preset, content, complaint):
    (preset / "tokenizer.json").write_text(content)
    assert complaint in error_of(preset)


def test_a_vocabulary_that_cannot_be_used(preset):
    file = preset / "assets" / "tokenizer" / "vocabulary.txt"
    file.write_text("[PAD]\n[UNK]\n[CLS]\nthe\n")
    assert "lacks [SEP], [MASK]" in error_of(preset)
    file.write_text("[PAD]\na\na \n")  # the original drops the space
    assert "line 3 repeats 'a' of line 2" in error_of(preset)
    file.unlink()
    assert "vocabulary.txt cannot be read (No such file" in error_of(preset)
