"""Bitmaps of the collocations of a prepared text, made once and kept in the cache.

The folder holds `train/` and `heldout/`, each a bitmap of unit starts, and `collocations.jsonl`:
what was found, for people to look at. The held-out text is cut by the collocations of the text that
is trained on.
"""

import hashlib
import json
import shutil
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path

from mlm.data.ngrams import WordTable
from mlm.data.pmi import Collocations, collocation_starts, find_collocations
from mlm.data.units import save_units
from mlm.errors import DataError, MlmError, OutputError
from mlm.json_text import parse_json
from mlm.preparing.folder import PreparedText
from mlm.preparing.lock import one_at_a_time
from mlm.text import continuations, wordless
from mlm.whole_file import write_whole

VERSION = 1  # raise it whenever another list of collocations or another cut of the text comes out
LIST = "collocations.jsonl"


def collocation_folder(
    text: PreparedText, *, more_than: int, cache_dir: Path, say: Callable = print
) -> Path:
    """The folder with the bitmaps of a text's collocations, made now unless it is there.

    A process that is killed leaves nothing that is taken for it; a second one that wants the same
    waits.

    Args:
      text: its two stores.
      more_than: an n-gram that does not occur more often than this is no collocation.
      cache_dir: where the folder goes, named after the stores and `more_than`.
      say: called with a line on what is being done, only when something is.

    Raises:
      DataError: the tokenizer does not tell words, or the text has no collocation.
      OutputError: `cache_dir` cannot be written.
    """
    folder = cache_dir / f"pmi-{_name(text, more_than)}"
    if _is_whole(folder, text):
        return folder
    try:
        cache_dir.mkdir(parents=True, exist_ok=True)
        with one_at_a_time(cache_dir / f".{folder.name}.lock", say):
            if not _is_whole(folder, text):
                _make_whole(text, more_than, folder, say)
    except MlmError:
        raise
    except OSError as error:
        raise OutputError(
            f"{folder} cannot be written ({error.strerror}); choose another data.cache_dir, or "
            "free some space"
        ) from error
    return folder


def top_collocations(folder: str | Path, number: int = 20) -> list[dict]:
    """The first collocations of a folder: `words`, `length`, `count` and `score` in nats of each.

    They are in the order in which they entered the list: the best of each length, of every eight
    four bigrams, two trigrams and one each of four and of five words.

    Raises:
      DataError: there is no list.
    """
    file = Path(folder) / LIST
    try:
        with file.open(encoding="utf-8") as lines:
            return [parse_json(line) for line in islice(lines, number)]
    except (OSError, ValueError) as error:
        raise DataError(
            f"no list of collocations at {file} ({error}); name the folder that a run with "
            "masking.unit=pmi makes in data.cache_dir"
        ) from error


def _name(text: PreparedText, more_than: int) -> str:
    """A hash of all that the bitmaps follow from."""
    stores = [
        [store.fingerprint, store.meta["tokens_sha256"], store.meta["doc_ends_sha256"]]
        for store in text.stores.values()
    ]
    facts = json.dumps([VERSION, text.tokenizer.hash, stores, more_than])
    return hashlib.sha256(facts.encode()).hexdigest()[:16]


def _is_whole(folder: Path, text: PreparedText) -> bool:
    return all((folder / side / "units.json").is_file() for side in text.stores)


def _make_whole(text: PreparedText, more_than: int, folder: Path, say: Callable) -> None:
    """Makes `folder`, or nothing; what a killed process left is thrown away."""
    partial = folder.with_name(f".{folder.name}.partial")
    for left in (partial, folder):  # of a folder, a user has removed a part that was damaged
        shutil.rmtree(left, ignore_errors=True)
    partial.mkdir()
    try:
        _make(text, more_than, partial, say)
        partial.rename(folder)
    except (MlmError, OSError):
        shutil.rmtree(partial, ignore_errors=True)
        raise


def _make(text: PreparedText, more_than: int, folder: Path, say: Callable) -> None:
    table = WordTable(continuations(text.tokenizer), wordless(text.tokenizer))
    say(f"looking for collocations in {text.train.token_count:,} tokens")
    found = find_collocations(text.train, table, more_than=more_than)
    lines = (json.dumps(entry, ensure_ascii=False) for entry in _entries(text, found))
    write_whole(folder / LIST, "\n".join(lines) + "\n")
    settings = {"pmi_count": more_than, "collocations": len(found.words)}
    for side, store in text.stores.items():
        starts = collocation_starts(store, table, found)
        save_units(store, starts, folder / side, name="pmi", settings=settings)
    say(f"{len(found.words):,} collocations, the first of them {_first(folder)}")


def _entries(text: PreparedText, found: Collocations) -> Iterator[dict]:
    tokens = text.train.tokens
    columns = (found.words, found.counts, found.scores, found.begins, found.ends)
    for n, count, score, begin, end in zip(*(c.tolist() for c in columns), strict=True):
        words = text.tokenizer.decode(tokens[begin:end].tolist()).strip()
        yield {"words": words, "length": n, "count": count, "score": round(score, 4)}


def _first(folder: Path) -> str:
    return ", ".join(repr(entry["words"]) for entry in top_collocations(folder, 3))
