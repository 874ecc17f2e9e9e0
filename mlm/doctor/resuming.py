"""What the same command would do with a run: from which step, and whether bit for bit."""

from collections.abc import Sequence

from mlm.doctor.finding import Finding


def check_resuming(
    step: int, total: int, *, known: bool, differing: Sequence[str], changed: Sequence[str] = ()
) -> Finding:
    """Where a run goes on, and what of it differs from an undisturbed one.

    Args:
      step: of the newest checkpoint that is good; 0 if there is none.
      total: steps of the run.
      known: whether the conditions of its steps were kept.
      differing: conditions that have not been the same all the time, as 'cores 2 -> 1'.
      changed: fields of its data that are no longer those that it began with.
    """
    name = "the same command"
    if not step:
        return Finding("ok", name, f"begins at step 0 of {total}")
    words = f"goes on at step {step} of {total}"
    if step >= total:
        words = f"trains no more, all {total} steps are done"
    causes = [*differing, *([f"changed data ({', '.join(changed)})"] if changed else [])]
    if causes:
        return Finding("warning", name, f"{words}; not bit-exact: {', '.join(causes)}")
    if not known:
        words += "; whether it is bit-exact is not known: how its steps were computed was not kept"
        return Finding("warning", name, words)
    return Finding("ok", name, f"{words}; bit for bit as if it had never been stopped")
