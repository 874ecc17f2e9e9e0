"""What stands in a prepared folder, in numbers: for a look before a run is started."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from mlm.data.prepare import PreparedText
from mlm.data.rows import MODES, make_rows, useful_share
from mlm.data.store import TokenStore, token_counts
from mlm.text import Tokenizer

LENGTHS = (128, 512)  # L, for which the useful share of slots is told
QUANTILES = {"min": 0, "25 %": 25, "median": 50, "75 %": 75, "95 %": 95, "99 %": 99, "max": 100}
# A model that often reads [UNK] learns little about the text; the tokenizer does not suit it.
UNKNOWN_WARNING = 0.01


def inspect_text(text: PreparedText) -> list[str]:
    """Lines for people on both stores of a prepared folder, and warnings at the end."""
    lines = [f"prepared text: {text.folder}", *_origin(text.train.meta["source"])]
    lines.append(
        f"tokenizer {text.tokenizer.hash[:12]}, vocabulary {text.tokenizer.vocabulary_size:,}"
    )
    counts = {name: token_counts(store) for name, store in text.stores.items()}
    for name, store in text.stores.items():
        lines += ["", f"{name}: {store.documents:,} documents, {store.token_count:,} tokens"]
        lines += [f"  {line}" for line in _statistics(store, counts[name], text.tokenizer)]
    share = unknown_share(counts["train"], text.tokenizer)
    if share > UNKNOWN_WARNING:
        lines += [
            "",
            f"warning: {share:.1%} of the tokens are [UNK]; train a tokenizer on the text",
        ]
    return lines


def unknown_share(counts: np.ndarray, tokenizer: Tokenizer) -> float:
    """The share of [UNK] among tokens of which each id occurs so often: int64[V]."""
    return float(counts[tokenizer.special.unk] / counts.sum())


def _origin(source: Mapping) -> list[str]:
    lines = [f"made from {source.get('corpus', 'an unnamed text')}"]
    if files := source.get("files"):
        size = sum(file["bytes"] for file in files) / 1e6
        lines[0] += f" ({len(files)} file{'s' * (len(files) > 1)}), {size:.1f} MB"
    for name in ("duplicates", "replaced_characters"):
        if source.get(name):
            lines.append(f"{name.replace('_', ' ')}: {source[name]:,}")
    return lines


def _statistics(store: TokenStore, counts: np.ndarray, tokenizer: Tokenizer) -> list[str]:
    lengths = np.diff(store.doc_ends, prepend=0)
    found = np.percentile(lengths, list(QUANTILES.values()), method="nearest")
    quantiles = "  ".join(f"{name} {n:,}" for name, n in zip(QUANTILES, found, strict=True))
    most = " ".join(tokenizer.token(int(i)) for i in np.argsort(-counts, kind="stable")[:10])
    return [
        f"tokens per document: {quantiles}",
        f"[UNK]: {unknown_share(counts, tokenizer):.3%}   ids in use: {np.count_nonzero(counts):,}",
        f"most frequent: {most}",
        *(_useful_shares(store, tokenizer, length) for length in LENGTHS),
    ]


def _useful_shares(store: TokenStore, tokenizer: Tokenizer, length: int) -> str:
    shares = (
        (mode, useful_share(make_rows(store, mode=mode, length=length, special=tokenizer.special)))
        for mode in MODES
    )
    return f"text in the slots at L={length}: " + "  ".join(f"{m} {s:.3f}" for m, s in shares)


def prepared_folder(path: Path) -> Path:
    """The folder of prepared text that `path` is, or that its `train` or `heldout` store is in."""
    return path.parent if (path / "meta.json").is_file() else path
