"""Either file of a Hugging Face DistilBERT tokenizer gives the ids that transformers recorded.

The cases were recorded with transformers 5.23.0 and tokenizers 0.23.3, `do_lower_case=True`: text,
ids with [CLS] and [SEP], tokens. They hold accents, Chinese, control characters, words that are
too long, empty texts and literal special tokens.
"""

import json
from pathlib import Path

import pytest

from mlm.text import load_tokenizer

FOLDER = Path(__file__).parent / "hf_distilbert_tiny"
CASES = json.loads((FOLDER / "tokenizer_cases.json").read_text(encoding="utf-8"))
LITERAL = "[MASK] the [CLS]"


@pytest.fixture(params=["vocab.txt", "tokenizer.json"])
def tokenizer(request):
    return load_tokenizer(FOLDER / request.param)


def test_texts_have_the_recorded_ids(tokenizer):
    cases = [case for case in CASES if case["text"] != LITERAL]
    assert len(cases) == len(CASES) - 1 >= 16
    encoded = tokenizer.encode([case["text"] for case in cases])
    assert encoded == [case["ids"][1:-1] for case in cases]
    assert [[tokenizer.token(id) for id in ids] for ids in encoded] == [
        case["tokens"][1:-1] for case in cases
    ]


def test_prompts_have_the_recorded_ids(tokenizer):
    for case in CASES:
        assert tokenizer.encode_prompt(case["text"]) == case["ids"][1:-1]


def test_literal_special_tokens_are_text_in_a_corpus(tokenizer):
    ids = tokenizer.encode([LITERAL])[0]
    assert tokenizer.special.mask not in ids and tokenizer.special.cls not in ids


def test_both_files_are_one_tokenizer():
    hashes = {load_tokenizer(FOLDER / name).hash for name in ("vocab.txt", "tokenizer.json")}
    assert len(hashes) == 1
