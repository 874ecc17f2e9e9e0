"""Histograms as small SVG pictures, to be put into a page that says what the classes look like."""

import math
from collections.abc import Sequence
from html import escape

import numpy as np

WIDTH, HEIGHT = 260, 112
LEFT, RIGHT, TOP, BOTTOM = 32, 4, 8, 18  # around the bars
GAP = 0.18  # of a bar's place


def bars(
    values: np.ndarray,
    labels: Sequence[str],
    *,
    ceiling: float,
    title: str,
    line: float | None = None,
    own: bool = False,
) -> str:
    """An `<svg>` of bars from 0 to `ceiling`, with values as percent.

    Args:
      values: `float64[N]`; nan has no bar.
      labels: N, below the bars; empty ones are left out.
      ceiling: the top of the picture, the same for all that stand side by side.
      title: for those who do not see the picture, and under the pointer.
      line: where a dashed line goes across.
      own: the strategy is the config's.
    """
    place = (WIDTH - LEFT - RIGHT) / len(values)
    mark = ' class="own"' if own else ""
    parts = [
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(title)}"{mark}>',
        *_grid(ceiling),
    ]
    for i, (value, label) in enumerate(zip(values.tolist(), labels, strict=True)):
        x = LEFT + i * place
        if math.isfinite(value):
            parts.append(_bar(x + GAP * place / 2, (1 - GAP) * place, value, ceiling, label))
        if label:
            parts.append(_label(i, x, place, label, last=i == len(values) - 1))
    if line is not None:
        y = _y(line, ceiling)
        parts.append(f'<line class="asked" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y}" y2="{y}"/>')
    return "".join([*parts, "</svg>"])


def ceiling_of(values: Sequence[np.ndarray]) -> float:
    """A round number a little above all values."""
    largest = max((float(np.nanmax(v)) for v in values if np.isfinite(v).any()), default=0.0)
    if largest <= 0:
        return 1.0
    step = 10 ** math.floor(math.log10(largest))
    return next(step * k for k in (1, 1.5, 2, 3, 4, 5, 6, 8, 10) if step * k >= largest - 1e-9)


def _grid(ceiling: float) -> list[str]:
    parts = []
    for share in (0, ceiling / 2, ceiling):
        y = _y(share, ceiling)
        parts.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y}" y2="{y}"/>')
        parts.append(_text(LEFT - 5, y + 3.5, _percent(share), "end"))
    return parts


def _bar(x: float, width: float, value: float, ceiling: float, label: str) -> str:
    y = _y(value, ceiling)
    return (
        f'<rect x="{x:.1f}" y="{y}" width="{width:.1f}" height="{HEIGHT - BOTTOM - y:.1f}">'
        f"<title>{escape(f'{label}: {100 * value:.2f} %'.lstrip(': '))}</title></rect>"
    )


def _label(i: int, x: float, place: float, label: str, *, last: bool) -> str:
    """Below its bar; words begin or end where the bars do."""
    if len(label) > place / 5 and (last or i == 0):
        return _text(
            *((x + place, HEIGHT - 6, label, "end") if last else (x, HEIGHT - 6, label, "start"))
        )
    return _text(x + place / 2, HEIGHT - 6, label, "middle")


def _y(value: float, ceiling: float) -> float:
    return round(HEIGHT - BOTTOM - (HEIGHT - BOTTOM - TOP) * min(value / ceiling, 1), 1)


def _text(x: float, y: float, text: str, anchor: str) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(text)}</text>'


def _percent(share: float) -> str:
    return f"{100 * share:.3g}%"
