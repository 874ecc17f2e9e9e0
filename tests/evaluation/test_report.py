import io

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


def printed(function, *args, **kwargs):
    console = Console(file=io.StringIO(), width=120)
    function(console, *args, **kwargs)
    return console.file.getvalue()


def test_a_row_for_each_kind_of_mask_and_each_slot_that_occurs():
    text = printed(print_evaluation, EVALUATION, step=7)
    for shown in ("step 7", "token@0.15", "4.2000", "5.9000", "66.69", "1234", "0123456789ab"):
        assert shown in text
    assert "  mask" in text and "random" not in text


def test_tokens_in_brackets_are_shown_as_they_are():
    text = printed(print_fills, lambda *_: [[Guess("[UNK]", 0.5)]], {}, ["a [MASK] b"])
    assert "a [MASK] b" in text and "[UNK] 0.500" in text
