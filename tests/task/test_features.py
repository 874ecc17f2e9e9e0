"""What is let in, and the one line for what is not."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from small_model import CONFIG, FEATURES, LABELS, WEIGHTS

from mlm.errors import DataError
from mlm.task.features import BACKBONE, read_features, read_segments, read_targets, read_texts


@pytest.mark.parametrize("kind", ["int64", "uint8", "uint64", "jax", "lists", "bools"])
def test_integers_of_every_kind_become_the_same_rows(kind):
    features = {name: np.asarray(array).astype(np.int32) for name, array in FEATURES.items()}
    if kind == "lists":
        features = {name: array.tolist() for name, array in features.items()}
    elif kind == "jax":
        features = {name: jnp.asarray(array) for name, array in features.items()}
    elif kind == "bools":
        features["padding_mask"] = jnp.asarray(features["padding_mask"], bool)
    else:
        features = {name: array.astype(kind) for name, array in features.items()}
    rows = read_features(features, CONFIG)
    for name, dtype in (
        ("token_ids", "int32"),
        ("padding_mask", "bool"),
        ("mask_positions", "int32"),
    ):
        assert rows[name].dtype == dtype
        np.testing.assert_array_equal(rows[name], FEATURES[name])


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"token_ids": [[59] * 8] * 2}, r"token_ids holds 59 \(row 0, column 0\); .* 0 to 58"),
        ({"token_ids": [[1] * 8, [1, -1] * 4]}, r"token_ids holds -1 \(row 1, column 1\)"),
        ({"token_ids": np.full((2, 8), 2**63, np.uint64)}, "holds 9223372036854775808"),
        ({"token_ids": [[1.0] * 8] * 2}, "token_ids is float64; give integers"),
        ({"token_ids": [["a"] * 8] * 2}, "token_ids is <U1; give integers"),
        ({"token_ids": [[1, 2], [3]]}, "rows of different lengths; pad them"),
        ({"token_ids": [1] * 8}, r"token_ids has shape \(8,\); give a row per example"),
        ({"padding_mask": [[1] * 7] * 2}, r"padding_mask has shape \(2, 7\); with token_ids"),
        ({"padding_mask": [[2] * 8] * 2}, "padding_mask holds 2 .* 1 is a token and 0 padding"),
        ({"mask_positions": [[8], [0]]}, r"mask_positions holds 8 \(row 0.* rows are 0 to 7"),
        ({"mask_positions": [[-1], [0]]}, "mask_positions holds -1"),
        ({"mask_positions": [[1]]}, r"mask_positions has shape \(1, 1\); .* must be \(2, 1\)"),
        ({"segment_ids": [[1] * 8] * 2}, "hold segment_ids, which the model does not read"),
        (
            {"token_ids": [[1] * 33] * 2, "padding_mask": [[1] * 33] * 2},
            "at least one row of 1 to 32 tokens",
        ),
        (
            {"token_ids": np.zeros((0, 8), int), "padding_mask": np.zeros((0, 8), int)},
            r"shape \(0, 8\); give at least one row",
        ),
    ],
)
def test_features_that_cannot_be_read(change, words):
    with pytest.raises(ValueError, match=words):
        read_features({**FEATURES, **change}, CONFIG)


def test_missing_names_are_listed_and_no_slots_are_fine():
    with pytest.raises(ValueError, match="lack padding_mask, mask_positions; give token_ids"):
        read_features({"token_ids": FEATURES["token_ids"]}, CONFIG)
    with pytest.raises(ValueError, match="hold mask_positions, which the model does not"):
        read_features(FEATURES, CONFIG, names=BACKBONE)
    with pytest.raises(ValueError, match="features are list; give a dict of token_ids"):
        read_features(["text"], CONFIG)
    rows = read_features({**FEATURES, "mask_positions": [[], []]}, CONFIG)
    assert rows["mask_positions"].shape == (2, 0)


def test_features_inside_jit_are_refused():
    with pytest.raises(
        ValueError, match="token_ids is traced; inside jax.jit use mlm.models.apply"
    ):
        jax.jit(lambda ids: read_features({**FEATURES, "token_ids": ids}, CONFIG))(
            FEATURES["token_ids"]
        )


def test_targets():
    rows = read_features(FEATURES, CONFIG)
    targets = read_targets(LABELS.tolist(), None, rows, CONFIG)
    assert targets["mask_ids"].dtype == "int32" and (targets["mask_weights"] == 1).all()
    weights = read_targets(LABELS, jnp.asarray(WEIGHTS), rows, CONFIG)["mask_weights"]
    assert weights.dtype == "float32" and (weights == WEIGHTS).all()


@pytest.mark.parametrize(
    ("y", "weights", "words"),
    [
        (None, None, "features come without labels; give y"),
        ([[8], [9]], None, r"y has shape \(2, 1\); with mask_positions it must be \(2, 2\)"),
        ([[8, 59], [9, 9]], None, "y holds 59"),
        ([[8.5, 6], [9, 9]], None, "y is float64"),
        (LABELS, [1, 1], r"sample_weight has shape \(2,\)"),
        (LABELS, [[1], [1]], r"sample_weight has shape \(2, 1\); with y it must be"),
        (LABELS, [[-1, 1], [1, 1]], "sample_weight holds values below 0"),
        (LABELS, [[np.nan, 1], [1, 1]], "infinite or NaN"),
        (LABELS, [["a", "b"], ["c", "d"]], "give numbers"),
    ],
)
def test_targets_that_cannot_be(y, weights, words):
    with pytest.raises(ValueError, match=words):
        read_targets(y, weights, read_features(FEATURES, CONFIG), CONFIG)


def test_forms_of_text():
    assert read_segments("a b") == ([["a b"]], True)
    assert read_segments(("a", "b")) == ([["a"], ["b"]], True)
    assert read_segments(["a", "b"]) == ([["a", "b"]], False)
    assert read_segments((["a"], ["b"])) == ([["a"], ["b"]], False)
    assert read_texts(("a", "b")) == read_texts(np.array(["a", "b"])) == [["a", "b"]]
    assert read_texts(np.array(["a", "b"], object)) == [["a", "b"]]
    assert read_texts(text for text in "ab") == [["a", "b"]]
    assert read_texts((np.array(["a", "b"]), ["c", "d"])) == [["a", "b"], ["c", "d"]]
    assert all(type(text) is str for text in read_texts(np.array(["a"]))[0])


@pytest.mark.parametrize(
    ("x", "words"),
    [
        ("a text", "x is the text 'a text'; put it in a list"),
        (b"a text", "put it in a list"),
        ([], "x holds no texts"),
        ((), "x holds no texts"),
        (([], []), "x holds no texts"),
        (["a", b"b"], "text 1 is b'b', not a str"),
        (["a", None], "text 1 is None, not a str"),
        ([("a", "b")], r"pairs as two lists"),
        ([[2, 5, 3]], "token ids as a dict of features"),
        (np.zeros((2, 2), int), "text 0 is"),
        ((["a", "b"], ["c"]), "the segments hold 2 and 1 texts"),
        (("hello", ["b"]), "one segment is the text 'hello', another a list"),
        (5, "x is 5; give a list of texts"),
    ],
)
def test_texts_that_cannot_be_read(x, words):
    with pytest.raises(DataError, match=words):
        read_texts(x)
