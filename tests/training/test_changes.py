"""What of a run's data may change, and how a change is told."""

import pytest

from mlm.training.changes import Change, differences, is_of_data, refused


def test_differences_are_those_of_json():
    then = {"a": (1, 2), "b": 1, "gone": 3}
    found = differences(then, {"a": [1, 2], "b": 2, "new": None})
    assert found == [Change("b", 1, 2), Change("gone", 3, None)]


@pytest.mark.parametrize(
    ("change", "of_data"),
    [
        (Change("seed", 0, 1), True),
        (Change("data.rows", "packed", "blocks"), True),
        (Change("masking.units", "a", "b"), True),
        (Change("masking.weights", "a.npy", "b.npy"), True),
        (Change("masking.weights", "uniform", "loss"), False),  # it has a table in checkpoints
        (Change("data.new_tokens", [], ["a"]), False),  # other numbers of embeddings
        (Change("train.batch_size", 1, 2), False),
        (Change("eval.seed", 0, 1), False),
    ],
)
def test_what_is_of_the_data(change, of_data):
    assert is_of_data(change) == of_data


def test_then_and_now_stand_side_by_side():
    lines = refused("runs/a", [Change("seed", 0, 1), Change("data.field", "text", "x" * 99)])
    assert lines[0] == "seed: 0 then, 1 now"
    assert lines[1] == f"data.field: text then, {'x' * 57}... now"
    assert "--workdir runs/a" in lines[2] and "(2 differences)" in lines[2]
