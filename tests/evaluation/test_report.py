import io

import pytest
from rich.console import Console

from mlm.evaluation.fill_mask import Guess
from mlm.evaluation.report import print_evaluation, print_fills

EVALUATION = {
    "token@0.15": {
        "loss": 4.2,
        "perplexity": 66.69,
        "top1": 0.25,
        "top5": 0.5,
        "unigram_loss": 5.9,
        "masked_tokens": 1234,
        "realised_rate": 0.1499,
        "mask_hash": "0123456789abcdef",
        "by_slot": {
            "mask": {"loss": 4.5, "top1": 0.2, "masked_tokens": 1234},
            "random": {"loss": None, "top1": None, "masked_tokens": 0},
            "keep": {"loss": None, "top1": None, "masked_tokens": 0},
        },
    }
}


def printed(function, *args, width=120, **kwargs):
    console = Console(file=io.StringIO(), width=width)
    function(console, *args, **kwargs)
    return console.file.getvalue()


def test_a_row_for_each_kind_of_mask_and_each_slot_that_occurs():
    text = printed(print_evaluation, EVALUATION, step=7)
    for shown in ("step 7", "token@0.15", "4.2000", "5.9000", "66.69", "1234", "0123456789ab"):
        assert shown in text
    assert "  mask" in text and "random" not in text


def test_before_and_after_stand_in_one_table():
    slots = {"mask": {"loss": 4.9, "top1": 0.1}, "random": {}, "keep": {}}
    old = EVALUATION["token@0.15"] | {"loss": 4.8, "perplexity": 121.5, "by_slot": slots}
    text = printed(print_evaluation, EVALUATION, step=7, before={"token@0.15": old | {"top1": 0.2}})
    shown = ("4.800 -> 4.200", "121.5 -> 66.7", "0.200 -> 0.250", "4.900 -> 4.500")
    for words in (*shown, "before training -> at step 7", "0123456789ab "):
        assert words in text
    assert text.count("masks  ") == 1 and "random" not in text
    other = printed(
        print_evaluation, EVALUATION, step=7, before={"token@0.15": old | {"mask_hash": "x" * 64}}
    )
    assert "xxxxxxxxxxxx -> 0123456789ab" in other


NINE = {
    f"{unit}@{rate}": EVALUATION["token@0.15"] | {"masked_tokens": 123456}
    for unit in ("token", "external", "pmi")
    for rate in (0.15, 0.3, 0.4)
}
HIGH = {name: values | {"loss": 10.5, "perplexity": 36315.5} for name, values in NINE.items()}


@pytest.mark.parametrize("before", [None, HIGH])
def test_many_kinds_stand_in_a_line_each_within_100_columns(before):
    text = printed(print_evaluation, NINE, step=20_000, before=before, width=100)
    lines = [line.split() for line in text.splitlines() if "@" in line]
    assert [line[0] for line in lines] == list(NINE)
    assert all(line[-1] == "0123456789ab" for line in lines)  # nothing wrapped, nothing cut
    assert text.count("mask  ") == 1 and "in eval.json" in text
    if before:
        assert text.count("36316 -> 66.7") == 9


def test_tokens_in_brackets_are_shown_as_they_are():
    text = printed(print_fills, lambda *_: [[Guess("[UNK]", 0.5)]], {}, ["a [MASK] b"])
    assert "a [MASK] b" in text and "[UNK] 0.500" in text
