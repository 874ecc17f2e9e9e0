"""What a run is made from: kept in its workdir when it begins, compared when it goes on.

Text, tokenizer and what masks follow are compared by content, wherever they lie.
"""

from collections.abc import Sequence
from pathlib import Path

from ml_collections import ConfigDict

from mlm.data import ORDER_VERSION, Rows
from mlm.data.store import sha256
from mlm.errors import CheckpointError, ConfigError
from mlm.preparing import PreparedText
from mlm.saved import WAY_OUT, saved_tokenizer
from mlm.start import Start
from mlm.training.changes import Change, differences, refused
from mlm.training.workdir import read_json, saved_steps, write_json


def keep_origin(
    workdir: Path,
    *,
    start: Start,
    text: PreparedText,
    rows: Rows,
    weights: str = "",
    allowed: Sequence[Change] | None = None,
) -> list[Change]:
    """Stores with the run what it is made from, or compares it with what is stored.

    Args:
      weights: `masking.weights`, of which a file counts by its content.
      allowed: what differs in the config of a run that may change its data; None: it may not.

    Returns:
      What was changed, see `keep_changes`; nothing unless that was allowed.

    Raises:
      CheckpointError: the run began with another tokenizer, text, units or weights.
    """
    keep_start(workdir, start)
    return keep_text(workdir, text, rows, weights=weights, allowed=allowed)


def keep_start(workdir: Path, start: Start) -> None:
    """Stores where the weights of a run that begins are from: init.json."""
    if saved_steps(workdir / "checkpoints"):
        return
    if start.facts is None:
        (workdir / "init.json").unlink(missing_ok=True)  # of an attempt that saved nothing
    else:
        write_json(workdir / "init.json", start.facts)


def kept_start(
    config: ConfigDict, workdir: Path, *, allow_data_change: bool = False
) -> Start | None:
    """What the run in `workdir` started from, without its weights; None if it is yet to begin.

    Nothing but the workdir is read, so a run goes on where there is no network. A run whose text
    has changed, or may, reads it by its own tokenizer unless the config names one.
    """
    if not saved_steps(workdir / "checkpoints"):
        return None
    if config.model.init_from:
        return Start(saved_tokenizer(workdir), facts=read_json(workdir / "init.json"))
    if not config.data.tokenizer and not config.data.store:
        if allow_data_change or data_changes(workdir):
            return Start(saved_tokenizer(workdir))
    return None


def keep_text(
    workdir: Path,
    text: PreparedText,
    rows: Rows,
    *,
    weights: str = "",
    allowed: Sequence[Change] | None = None,
) -> list[Change]:
    """Stores the tokenizer and where the text is from with the run: tokenizer.json, text.json.

    Arguments, returns and raises as `keep_origin`.
    """
    changes = []
    if saved_steps(workdir / "checkpoints"):
        if allowed is None:
            check_text(workdir, text, rows, weights=weights)
            return []
        changes = [*allowed, *text_changes(workdir, text, rows, weights=weights)]
        if not changes:
            return []
        keep_changes(workdir, changes)  # first: a kill here leaves it told twice, never untold
    text.tokenizer.save(workdir / "tokenizer.json")
    write_json(workdir / "text.json", _text_facts(text, rows, weights))
    return changes


def keep_changes(workdir: Path, changes: Sequence[Change]) -> None:
    """Adds to data_changes.json what differs behind the newest checkpoint from what was before."""
    step = saved_steps(workdir / "checkpoints")[-1]
    added = [{"step": step, **change._asdict()} for change in changes]
    kept = [entry for entry in data_changes(workdir) if entry not in added]
    write_json(workdir / "data_changes.json", {"changes": kept + added})


def check_steps_left(workdir: Path, total_steps: int) -> None:
    """Raises ConfigError if a run in epochs, on less text by now, is past its end."""
    step = max(saved_steps(workdir / "checkpoints"), default=0)
    if step > total_steps:
        raise ConfigError(
            f"the run in {workdir} has taken {step} steps, and on this text it ends after "
            f"{total_steps}; give the text back, or choose another --workdir"
        )


def data_changes(workdir: Path) -> list[dict]:
    """What of a run's data was changed on the way: `step`, `field`, `then` and `now` of each."""
    found = (read_json(workdir / "data_changes.json") or {}).get("changes")
    entries = found if isinstance(found, list) else []
    return [e for e in entries if isinstance(e, dict) and isinstance(e.get("step"), int)]


def _text_facts(text: PreparedText, rows: Rows, weights: str) -> dict[str, object]:
    return {
        "text": text.train.fingerprint,
        "order": ORDER_VERSION,
        "rows": rows.source_bounds.tolist(),
        "units": rows.units.meta["units_sha256"] if rows.units else "",
        "weights": _digest(Path(weights)) if weights.endswith(".npy") else "",
        "source": text.train.meta["source"],
    }


def _digest(file: Path) -> str:
    try:
        return sha256(file)
    except OSError as error:
        return f"missing ({error.strerror})"


def check_unchanged(workdir: Path, step: int, *, began: int | None = None) -> None:
    """Raises CheckpointError if the run read other data at `step` than it does now.

    Args:
      began: the step before the first that is taken again for it; None: it alone is.
    """
    last = max((entry["step"] for entry in data_changes(workdir)), default=0)
    if (step - 1 if began is None else began) >= last:
        return
    known = "is not known any more" if step <= last else f"cannot be taken again from step {began}"
    raise CheckpointError(
        f"the data of the run in {workdir} changed after step {last} (data_changes.json), so step "
        f"{step} {known}; give a later --step"
    )


def check_text(workdir: Path, text: PreparedText, rows: Rows, *, weights: str = "") -> None:
    """Raises CheckpointError unless text, tokenizer and what masks follow are those of the run."""
    if changes := text_changes(workdir, text, rows, weights=weights):
        raise CheckpointError("\n".join(refused(workdir, changes)))


def text_changes(
    workdir: Path, text: PreparedText, rows: Rows, *, weights: str = ""
) -> list[Change]:
    """What of text, tokenizer and what masks follow differs from what is stored with the run.

    Bitmaps of units and a file of `masking.weights` stand in the config by their place alone.

    Raises:
      CheckpointError: what is stored cannot be read, or the tokenizer has another number of ids.
    """
    stored, facts = read_json(workdir / "text.json"), _text_facts(text, rows, weights)
    if stored is None:
        raise CheckpointError(f"{workdir} holds a run but no readable text.json{WAY_OUT}")
    own = saved_tokenizer(workdir)
    if own.vocabulary_size != text.tokenizer.vocabulary_size:
        raise CheckpointError(
            f"the run in {workdir} began with tokenizer {own.hash[:12]} of {own.vocabulary_size} "
            f"ids, it is {text.tokenizer.hash[:12]} of {text.tokenizer.vocabulary_size} now, for "
            "which its weights have no rows; give it back, or choose another --workdir"
        )
    for name in ("rows", "units", "weights"):  # a run from before they were kept
        stored.setdefault(name, facts[name])
    names = ("tokenizer", "text", "order", "rows", "units", "weights")
    then, now = stored | {"tokenizer": own.hash}, facts | {"tokenizer": text.tokenizer.hash}
    found = differences({n: then.get(n) for n in names}, {n: now[n] for n in names})
    return sorted((_short(change) for change in found), key=lambda c: names.index(c.field))


def _short(change: Change) -> Change:
    """A change whose hashes are as short as they are shown elsewhere."""
    return Change(change.field, *(v[:12] if isinstance(v, str) else v for v in change[1:]))
