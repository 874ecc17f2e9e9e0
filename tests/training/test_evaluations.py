import math

from mlm.training.evaluations import deciding_loss, evaluation_text, flat_evaluation

EVALUATION = {
    "token@0.15": {"loss": 2.5, "unigram_loss": 3.0, "top1": 0.25, "mask_hash": "ab"},
    "span@0.3": {"loss": 4.0, "unigram_loss": 5.0, "top1": 0.125},
}


def test_numbers_go_into_a_line_and_text_does_not():
    flat = flat_evaluation(EVALUATION)
    assert flat["eval/token@0.15/loss"] == 2.5 and flat["eval/span@0.3/top1"] == 0.125
    assert len(flat) == 6 and "eval/token@0.15/mask_hash" not in flat


def test_the_line_for_people():
    first, second = evaluation_text(EVALUATION).split("  ")
    assert first == "token@0.15: loss 2.500 (unigram 3.000), top-1 0.250"
    assert second.startswith("span@0.3: loss 4.000")


def test_the_first_kind_decides_unless_it_is_no_number():
    assert deciding_loss(EVALUATION) == 2.5 and deciding_loss(None) is None
    for loss in (math.nan, math.inf):
        assert deciding_loss({"token@0.15": {"loss": loss}}) is None
