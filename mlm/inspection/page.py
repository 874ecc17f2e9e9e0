"""Masks as one HTML page that needs nothing else: no network, no script."""

import functools
import platform
from collections.abc import Iterator, Sequence
from html import escape
from importlib.metadata import version
from pathlib import Path

import numpy as np

from mlm.inspection.charts import bars, ceiling_of
from mlm.inspection.measure import GROUPS, LONGEST, PARTS, Measures, frequency_bounds, measure_all
from mlm.inspection.sample import KEPT, MASK, RANDOM, Inspection, Masked
from mlm.inspection.sentences import Piece, Stretch, pieces, words
from mlm.inspection.settings import config_lines, describe
from mlm.inspection.terminal import COLUMNS, cells

PACKAGES = ("jax", "numpy", "tokenizers")
OF_UNITS = "Share of the selected units, by how many of their tokens or words are selected."
OF_RUNS = "Share of the runs of selected tokens; neighbouring units make one run."
BY_POSITION = (
    "Share of the tokens that is selected in each sixteenth of a row; dashed: what was asked for."
)
BY_FREQUENCY = (
    "Share of the tokens that is selected, by how often their id stands in the text: tenths of the "
    "tokens, from the rarest to the most frequent ({bounds})."
)
BELOW_RATES = (
    "Shares are of the tokens that may be selected; <i>specials</i> are special tokens that were "
    "selected or changed, which must be 0. <i>hash</i> is of every predicted token and its place: "
    "equal hashes are equal masks."
)
STYLE = Path(__file__).with_name("style.css")


def make_page(inspection: Inspection, chosen: Sequence[Stretch], *, name: str) -> str:
    """The page: strategies, sentences, rates, histograms, and what it was made from.

    Args:
      chosen: the sentences.
      name: of the config, for the title.
    """
    measures = measure_all(
        inspection.masked, continuations=inspection.continuations, counts=inspection.counts
    )
    title = escape(f"Masks of {name}" if name else "Masks")
    body = [
        f"<h1>{title}</h1>",
        f'<p class="soft">At step 0, of {escape(inspection.rows)}.</p>',
        *_strategies(inspection),
        *_sentences(inspection, chosen),
        *_rates(inspection.masked, measures),
        *_histograms(inspection, measures),
        *_origin(inspection),
    ]
    style = STYLE.read_text(encoding="utf-8")
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{title}</title>\n<style>\n{style}</style>\n</head>\n<body>\n"
        + "\n".join(body)
        + "\n</body>\n</html>\n"
    )


def _strategies(inspection: Inspection) -> Iterator[str]:
    yield "<h2>Strategies</h2>\n<dl>"
    for i, masked in enumerate(inspection.masked):
        yield f"<dt{_own(i)}>{escape(masked.name)}</dt><dd>{escape(describe(masked))}</dd>"
    yield "</dl>"
    for note in inspection.notes:
        yield f'<p class="soft">{escape(note)}</p>'


def _own(i: int) -> str:
    """The config's own strategy is marked wherever it stands."""
    return ' class="own"' if i == 0 else ""


def _sentences(inspection: Inspection, chosen: Sequence[Stretch]) -> Iterator[str]:
    yield "<h2>The same sentences</h2>\n<p>" + _legend(inspection) + "</p>"
    for stretch in chosen:
        first = pieces(inspection, inspection.masked[0], stretch)
        plain = " ".join("".join(p.original for p in word) for word in words(first))
        yield f'<article>\n<div class="line text"><b>text</b><span>{escape(plain)}</span></div>'
        for i, masked in enumerate(inspection.masked):
            marked = _sentence(pieces(inspection, masked, stretch))
            yield (
                f'<div class="line"><b{_own(i)}>{escape(masked.name)}</b>'
                f"<span>{marked}</span></div>"
            )
        yield "</article>"


def _legend(inspection: Inspection) -> str:
    parts = [
        '<span class="mask">[MASK]</span> hidden',
        '<span class="random"><s>old</s>→new</span> a random token instead',
        '<span class="kept">=old</span> selected and kept',
        '<span class="unit">a b</span> several tokens that were selected as one',
        'a<span class="glue">##</span>b pieces of a word',
    ]
    if any(not masked.predicted[masked.fates > 0].all() for masked in inspection.masked):
        parts.append('<span class="mask silent">[MASK]~</span> not predicted')
    return ", ".join(parts) + "."


def _sentence(found: Sequence[Piece]) -> str:
    parts = []
    for i, piece in enumerate(found):
        if i and not piece.glued:
            parts.append(" ")
        elif piece.glued and not piece.whole:
            parts.append('<span class="glue">##</span>')
        parts += ['<span class="unit">' * piece.opens, _token(piece), "</span>" * piece.closes]
    return "".join(parts)


def _token(piece: Piece) -> str:
    if not piece.fate:
        return escape(piece.original)
    kind, written = {
        MASK: ("mask", "[MASK]"),
        RANDOM: ("random", f"<s>{escape(piece.original)}</s>→{escape(piece.shown)}"),
        KEPT: ("kept", f"={escape(piece.original)}"),
    }[piece.fate]
    if not piece.predicted:
        kind, written = f"{kind} silent", written + "~"
    return f'<span class="{kind}" title="{escape(piece.original)}">{written}</span>'


def _rates(masked: Sequence[Masked], measures: Sequence[Measures]) -> Iterator[str]:
    yield '<h2>Realised rates</h2>\n<div class="wide"><table>\n<thead><tr>'
    yield "".join(f'<th scope="col">{escape(name)}</th>' for name in COLUMNS)
    yield "</tr></thead>\n<tbody>"
    for i, (one, found) in enumerate(zip(masked, measures, strict=True)):
        values = "".join(f"<td>{escape(value)}</td>" for value in cells(one, found))
        yield f'<tr><th scope="row"{_own(i)}>{escape(one.name)}</th>{values}</tr>'
    yield "</tbody></table></div>"
    yield f'<p class="soft">{BELOW_RATES}</p>'


def _histograms(inspection: Inspection, measures: Sequence[Measures]) -> Iterator[str]:
    charts = functools.partial(_charts, inspection)
    lengths = [*map(str, range(1, LONGEST)), f"{LONGEST}+"]
    units = [_normalised(m.unit_tokens) for m in measures]
    in_words = [_normalised(m.unit_words) for m in measures if m.unit_words is not None]
    runs = [_normalised(m.runs) for m in measures]
    means = [f"mean {m.selected / max(m.units, 1):.2f}" for m in measures]
    mean_runs = [f"mean {m.mean_run:.2f}" for m in measures]
    asked = [m.requested for m in measures]
    yield "<h2>Histograms</h2>"
    yield from charts("Units by length in tokens", OF_UNITS, lengths, units, notes=means)
    if in_words:
        yield from charts("Units by length in words", OF_UNITS, lengths, in_words)
    yield from charts("Runs by length in tokens", OF_RUNS, lengths, runs, notes=mean_runs)
    parts, groups = _ends("start", "end", PARTS), _ends("rare", "frequent", GROUPS)
    positions, rates = [m.positions for m in measures], [m.frequency for m in measures]
    yield from charts("Rate by position", BY_POSITION, parts, positions, lines=asked)
    by_frequency = BY_FREQUENCY.format(bounds=_bounds(inspection))
    yield from charts("Rate by token frequency", by_frequency, groups, rates, lines=asked)


def _ends(first: str, last: str, number: int) -> list[str]:
    """Labels for the first and the last bar."""
    return [first, *[""] * (number - 2), last]


def _charts(
    inspection: Inspection,
    title: str,
    words: str,
    labels: Sequence[str],
    values: Sequence[np.ndarray],
    *,
    lines: Sequence[float] | None = None,
    notes: Sequence[str] | None = None,
) -> Iterator[str]:
    """A heading and a picture for each strategy, all on one scale."""
    ceiling = ceiling_of([*values, np.array(lines or [0.0])])
    yield f'<h3>{title}</h3>\n<p class="soft">{words}</p>\n<div class="charts">'
    for i, (masked, shares) in enumerate(zip(inspection.masked, values, strict=True)):
        picture = bars(
            shares,
            labels,
            ceiling=ceiling,
            title=f"{title}: {masked.name}",
            line=lines[i] if lines else None,
            own=i == 0,
        )
        note = f", {notes[i]}" if notes else ""
        caption = f"<figcaption><b>{escape(masked.name)}</b>{note}</figcaption>"
        yield f"<figure{_own(i)}>{caption}{picture}</figure>"
    yield "</div>"


def _normalised(numbers: np.ndarray) -> np.ndarray:
    return numbers / max(numbers.sum(), 1)


def _bounds(inspection: Inspection) -> str:
    masked = inspection.masked[0]
    bounds = np.expm1(frequency_bounds(masked.token_ids, masked.selectable, inspection.counts))
    return "from " + ", ".join(f"{round(count):,}" for count in bounds) + " occurrences on"


def _origin(inspection: Inspection) -> Iterator[str]:
    text = inspection.text
    facts = {
        "text": f"{text.train.documents:,} documents, {text.train.token_count:,} tokens to train "
        f"on, sha256 {text.train.meta['tokens_sha256'][:12]}",
        "tokenizer": f"vocabulary {text.tokenizer.vocabulary_size:,}, {text.tokenizer.hash[:12]}",
        "versions": ", ".join(
            [f"Python {platform.python_version()}", *(f"{n} {version(n)}" for n in PACKAGES)]
        ),
    }
    facts |= {f"masks of {masked.name}": masked.hash for masked in inspection.masked}
    yield "<h2>Made from</h2>\n<dl>"
    for name, value in facts.items():
        yield f'<dt>{escape(name)}</dt><dd class="hash">{escape(value)}</dd>'
    yield "</dl>\n<details><summary>Config</summary>\n<pre>"
    yield "\n".join(escape(line) for line in config_lines(inspection)) + "</pre></details>"
