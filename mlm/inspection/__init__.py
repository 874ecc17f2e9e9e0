"""A look at masks before a run: the same sentences under each strategy, and what was realised.

    choice.py     which strategies: the config's own, then plain ones beside it
    rows.py       the rows that are masked: those that training begins with, or lines of a file
    sample.py     their masks, as training draws them at step 0, as NumPy arrays
    measure.py    rates and histograms of them
    sentences.py  pieces of text with what became of each token
    settings.py   a strategy in words
    terminal.py   all that for a terminal, in colour and without
    charts.py     histograms as SVG
    page.py       all that as one HTML page; style.css is its look
    show.py       the command

`sample` and what it builds on see a config; the others see arrays. Nothing here masks: masks come
from `mlm.masks` and `mlm.strategy`, as those of a run do.
"""

from mlm.inspection.sample import Inspection, inspect_masks
from mlm.inspection.show import show

__all__ = ["Inspection", "inspect_masks", "show"]
