"""Evaluation: frozen-mask losses against the unigram baseline, and fill-mask.

Read `frozen` (what is measured, and why the numbers of two runs may be compared), `rows`
(batches to measure on), `fill_mask` and `report` (tables).
"""
