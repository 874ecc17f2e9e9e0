"""What a run keeps: the text it began with, checkpoints, and the masks of its evaluations."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from mlm.doctor.finding import Finding
from mlm.errors import MlmError


def check_call(name: str, call: Callable[[], object], words: str) -> Finding:
    """'ok' with `words` if the call returns, 'bad' with its error in one line if it refuses."""
    try:
        call()
    except MlmError as error:
        return Finding("bad", name, "; ".join(str(error).splitlines()))
    return Finding("ok", name, words)


def check_state(step: int, leaves: Mapping[str, Any]) -> Finding:
    """Whether every number of a restored state, by its path, is finite."""
    wrong = [path for path, leaf in leaves.items() if not np.isfinite(leaf).all()]
    name = f"checkpoint {step}"
    if wrong:
        shown = f"{wrong[0]} and {len(wrong) - 1} more" if len(wrong) > 1 else wrong[0]
        return Finding(
            "bad",
            f"numbers of {name}",
            f"{shown} are not finite; to go on from an earlier one, remove this folder",
        )
    numbers = sum(np.size(leaf) for leaf in leaves.values())
    return Finding("ok", name, f"can be restored, {numbers:,} numbers, all finite")


def check_hashes(
    stored: Mapping[str, Mapping] | None, hashes: Mapping[str, str], *, file: str
) -> Finding:
    """The mask hashes of an evaluation against those of the masks that are made here now.

    Args:
      stored: `masks` of eval.json; None: there is none yet.
      hashes: by kind of mask.
      file: what the stored ones are from.
    """
    name = "evaluation masks"
    shown = ", ".join(f"{kind} {value[:12]}" for kind, value in hashes.items())
    if stored is None:
        return Finding("ok", name, f"{shown}; nothing is evaluated yet to compare with")
    differing = [
        kind for kind, values in stored.items() if values.get("mask_hash") != hashes.get(kind)
    ]
    if differing:
        return Finding(
            "bad",
            name,
            f"{', '.join(differing)} of {file} were other masks than those made here, {shown}: "
            "held-out text, eval settings or version differ, and losses cannot be compared",
        )
    return Finding("ok", name, f"{shown}, as in {file}")


def check_checkpoints(steps: Sequence[int], *, lost: int = 0) -> Finding:
    """Whether there is anything to go on from.

    Args:
      lost: the step that status.json calls saved although no checkpoint is there.
    """
    if lost:
        words = f"status.json says step {lost}, but none is there: lost, or killed as it was saved"
        return Finding("warning", "checkpoints", f"{words}; put a copy back")
    if not steps:
        return Finding("warning", "checkpoints", "none is saved yet; a kill loses all steps")
    return Finding("ok", "checkpoints", f"steps {', '.join(map(str, steps))}")
