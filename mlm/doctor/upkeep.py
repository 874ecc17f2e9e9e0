"""What lies beside good checkpoints, and whether the files about a run agree with them."""

from collections.abc import Mapping, Sequence

from mlm.doctor.finding import Finding

MEND = "the same command with --repair"


def check_beside(
    *, strays: Sequence[str], unfinished: Sequence[str], bad: Sequence[str], in_bucket: bool
) -> Finding:
    """Whatever is in checkpoints/ and is no good checkpoint."""
    words = []
    if strays:
        words.append(f"{', '.join(strays)}: no checkpoints, ignored")
    if unfinished and in_bucket:
        words.append(
            f"{', '.join(unfinished)}: without the marker that Orbax writes last, ignored; "
            f"{MEND} gives it back to what is whole"
        )
    elif unfinished:
        words.append(f"{', '.join(unfinished)}: left by a save that was killed; {MEND} removes it")
    if bad:
        words.append(f"{', '.join(bad)}: damaged, set aside; remove what is not needed any more")
    name = "beside the checkpoints"
    return Finding("warning", name, "; ".join(words)) if words else Finding("ok", name, "nothing")


def check_lock(owner: str | None) -> Finding:
    """Who trains in the workdir."""
    return Finding("ok", "lock", f"in use by {owner}" if owner else "free")


def check_free(free: int, needed: int) -> Finding:
    """Room for one more checkpoint, in bytes."""
    words = f"{free / 1e6:,.0f} MB are free, a checkpoint has {needed / 1e6:,.1f} MB"
    return Finding("warning" if free < needed else "ok", "space", words)


def check_status(status: Mapping[str, object], newest: int, digest: str) -> Finding:
    """status.json against the newest checkpoint.

    Args:
      digest: of that checkpoint; '' if it is from before digests.
    """
    said = status.get("step"), status.get("digest", "")
    name = "status.json"
    if status.get("state") == "non-finite":
        return Finding("ok", name, f"ended at step {said[0]}, non-finite, after {newest} was saved")
    if said[0] != newest:
        told = "no step" if said[0] is None else f"step {said[0]}"
        words = f"says {told}, the newest checkpoint is {newest}; {MEND} corrects it"
        return Finding("warning", name, words)
    if digest and said[1] != digest:
        words = f"says digest {said[1]}, checkpoint {newest} has {digest}; {MEND} corrects it"
        return Finding("warning", name, words)
    return Finding("ok", name, f"step {newest}, digest {digest}" if digest else f"step {newest}")


def check_lines(torn: int) -> Finding:
    """Lines of metrics.jsonl that cannot be read."""
    if torn:
        told = "1 line is" if torn == 1 else f"{torn} lines are"
        words = f"{told} torn, as by a kill; readers pass over that, {MEND} drops it"
        return Finding("warning", "metrics.jsonl", words)
    return Finding("ok", "metrics.jsonl", "every line can be read")
