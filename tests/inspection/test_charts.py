"""Bars as tall as their values."""

from xml.etree import ElementTree

import numpy as np
import pytest

from mlm.inspection.charts import BOTTOM, HEIGHT, LEFT, RIGHT, TOP, WIDTH, bars, ceiling_of


def drawn(values, **options):
    options = {"ceiling": 0.5, "title": 'a "chart" & more'} | options
    return ElementTree.fromstring(bars(np.array(values), ["a", "", "<c>"], **options))


def test_bars_are_as_tall_as_their_values():
    svg = drawn([0.5, 0.25, 0.0])
    heights = [float(rect.get("height")) for rect in svg.iter("rect")]
    full = HEIGHT - TOP - BOTTOM
    assert heights == pytest.approx([full, full / 2, 0], abs=0.1)
    for rect in svg.iter("rect"):
        x, width = float(rect.get("x")), float(rect.get("width"))
        assert LEFT <= x and x + width <= WIDTH - RIGHT
        assert float(rect.get("y")) + float(rect.get("height")) == pytest.approx(HEIGHT - BOTTOM)
    titles = [title.text for title in svg.iter("title")]
    assert titles == ["a: 50.00 %", "25.00 %", "<c>: 0.00 %"]
    assert svg.get("aria-label") == 'a "chart" & more' and svg.get("class") is None


def test_nothing_is_drawn_where_nothing_is_known():
    assert len(list(drawn([0.5, np.nan, 0.1]).iter("rect"))) == 2


def test_a_line_at_what_was_asked_for():
    svg = drawn([0.5, 0.2, 0.1], line=0.25, own=True)
    [line] = [line for line in svg.iter("line") if line.get("class") == "asked"]
    assert float(line.get("y1")) == TOP + (HEIGHT - TOP - BOTTOM) / 2 == float(line.get("y2"))
    assert svg.get("class") == "own"


@pytest.mark.parametrize(
    "largest, ceiling", [(1.0, 1.0), (0.41, 0.5), (0.152, 0.2), (0.03, 0.03), (0.0, 1.0)]
)
def test_the_ceiling_is_round_and_above_all(largest, ceiling):
    assert ceiling_of([np.array([0.0, largest]), np.array([np.nan])]) == pytest.approx(ceiling)
