"""What stands at the masked places: [MASK], random or kept; special ids; whole units. V ids."""

import numpy as np

from mlm.doctor.finding import Finding, tolerance
from mlm.doctor.sample import Sample

NEVER_FITS = 0.01  # share of the text that may stand in units which are never selected


def check_split(samples: list[Sample], *, mask_id: int, law: np.ndarray) -> Finding:
    """[MASK] / random / kept of the predicted tokens, against the requested split.

    Args:
      mask_id: the id of [MASK].
      law: `float64[V]`, how likely each id is as a random replacement; one that is the original by
        chance counts as kept, as nobody can tell.
    """
    name, shares = "[MASK] / random / kept", []
    for sample in samples:
        original = np.broadcast_to(sample.original[:, None], sample.shown.shape)
        total = sample.predictions
        if not total.any():
            shares.append(f"nothing is predicted at step {sample.step + 1}")
            continue
        is_mask = sample.predicted & (sample.shown == mask_id)
        is_kept = sample.predicted & ~is_mask & (sample.shown == original)
        same = (law[original] * sample.predicted).sum() / max(total.sum(), 1)
        mask, random = (sample.rates[f"{kind}_token_rate"] for kind in ("mask", "random"))
        wanted = {
            "[MASK]": (is_mask, mask + random * law[mask_id]),
            "kept": (is_kept, 1 - mask - random + random * same),
        }
        found = [float(x.sum() / max(total.sum(), 1)) for x in (is_mask, is_kept)]
        shares.append(
            f"{found[0]:.3f} / {1 - sum(found):.3f} / {found[1]:.3f} at step {sample.step + 1} "
            f"(asked {mask:.3g} / {random:.3g} / {1 - mask - random:.3g})"
        )
        for kind, (places, share) in wanted.items():
            residuals = places.sum(axis=(1, 2)) - share * total
            if abs(residuals.sum()) > tolerance(residuals):
                return Finding(
                    "bad",
                    name,
                    f"{shares[-1]}: {kind} is {abs(residuals.sum()):,.0f} of {total.sum():,} off, "
                    f"{tolerance(residuals):,.0f} would be chance",
                )
    return Finding("ok", name, "; ".join(dict.fromkeys(shares)))


def check_touched(samples: list[Sample], *, special: np.ndarray) -> Finding:
    """Special tokens that were corrupted; there must be none.

    Args:
      special: `bool[V]`, ids that are no text.
    """
    touched = 0
    for sample in samples:
        changed = sample.corrupted | (sample.shown != sample.original[:, None])
        touched += int((changed & special[sample.original][:, None]).sum())
    if touched:
        words = f"{touched:,} special tokens (padding, [CLS], [SEP]) are masked; none should be"
        return Finding("bad", "special tokens touched", words)
    return Finding("ok", "special tokens touched", "none")


def check_inserted(
    samples: list[Sample], *, mask_id: int, special: np.ndarray, random_ids: str
) -> Finding:
    """Special ids that came in as random replacements (T3)."""
    inserted = replaced = 0
    for sample in samples:
        random = (sample.shown != sample.original[:, None]) & (sample.shown != mask_id)
        replaced += int(random.sum())
        inserted += int((random & special[sample.shown]).sum())
    name = "special ids inserted"
    words = f"{inserted:,} of {replaced:,} random replacements are special ids"
    if random_ids == "vocabulary":
        return Finding(
            "warning",
            name,
            f"{words}: masking.random_ids is 'vocabulary', as in BERT; 'selectable' inserts none",
        )
    return Finding("bad" if inserted else "ok", name, words if inserted else "none")


def check_whole(samples: list[Sample], *, fit: str, unit: str) -> Finding:
    """Selected units that are selected whole, and what is too long to be selected ever."""
    name, whole, begun, never, text = f"units ({unit})", 0, 0, 0, 0
    for sample in samples:
        for copy in range(sample.copies):
            hit, size = _units(sample, sample.predicted[:, copy])
            begun += int((hit > 0).sum())
            whole += int((hit[hit > 0] == size[hit > 0]).sum())
        budget = np.ceil(sample.rates["rate"] * sample.tokens)[:, None]
        never += int((sample.selectable & (sample.lengths > budget)).sum())
        text += int(sample.tokens.sum())
    words = f"{whole:,} of {begun:,} are masked whole"
    bernoulli = samples[0].count == "bernoulli"
    if whole < begun and (fit == "skip" or bernoulli):
        return Finding("bad", name, f"{words}; all should be")
    share = never / max(text, 1)
    if fit == "skip" and not bernoulli and share > NEVER_FITS:
        return Finding(
            "warning",
            name,
            f"{words}; {share:.1%} of the text is in units longer than what a row may mask and is "
            "never masked: longer rows, a higher rate or masking.fit=truncate reach it",
        )
    if fit == "truncate" and not bernoulli:
        words += ", the last one of a row may be cut ('truncate')"
    return Finding("ok", name, words)


def _units(sample: Sample, predicted: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """`int64[R, L]` at the place where each unit begins: its predicted tokens, and its tokens."""
    rows, length = sample.original.shape
    at = np.arange(rows)[:, None] * length + sample.leaders
    hit = np.bincount(at.ravel(), weights=predicted.ravel(), minlength=rows * length)
    size = np.bincount(at.ravel(), weights=sample.selectable.ravel(), minlength=rows * length)
    return hit.reshape(rows, length), size.reshape(rows, length)
