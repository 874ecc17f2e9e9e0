"""vocab.txt, tokenizer.json and tokenizer_config.json, of BERT and of KerasHub."""

import json
import shutil
from pathlib import Path

import pytest
from damage import damaged, damaged_json, reads_or_refuses
from hypothesis import given
from hypothesis import strategies as st

from mlm.text import extend_tokenizer, load_tokenizer
from mlm.text.words import continuations

PARITY = Path(__file__).parent.parent / "parity"
BERT, KERAS = PARITY / "hf_distilbert_tiny", PARITY / "kerashub_distilbert_tiny"
TEXTS = ["The cats [MASK] sat, é.", "", "x" * 300, "\U0001f600 \u4e2d\u6587 a\u0301"]


@pytest.fixture
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("tokenizer")


def use(path):
    """Whatever a run does with a tokenizer."""
    tokenizer = load_tokenizer(path)
    ids = tokenizer.encode(TEXTS)
    assert all(0 <= i < tokenizer.vocabulary_size for row in ids for i in row)
    tokenizer.decode(tokenizer.encode_prompt(TEXTS[0]))
    tokenizer.token(tokenizer.special.mask)
    assert len(tokenizer.hash) == 64
    continuations(tokenizer)
    extend_tokenizer(tokenizer, ["zebrafish"])


@given(st.data())
def test_vocab_txt(folder, data):
    file = folder / "vocab.txt"
    file.write_bytes(data.draw(damaged((BERT / "vocab.txt").read_bytes())))
    reads_or_refuses(lambda: use(file))


@given(st.data())
def test_tokenizer_json(folder, data):
    file, content = folder / "tokenizer.json", (BERT / "tokenizer.json").read_bytes()
    whole = st.one_of(damaged(content), damaged_json(json.loads(content)))
    file.write_bytes(data.draw(whole))
    reads_or_refuses(lambda: use(file))


@given(st.data())
def test_tokenizer_config_json(folder, data):
    shutil.copy(BERT / "vocab.txt", folder)
    settings = {"do_lower_case": True, "strip_accents": None, "tokenize_chinese_chars": True}
    settings |= {"word_tokenizer_type": "basic", "model_max_length": 512}
    (folder / "tokenizer_config.json").write_bytes(data.draw(damaged_json(settings)))
    reads_or_refuses(lambda: use(folder))


@given(st.data())
def test_keras_tokenizer(folder, data):
    shutil.copytree(KERAS / "assets", folder / "assets", dirs_exist_ok=True)
    vocabulary, file = folder / "assets/tokenizer/vocabulary.txt", folder / "tokenizer.json"
    content = (KERAS / "tokenizer.json").read_bytes()
    if data.draw(st.booleans()):
        vocabulary.write_bytes(data.draw(damaged(vocabulary.read_bytes())))
    else:
        content = data.draw(damaged_json(json.loads(content)))
    file.write_bytes(content)
    reads_or_refuses(lambda: use(folder))
