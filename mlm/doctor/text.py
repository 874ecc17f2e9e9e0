"""Padding and [UNK]."""

from collections.abc import Callable, Mapping

from mlm.doctor.finding import Finding

PADDED = 0.25  # share of the slots above which another row mode is worth naming


def check_padding(share: float, *, mode: str, useful: Callable[[], Mapping[str, float]]) -> Finding:
    """The share of padding, and the row mode that would do better.

    Args:
      share: of all slots.
      mode: of the rows.
      useful: gives the share of slots with text by mode; called only where there is much padding.
    """
    words = f"{share:.1%} of the slots with {mode!r} rows"
    if share <= PADDED:
        return Finding("ok", "padding", words)
    shares = useful()
    best = max(shares, key=lambda name: shares[name])
    fills = ", ".join(f"{name} {share:.1%}" for name, share in shares.items())
    advice = "shorter rows would fill better" if best == mode else f"data.rows={best} fills better"
    return Finding(
        "warning", "padding", f"{words}, computed for nothing; {advice} (text in slots: {fills})"
    )


def check_unknown(share: float, warning: str) -> Finding:
    """[UNK] among the tokens; `warning` is what preparing says of it, or empty."""
    if warning:
        return Finding("warning", "[UNK]", warning.removeprefix("warning: "))
    return Finding("ok", "[UNK]", f"{share:.3%} of the tokens")
