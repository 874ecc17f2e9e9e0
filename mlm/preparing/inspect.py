"""What stands in a prepared folder, in numbers: for a look before a run is started."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from mlm.data.rows import MODES, make_rows, useful_share
from mlm.data.store import TokenStore, token_counts
from mlm.preparing.folder import PreparedText
from mlm.text import Tokenizer
from mlm.text.tokenizer import UNKNOWN_WARNING

BAR = 40  # signs of the longest bar in a histogram
LENGTHS = (128, 512)  # L, for which the useful share of slots is told
QUANTILES = {"min": 0, "25 %": 25, "median": 50, "75 %": 75, "95 %": 95, "99 %": 99, "max": 100}


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
    warning = unknown_warning(counts["train"], text.tokenizer)
    return [*lines, "", warning] if warning else lines


def unknown_warning(counts: np.ndarray, tokenizer: Tokenizer) -> str:
    """A line for people if many tokens are [UNK]; empty if not."""
    share = unknown_share(counts, tokenizer)
    if share <= UNKNOWN_WARNING:
        return ""
    return (
        f"warning: {share:.1%} of the tokens are [UNK]; train a tokenizer on the text, or add "
        "words to a given one with data.new_tokens"
    )


def unknown_share(counts: np.ndarray, tokenizer: Tokenizer) -> float:
    """The share of [UNK] among tokens of which each id occurs so often: int64[V]."""
    return float(counts[tokenizer.special.unk] / counts.sum())


def _origin(source: Mapping) -> list[str]:
    lines = [f"made from {source.get('corpus', 'an unnamed text')}"]
    if files := source.get("files"):
        size = sum(file["bytes"] for file in files) / 1e6
        lines[0] += f" ({len(files)} file{'s' * (len(files) > 1)}), {size:.1f} MB"
    if source.get("duplicates"):
        lines.append(f"left out because they were there before: {source['duplicates']:,} documents")
    if source.get("held_out_too"):
        lines.append(f"left out because they are held out: {source['held_out_too']:,} documents")
    if source.get("replaced_characters"):
        lines.append(f"replaced, because they were no text: {source['replaced_characters']:,}")
    if source.get("special_names"):
        lines.append(f"[MASK] and the like, read as ordinary words: {source['special_names']:,}")
    return lines


def _statistics(store: TokenStore, counts: np.ndarray, tokenizer: Tokenizer) -> list[str]:
    lengths = np.diff(store.doc_ends, prepend=0)
    found = np.percentile(lengths, list(QUANTILES.values()), method="nearest")
    quantiles = "  ".join(f"{name} {n:,}" for name, n in zip(QUANTILES, found, strict=True))
    most = " ".join(tokenizer.token(int(i)) for i in np.argsort(-counts, kind="stable")[:10])
    return [
        *(_source_lines(store) if len(store.sources) > 1 else ()),
        f"tokens per document: {quantiles}",
        *_histogram(lengths),
        f"duplicates: {duplicate_documents(store):,} documents repeat one before them",
        f"[UNK]: {unknown_share(counts, tokenizer):.3%}   ids in use: {np.count_nonzero(counts):,}",
        f"most frequent: {most}",
        *(_useful_shares(store, tokenizer, length) for length in LENGTHS),
    ]


def _source_lines(store: TokenStore) -> list[str]:
    return [
        f"{source['name']}: {source['documents']:,} documents, {source['tokens']:,} tokens "
        f"({source['tokens'] / store.token_count:.1%})"
        for source in store.sources
    ]


def _histogram(lengths: np.ndarray) -> list[str]:
    """A bar for each power of two of tokens; the longest has `BAR` signs."""
    powers = np.floor(np.log2(lengths)).astype(int)
    numbers = np.bincount(powers)
    first, most = powers.min(), numbers.max()
    return [
        f"{f'{2**power:,}-{2 * 2**power - 1:,}':>17} {number:>11,} {'#' * -(-BAR * number // most)}"
        for power, number in enumerate(numbers.tolist())
        if power >= first
    ]


def duplicate_documents(store: TokenStore) -> int:
    """How many documents hold the same tokens as another before them."""
    starts = np.concatenate([[0], store.doc_ends[:-1]])
    hashes = np.fromiter(
        (
            hash(store.tokens[start:end].tobytes())
            for start, end in zip(starts, store.doc_ends, strict=True)
        ),
        np.int64,
        count=store.documents,
    )
    return store.documents - len(np.unique(hashes))


def _useful_shares(store: TokenStore, tokenizer: Tokenizer, length: int) -> str:
    shares = (
        (mode, useful_share(make_rows(store, mode=mode, length=length, special=tokenizer.special)))
        for mode in MODES
    )
    return f"text in the slots at L={length}: " + "  ".join(f"{m} {s:.3f}" for m, s in shares)


def prepared_folder(path: Path) -> Path:
    """The folder of prepared text that `path` is, or that its `train` or `heldout` store is in."""
    return path.parent if (path / "meta.json").is_file() else path
