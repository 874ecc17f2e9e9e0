"""A strategy in words, and where its masks come from."""

from ml_collections import ConfigDict

from mlm.config import flat
from mlm.inspection.sample import Inspection, Masked
from mlm.masks import fate_of

WEIGHTS = {
    "uniform": "evenly",
    "frequency": "by count ** -{masking.weights_alpha:g}",
    "accuracy": "by accuracy per id (even at the start)",
    "loss": "by loss per id (even at the start)",
}
UNITS = {
    "token": "tokens",
    "word": "whole words",
    "span": "spans of up to {masking.span_longest} words, geometric with p = {masking.span_p:g}",
    "ngram": "n-grams of {masking.ngram[0]} to {masking.ngram[1]} words",
    "pmi": "collocations of 2 to 5 words (more than {masking.pmi_count} times in the text)",
    "external": "the units of {masking.units}",
}
CHANGES = ("final_rate", "final_mask_token_rate", "final_random_token_rate")


def describe(masked: Masked) -> str:
    """What is selected, how readily, how much of it and what becomes of it, in a line."""
    masking = masked.config.masking
    unit = UNITS.get(masking.unit, "units of {masking.unit}").format(masking=masking)
    weights = WEIGHTS.get(masking.weights, "by {masking.weights}").format(masking=masking)
    parts = [f"{unit}, selected {weights}", _rate(masked), _split(masking), *_more(masking)]
    if masked.copies > 1:
        parts.append(f"{masked.copies} disjoint copies of each row")
    return "; ".join(parts)


def _rate(masked: Masked) -> str:
    masking = masked.config.masking
    rate = f"{masked.requested:g} of the tokens"
    if masking.lowest_rate is not None:
        rate = f"{masked.requested:g} on average, of each row evenly from {masking.lowest_rate:g}"
    return f"{rate} ({masking.count})"


def _split(masking: ConfigDict) -> str:
    mask, random = masking.mask_token_rate, masking.random_token_rate
    shares = (f"{100 * share:.3g}" for share in (mask, random, max(0.0, 1 - mask - random)))
    return f"{'/'.join(shares)} % [MASK]/random/kept per {fate_of(masking.unit)}"


def _more(masking: ConfigDict) -> list[str]:
    """What differs from the ordinary."""
    parts = []
    if masking.random_ids != "selectable":
        parts.append(f"random ids from {masking.random_ids}")
    if masking.prediction_rate is not None:
        parts.append(f"{masking.prediction_rate:g} predicted")
    if masking.patterns:
        parts.append(f"{masking.patterns} patterns")
    if masking.schedule != "constant":
        goals = (f"{name} {masking[name]:g}" for name in CHANGES if masking[name] is not None)
        parts.append(" ".join((f"step 0 of schedule {masking.schedule}", *goals)))
    return parts


def config_lines(inspection: Inspection) -> list[str]:
    """The fields of the config that decide the masks, as flags that set them."""
    named = ("seed", "masking.", "data.")
    fields = flat(inspection.config).items()
    return [f"--config.{name}={value}" for name, value in fields if name.startswith(named)]
