"""What a masking strategy must satisfy before anything is compiled."""

import re

import pytest

from mlm.config import apply_overrides, evaluation_masks, largest_rate, load_config
from mlm.errors import ConfigError
from mlm.rules import validate

COINS, LINEAR = {"count": "bernoulli"}, {"schedule": "linear"}
HALVING = {**LINEAR, "rate": 0.3, "final_rate": 0.15}  # Ankner et al., arXiv:2305.15096


def make(masking=None, **fields):
    config = load_config("configs/default.py")
    fields |= {f"masking.{name}": value for name, value in (masking or {}).items()}
    apply_overrides(config, fields)
    return config


def problems(*args, **fields):
    with pytest.raises(ConfigError) as error:
        validate(make(*args, **fields))
    assert not any("\n" in problem for problem in error.value.problems)
    return error.value.problems


@pytest.mark.parametrize(
    ("masking", "words"),
    [
        ({"unit": "wrod"}, "masking.unit is 'wrod'; did you mean 'word'? choose one of token, "),
        ({"unit": "mine:"}, "external, or 'module:function'"),
        ({"weights": "frequncy"}, "masking.weights is 'frequncy'; did you mean 'frequency'?"),
        ({"weights": "x.npz"}, "loss, a table.npy or 'module:function'"),
        ({"schedule": "linaer", "final_rate": 0.1}, "'linaer'; did you mean 'linear'? choose"),
        ({"ngram": (3, 1)}, "masking.ngram is (3, 1); give the shortest and the longest in words"),
        ({"ngram": (0, 1)}, "masking.ngram is (0, 1)"),
        ({"ngram": (1, 11)}, "from 1 to 10, such as (1, 3)"),
        ({"ngram": (1,)}, "masking.ngram is (1,)"),
        ({"ngram": (1, 2.5)}, "masking.ngram is (1, 2.5)"),
        ({"span_p": 1.0}, "masking.span_p is 1.0; it must be above 0 and below 1"),
        ({"span_p": 0.0}, "masking.span_p is 0.0"),
        ({"span_longest": 0}, "masking.span_longest is 0; it must be above 0"),
        ({"pmi_count": -1}, "masking.pmi_count is -1; it must be 0 or more"),
        ({"patterns": -1}, "masking.patterns is -1; it must be 0 or more"),
        ({"weights_alpha": float("inf")}, "masking.weights_alpha is inf; give a finite number"),
        ({"weights_decay": 1.0}, "masking.weights_decay is 1.0; it must be from 0 to below 1"),
        ({"unit": "external"}, "masking.units is empty; name the folder that holds the bitmaps"),
        ({"units": "folder"}, "masking.units is 'folder' and masking.unit 'token', which reads"),
        ({**COINS, "weights": "table.npy"}, "masking.count 'bernoulli', where each token has a "),
        ({"weights": "loss", "patterns": 2}, "masking.patterns is 2 and masking.weights 'loss'"),
        ({"rate": 0.0}, "masking.rate is 0, so that nothing would be predicted"),
        ({"final_rate": 0.3}, "masking.final_rate 0.3 given with masking.schedule 'constant'"),
        ({"final_random_token_rate": 0.0}, "masking.final_random_token_rate 0.0 given with "),
        (LINEAR, "masking.schedule is 'linear' without a value to go to; give one of masking.fin"),
        ({"schedule": "a:b", "final_rate": 0.3}, "given with masking.schedule 'a:b', which itself"),
        ({**LINEAR, "final_rate": 1.5}, "masking.final_rate is 1.5; it must be between 0 and 1"),
        ({"schedule": "step", "stages": 1, "final_rate": 0.1}, "masking.stages is 1; 'step' needs"),
        (
            {**LINEAR, "final_mask_token_rate": 0.95},
            "masking.final_mask_token_rate 0.95 and masking.random_token_rate 0.1 add up to more",
        ),
        ({"lowest_rate": 0.3}, "masking.lowest_rate 0.3 is above the rate, 0.15 at its smallest"),
        ({**HALVING, "lowest_rate": 0.2}, "masking.lowest_rate 0.2 is above the rate, 0.15 at"),
        ({"lowest_rate": -0.1}, "masking.lowest_rate is -0.1; it must be between 0 and 1"),
        ({"prediction_rate": 0.0}, "masking.prediction_rate is 0.0; it must be above 0"),
        ({"prediction_rate": 0.4}, "the nearest is 0.45, of 3 copies"),
        ({"prediction_rate": 0.16}, "the nearest is 0.3, of 2 copies"),
        ({"prediction_rate": 0.95}, "the nearest is 0.9, of 6 copies"),
        ({"rate": 0.35, "prediction_rate": 1.0}, "the nearest is 0.7, of 2 copies"),
        ({"rate": 0.6, "prediction_rate": 0.9}, "leaves no second copy of a row any tokens"),
        ({**COINS, "prediction_rate": 0.3}, "whose coins know no disjoint selections"),
        ({**HALVING, "prediction_rate": 0.6}, "and masking.schedule lets the rate move"),
        ({"lowest_rate": 0.1, "prediction_rate": 0.3}, "and masking.lowest_rate lets the rate mov"),
        ({**HALVING, "prediction_rate": 0.2}, "0.2 is above the smallest rate, 0.15, where fewer"),
        ({"lowest_rate": 0.05, "prediction_rate": 0.1}, "above the smallest rate, 0.05"),
        (
            {"schedule": "mine:rates", "lowest_rate": 0.05, "prediction_rate": 0.1},
            "above the smallest rate, 0.05",
        ),
        (
            {**LINEAR, "final_rate": 0.4, "mask_selection_length": 20},
            "20 is too small: data.length 128 at masking.final_rate 0.4 needs 52; raise it",
        ),
        ({"mask_selection_length": 129}, "129 is above data.length 128, and no row has so many"),
    ],
)
def test_what_makes_no_sense_is_refused_in_one_line(masking, words):
    [problem] = problems(masking)
    assert words in problem, problem


@pytest.mark.parametrize(
    "masking",
    [
        {"unit": "word", "weights": "frequency", "fit": "truncate"},
        {"unit": "mine.units:entities", "weights": "folder/table.npy", "schedule": "mine:rates"},
        # A schedule of one's own takes the place of the rate, and is checked where it is called.
        {"schedule": "mine:rates", "prediction_rate": 0.3},
        {"schedule": "mine:rates", "lowest_rate": 0.2},
        {"schedule": "mine:rates", "rate": 0.8, "mask_selection_length": 20},
        {"unit": "external", "units": "folder"},
        {"weights": "loss", "random_ids": "unigram", "count": "exact"},
        {"weights": "frequency", "patterns": 10},
        {"ngram": (2, 2), "span_p": 0.5},
        {**HALVING, "mask_selection_length": 39},  # P of the largest rate, which is the first
        {**HALVING, "prediction_rate": 0.15},  # a published ablation
        {**HALVING, "lowest_rate": 0.15},
        {"schedule": "reversed", "final_mask_token_rate": 0.7, "final_random_token_rate": 0.3},
        {"schedule": "step", "stages": 3, "rate": 0.3, "final_rate": 0.05},  # mmBERT's phases
        {"rate": 0.05, "prediction_rate": 0.4},  # 5/40 of Wettig et al., arXiv:2202.08005
        {"rate": 0.1, "prediction_rate": 0.4, "weights": "frequency"},
        {"rate": 0.5, "prediction_rate": 1.0},
        {"rate": 0.4, "prediction_rate": 0.2},
        {**COINS, "rate": 0.4, "prediction_rate": 0.2, "lowest_rate": 0.3},
        {**COINS, "unit": "word"},
    ],
)
def test_what_makes_sense_is_let_through(masking):
    validate(make(masking))


def test_an_unchecked_config_file_is_read_without_a_crash():
    config = make()
    with config.unlocked(), config.masking.ignore_type():
        config.masking.update({"rate": "x", "lowest_rate": 0.1, "prediction_rate": 0.1})
        config.masking.update({"patterns": 2.5, "ngram": 3, "final_rate": "y"})
    with pytest.raises(ConfigError) as error:
        validate(config)
    found = "\n".join(error.value.problems)
    must = ("rate is 'x', of type str; it must be a number", "patterns is 2.5, of type float")
    for words in (*must, "ngram is 3, of type int", "final_rate is 'y'"):
        assert words in found


@pytest.mark.parametrize(
    ("masks", "words"),
    [
        (("tokn@0.15",), "'tokn@0.15' of unknown unit 'tokn'; did you mean 'token'? choose one of"),
        (("own@0.15",), "of unknown unit 'own'; choose one of token, word, span, ngram, pmi, ext"),
        (("word@0",), "eval.masks has 'word@0'; write unit@rate with a rate above 0 and at most"),
        (("word@1.5",), "eval.masks has 'word@1.5'"),
        (("word@nan",), "eval.masks has 'word@nan'"),
        (("word@15%",), "eval.masks has 'word@15%'; write unit@rate"),
        (("word",), "eval.masks has 'word'; write unit@rate"),
        (("0.15",), "eval.masks has '0.15'"),
        ((0.15,), "eval.masks has 0.15; write unit@rate"),
        (("span@0.3", "span@0.30"), "eval.masks has span@0.3 twice"),
        (("external@0.15",), "masking.units is empty"),
    ],
)
def test_a_kind_of_mask_that_cannot_be_is_named(masks, words):
    [problem] = problems(**{"eval.masks": masks})
    assert words in problem


def test_a_row_holds_the_units_of_one_bitmap():
    fields = {"eval.masks": ("pmi@0.15", "token@0.15", "external@0.3"), "masking.units": "folder"}
    [problem] = problems(**fields)
    assert "has both 'pmi' and 'external'" in problem


def test_all_kinds_of_masks_are_evaluated_in_their_order():
    masks = ("word@0.3", "token@.15", "own@0.4", "external@1")
    config = make({"unit": "mine:starts", "units": "folder"}, **{"eval.masks": masks})
    validate(config)
    assert evaluation_masks(config) == (
        *(("word", 0.3), ("token", 0.15), ("own", 0.4), ("external", 1.0)),
    )


@pytest.mark.parametrize(
    ("masking", "training"),
    [
        ({}, []),
        ({"rate": 0.0}, []),
        ({"rate": 0.15 + 1e-9}, []),  # the same name
        ({"rate": 1 / 3}, [("token", 1 / 3)]),
        ({"unit": "span"}, [("span", 0.15)]),
        ({"unit": "mine:starts", "rate": 0.4}, [("own", 0.4)]),
        (HALVING, [("token", 0.3)]),
    ],
)
def test_by_default_the_standard_masks_come_first_and_then_those_of_training(masking, training):
    assert evaluation_masks(make(masking)) == (("token", 0.15), *training)


def test_the_largest_rate_is_one_of_the_ends():
    assert largest_rate(make(HALVING)) == 0.3
    assert largest_rate(make(LINEAR | {"final_rate": 0.4})) == 0.4
    assert largest_rate(make()) == 0.15


def test_all_problems_of_a_strategy_are_reported_at_once():
    found = problems({"unit": "wrd", "span_p": 2.0, "final_rate": 0.3}, **{"eval.masks": "x@1"})
    assert [re.match(r"[\w.]+", problem).group() for problem in found] == [
        *("masking.unit", "masking.span_p", "masking.final_rate", "eval.masks"),
    ]
