"""A KerasHub preset's tokenizer and packing give what keras-hub 0.32.0 recorded.

The cases were made with `DistilBertTokenizer(lowercase=True)` and `DistilBertMaskedLMPreprocessor`
on the vocabulary beside them. They hold accents, Chinese, ligatures, soft hyphens, U+00A0, words
that are too long, empty texts, literal special tokens, pairs and rows that are too long.
"""

import json
from pathlib import Path

import numpy as np
import pytest

from mlm.text import load_tokenizer, pack_segments

FOLDERS = ["kerashub_distilbert_tiny", "kerashub_distilbert_eps"]


@pytest.fixture(scope="module", params=FOLDERS)
def folder(request):
    return Path(__file__).parent / request.param


@pytest.fixture(scope="module")
def tokenizer(folder):
    return load_tokenizer(folder)


def cases_of(folder, name):
    return json.loads((folder / name).read_text(encoding="utf-8"))


def test_texts_have_the_recorded_ids(folder, tokenizer):
    cases = cases_of(folder, "tokenizer_cases.json")
    assert len(cases) == 17
    encoded = tokenizer.encode([case["text"] for case in cases])
    assert encoded == [case["ids"] for case in cases] == [case["ids_tf_text"] for case in cases]


def test_prompts_have_the_recorded_ids(folder, tokenizer):
    for case in cases_of(folder, "tokenizer_cases.json"):
        assert tokenizer.encode_prompt(case["text"]) == case["ids_special_tokens_in_strings"]


def test_a_saved_file_is_the_same_tokenizer(folder, tokenizer, tmp_path):
    tokenizer.save(tmp_path / "tokenizer.json")
    saved = load_tokenizer(tmp_path / "tokenizer.json")
    texts = [case["text"] for case in cases_of(folder, "tokenizer_cases.json")]
    assert saved.hash == tokenizer.hash and saved.encode(texts) == tokenizer.encode(texts)


def unmasked(case):
    """The token ids of a case before they were masked: the labels are put back."""
    ids, positions, labels, weights = (
        np.atleast_2d(array)
        for array in (
            case["x"]["token_ids"],
            case["x"]["mask_positions"],
            case["y"],
            case["sample_weight"],
        )
    )
    for row, slot in zip(*np.nonzero(weights), strict=True):
        ids[row, positions[row, slot]] = labels[row, slot]
    return ids


def test_rows_are_packed_as_recorded(folder, tokenizer):
    cases = cases_of(folder, "preprocessor_cases.json")
    assert sum(case["segments"] for case in cases) == 2 and len(cases) == 7
    for case in cases:
        texts = case["input"] if case["segments"] else [case["input"]]
        texts = [[batch] if isinstance(batch, str) else batch for batch in texts]
        packed = pack_segments(
            [tokenizer.encode(batch) for batch in texts],
            special=tokenizer.special,
            length=case["config"]["sequence_length"],
            truncate=case["config"].get("truncate", "round_robin"),
        )
        np.testing.assert_array_equal(packed["token_ids"], unmasked(case), err_msg=case["name"])
        np.testing.assert_array_equal(
            packed["padding_mask"], np.atleast_2d(case["x"]["padding_mask"]), err_msg=case["name"]
        )
