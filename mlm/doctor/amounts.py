"""How much is masked and predicted, and whether it finds its slots, against what was asked for."""

import numpy as np

from mlm.doctor.finding import Finding, tolerance
from mlm.doctor.sample import Sample

SKIPPED = 0.05  # share of the predictions that units may cost that do not fit: .1463 of .15 is 2.5%

ROUNDED = 0.05  # share by which rounding up may exceed the rate


def check_rate(samples: list[Sample], *, fit: str, of: str = "predicted") -> Finding:
    """Realised against requested rate, by the spread from row to row, which has rounding in it.

    Args:
      fit: of units.
      of: 'predicted' or 'corrupted' tokens.
    """
    name, short, shown = f"{of} rate, masked now", [], []
    for sample in samples:
        share = sample.asked if of == "predicted" else sample.asked_corruption
        found, expected = getattr(sample, of).sum(axis=(1, 2)), sample.expected(share)
        realised = found.sum() / max(sample.tokens.sum(), 1)
        shown.append(f"{realised:.4f} of {share:.4g} at step {sample.step + 1}")
        off, allowed = float(found.sum() - expected.sum()), tolerance(found - expected)
        if abs(off) <= allowed:
            continue
        by_units = sample.lengths is not None and fit == "skip" and sample.count != "bernoulli"
        if off > 0 or not by_units:
            return Finding(
                "bad",
                name,
                f"{shown[-1]} is {abs(off):,.0f} tokens off, {allowed:,.0f} would be chance: rows "
                "are not masked as the config says",
            )
        short.append(-off / expected.sum())
    words = f"{', '.join(shown)} ({sum(s.tokens.sum() for s in samples):,} tokens)"
    if not short:
        return Finding("ok", name, words)
    words += f"; {max(short):.1%} less than asked, as units that do not fit are skipped"
    if max(short) <= SKIPPED:
        return Finding("ok", name, words)
    advice = ": masking.fit=truncate or longer rows reach the rate"
    return Finding("warning", name, words + advice)


def check_weighted(samples: list[Sample]) -> Finding:
    """Tokens that weights of 0 keep from being selected, where they leave too few."""
    tokens = sum(int(s.selectable.sum()) for s in samples)
    weighted = sum(int(s.weighted.sum()) for s in samples)
    short = sum(int((s.weighted.sum(axis=1) < s.asked * s.tokens - 1).sum()) for s in samples)
    words = f"{1 - weighted / max(tokens, 1):.1%} of the tokens have a weight of 0"
    if tokens and not weighted:
        return Finding("bad", "weights", f"{words}, so none is selected; give more ids a weight")
    if short:
        rows = sum(len(s.tokens) for s in samples)
        words += f", and {short} of {rows} rows have fewer others than the rate asks for"
        return Finding("warning", "weights", f"{words}; give more ids a weight, or lower the rate")
    return Finding("ok", "weights", words)


def check_rounding(samples: list[Sample]) -> Finding:
    """'exact' rounds up, and short rows much: 0.18 for 0.15 in rows of 2 to 28 tokens (T12)."""
    pairs = [
        (s.expected(s.asked).sum() / max(s.tokens.sum(), 1), s.asked) for s in samples if s.asked
    ]
    expected, asked = max(pairs, key=lambda pair: pair[0] / pair[1], default=(0.0, 1.0))
    name, words = "rounding of counts", f"{expected:.4f} expected for a rate of {asked:.4g}"
    if expected > asked * (1 + ROUNDED):
        return Finding(
            "warning",
            name,
            f"{words}: 'exact' rounds up in every row; masking.count=stochastic keeps the rate",
        )
    return Finding("ok", name, words)


def check_overflow(samples: list[Sample], recorded: float = 0.0) -> Finding:
    """Selected tokens without a slot; `recorded` is the sum of metrics.jsonl."""
    name, found = "overflow", sum(s.overflow for s in samples)
    if found or recorded:
        return Finding(
            "bad",
            name,
            f"{recorded:,.0f} selected tokens of the run and {found:,.0f} of the rows masked now "
            "found no slot and were dropped; raise masking.mask_selection_length or leave it None",
        )
    return Finding("ok", name, "every selected token finds a slot")


def check_slots(samples: list[Sample], *, slots: int, needed: int) -> Finding:
    """Mask slots P against what the largest rate needs, and how many are filled."""
    name = "mask slots"
    per_row = np.concatenate([s.predicted.sum(axis=2).ravel() for s in samples])
    words = (
        f"{slots} a row, {needed} needed for the largest rate; {per_row.mean():.1f} are filled on "
        f"average, {per_row.max()} at most"
    )
    if slots < needed:
        return Finding("bad", name, f"{words}; raise masking.mask_selection_length")
    if slots > needed:
        return Finding(
            "warning",
            name,
            f"{words}; logits of {slots - needed} empty slots a row are computed for nothing: "
            "leave masking.mask_selection_length None",
        )
    return Finding("ok", name, words)
