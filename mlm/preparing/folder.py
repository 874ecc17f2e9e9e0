"""From a corpus to token stores on disk: read, split, tokenized once, found again by the next run.

A prepared folder holds `tokenizer.json` and two token stores, `train/` and `heldout/`. It is made
in a hidden folder beside its place, which a killed process leaves for the next one to go on with.
"""

import contextlib
import dataclasses
import hashlib
import json
import os
import re
import shutil
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import tokenizers

from mlm.data.store import TokenStore, open_store
from mlm.data.writer import fill_store
from mlm.errors import DataError, MlmError, OutputError
from mlm.json_text import parse_json
from mlm.preparing.documents import HELDOUT, TRAIN, Scan, TextSettings, read_sides, scan
from mlm.preparing.encode import encode, with_progress
from mlm.preparing.lock import one_at_a_time
from mlm.preparing.once import spooled
from mlm.preparing.vocabulary import train_on
from mlm.text import Tokenizer, load_tokenizer, source_identity
from mlm.whole_file import write_whole

VERSION = 3  # of a prepared folder; part of its name in the cache
TOLD = {
    "duplicates": "documents left out that were there before",
    "held_out_too": "documents left out of training because they are held out",
    "replaced_characters": "characters stand for bytes that are no text",
    "special_names": "names such as [MASK] stand in the text, and are read as ordinary words",
}


@dataclasses.dataclass(frozen=True)
class PreparedText:
    """A tokenizer and the token stores that it made."""

    folder: Path
    tokenizer: Tokenizer
    train: TokenStore
    heldout: TokenStore

    @property
    def stores(self) -> dict[str, TokenStore]:
        return {TRAIN: self.train, HELDOUT: self.heldout}


def default_cache_dir() -> Path:
    """The user's cache directory for this project (`XDG_CACHE_HOME`, else `~/.cache`)."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "mlm"


def prepare(
    settings: TextSettings,
    folder: Path | None = None,
    *,
    documents: Iterable[str] | None = None,
    tokenizer: Tokenizer | None = None,
    cache_dir: Path,
    say: Callable = print,
) -> PreparedText:
    """The prepared text of `settings`, made now unless it is already there.

    Args:
      settings: corpus, split and tokenizer.
      folder: where it goes; by default a place in `cache_dir` named after all that decides it.
      documents: anything that yields texts; they take the place of the corpus.
      tokenizer: takes the place of the one that the settings name.
      cache_dir: see `default_cache_dir`.
      say: called with a line on what is being done, only when something is.

    Raises:
      ConfigError: `settings.source` is no function.
      DataError: the corpus or the tokenizer cannot be used.
      OutputError: `folder` holds other text already, or cannot be written.
    """
    cached, given = folder is None, tokenizer
    if given is None and settings.tokenizer:
        given = load_tokenizer(settings.tokenizer, lowercase=settings.lowercase)
    with spooled(settings, documents, cache_dir) as settings:
        name = _cache_name(settings, given)
        folder = cache_dir / name if cached else folder
        if not folder.exists():
            _make_whole(settings, given, folder, name, say)
        if not cached and _name_of(folder) != name:
            raise OutputError(
                f"{folder} exists and was not made from this text and tokenizer; "
                "choose another --out or remove it"
            )
    return open_prepared(folder)


def open_prepared(folder: Path, *, tokenizer: Tokenizer | None = None) -> PreparedText:
    """The prepared text in `folder`.

    Raises:
      DataError: it is missing or damaged, or was made by another tokenizer than the one given.
    """
    if not (folder / "tokenizer.json").is_file():
        raise DataError(
            f"{folder} holds no prepared text; name another folder, or remove it and make it with "
            f"python -m mlm prepare --config=... --out={folder}"
        )
    own = tokenizer or load_tokenizer(folder / "tokenizer.json")
    return PreparedText(folder, own, *(_open_side(folder / side, own) for side in (TRAIN, HELDOUT)))


def _open_side(path: Path, tokenizer: Tokenizer) -> TokenStore:
    """A store whose ids are all of the tokenizer: its own meta.json says how many there are."""
    store = open_store(path, tokenizer_hash=tokenizer.hash)
    if store.vocabulary_size != tokenizer.vocabulary_size:
        raise DataError(
            f"{path / 'meta.json'} is damaged (a vocabulary of {store.vocabulary_size} ids, its "
            f"tokenizer has {tokenizer.vocabulary_size}); prepare the corpus again"
        )
    return store


def _make_whole(
    settings: TextSettings, given: Tokenizer | None, folder: Path, name: str, say: Callable
) -> None:
    """Makes `folder`, or nothing; a second process that wants the same text waits for the first."""
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with one_at_a_time(folder.parent / f".{name}.lock", say):
            if folder.exists():
                return
            partial = folder.parent / f".{name}.partial"
            partial.mkdir(exist_ok=True)
            try:
                _make(settings, given, partial, name, say)
                partial.rename(folder)
            except BrokenPipeError:
                raise
            except (MlmError, OSError):  # what a second attempt would meet too
                shutil.rmtree(partial)
                raise
    except BrokenPipeError:  # nobody reads what is said: as good as a kill
        raise
    except OSError as error:
        raise OutputError(
            f"{folder} cannot be written ({error.strerror}); choose another data.cache_dir or "
            "--out, or free some space"
        ) from error


def _make(
    settings: TextSettings, given: Tokenizer | None, partial: Path, name: str, say: Callable
) -> None:
    found = _scanned(settings, partial, say)
    tokenizer = _tokenizer(settings, given, partial, found, say)
    say(f"tokenizing {sum(found.documents.values()):,} documents")
    for side in (TRAIN, HELDOUT):
        _write_side(settings, side, found, tokenizer, partial / side, say)
    if _cache_name(settings, given) != name:
        raise DataError(
            f"{settings.shown} changed while it was read; start again when it is complete"
        )
    (partial / "scan.json").unlink()
    facts = {"name": name, **found.facts}
    (partial / "prepared.json").write_text(json.dumps(facts, indent=2))


def _scanned(settings: TextSettings, partial: Path, say: Callable) -> Scan:
    """What a pass over the text finds; a killed process has left it in `scan.json`."""
    with contextlib.suppress(OSError, ValueError):
        found = Scan(**parse_json((partial / "scan.json").read_text()))
        say(f"continuing with {settings.shown} where it was stopped")
        return found
    (partial / "scan.json").unlink(missing_ok=True)  # torn by a power cut
    say(f"reading {settings.shown}")
    found = scan(settings)
    for fact, words in TOLD.items():
        if found.facts[fact]:
            say(f"{found.facts[fact]:,} {words}")
    _check_sides(settings, found)
    return found


def _tokenizer(
    settings: TextSettings, given: Tokenizer | None, partial: Path, found: Scan, say: Callable
) -> Tokenizer:
    """The given tokenizer, or one trained on the sample; kept beside the scan that it came from."""
    file, scanned = partial / "tokenizer.json", partial / "scan.json"
    if scanned.exists():
        return load_tokenizer(file)
    tokenizer = given or train_on(found, settings, say=say)
    tokenizer.save(file)
    facts = dataclasses.asdict(dataclasses.replace(found, sample=[], kept=None))
    write_whole(scanned, json.dumps(facts))
    return tokenizer


def _check_sides(settings: TextSettings, found: Scan) -> None:
    train, heldout = (found.documents.get(side, 0) for side in (TRAIN, HELDOUT))
    if not train or not heldout:
        if settings.heldout_corpus:
            raise DataError(
                f"data.corpus {settings.shown} leaves {train} documents to train on, and "
                f"data.heldout_corpus {settings.heldout_corpus} {heldout} to evaluate on; give "
                "more text: what is held out, or repeated, is not trained on"
            )
        raise DataError(
            f"data.corpus {settings.shown} has {train + heldout} documents, of "
            f"which data.heldout_fraction {settings.heldout_fraction} leaves {train} to train on "
            f"and {heldout} to evaluate on; give more text, change the fraction, name "
            "data.heldout_corpus, or make a document of every line of a .txt file with "
            "data.document=line"
        )


def _write_side(
    settings: TextSettings, side: str, found: Scan, tokenizer: Tokenizer, path: Path, say: Callable
) -> None:
    def documents_from(number: int) -> Iterator[list[int]]:
        documents = found.kept or read_sides(settings, Counter(), {})
        texts = (document.text for document in documents if document.side == side)
        told = with_progress(texts, found.bytes[side], say, start=number)
        return encode(tokenizer, told)

    sources = list(zip(settings.sources, found.train_documents, strict=True))
    fill_store(
        path,
        documents_from,
        vocabulary_size=tokenizer.vocabulary_size,
        labels={
            "tokenizer_hash": tokenizer.hash,
            "fingerprint": f"{found.fingerprint}:{settings.heldout_fraction:g}:{side}",
            "source": found.facts,
        },
        sources=sources if side == TRAIN else (),
    )


def _cache_name(settings: TextSettings, given: Tokenizer | None) -> str:
    """A readable stem and a hash of everything that the prepared text follows from."""
    made_by = given.hash if given else f"trained with tokenizers {tokenizers.__version__}"
    identity = [source_identity(place, settings.reading) for *_, place in settings.places()]
    # Content decides, not where it lies: the same text by another path is found again.
    fields = dataclasses.asdict(settings)
    for place in ("corpus", "source", "heldout_corpus", "tokenizer", "spooled"):
        del fields[place]
    held_out = len(settings.heldout_sources)
    facts = json.dumps([VERSION, held_out, identity, made_by, fields])
    first = Path(settings.sources[0]).stem.lower()
    stem = re.sub(r"[^a-z0-9]+", "-", first).strip("-") or "text"
    return f"{stem}-{hashlib.sha256(facts.encode()).hexdigest()[:16]}"


def _name_of(folder: Path) -> str | None:
    try:
        return parse_json((folder / "prepared.json").read_text())["name"]
    except (OSError, ValueError, KeyError):
        return None
