"""Whether a run can go on from what is saved, for `python -m mlm doctor`."""

from collections.abc import Collection, Iterator
from pathlib import Path

from mlm import origin, saved
from mlm.conditions import all_kept, attempts_before, differences
from mlm.doctor import kept, resuming
from mlm.doctor.finding import Finding
from mlm.experiment import Experiment
from mlm.training.workdir import saved_steps

TEXT = "text and tokenizer of the run"


def examine_going_on(exp: Experiment, workdir: Path, *, bad: Collection[str]) -> Iterator[Finding]:
    """Whether model and optimizer fit the checkpoints, and what the same command would do.

    Args:
      bad: names of what was found to be bad before; `checkpoint N` is damaged, so that a run would
        pass over it.
    """
    steps = saved_steps(workdir / "checkpoints")
    step = max((s for s in steps if f"checkpoint {s}" not in bad), default=0)
    refused = TEXT in bad or (steps and not step) or f"access to checkpoint {step}" in bad
    if step:
        fits = kept.check_call(
            "model and optimizer",
            lambda: saved.check_state_fits(exp.run.init_state, workdir, step),
            f"those of checkpoint {step}",
        )
        refused = refused or fits.verdict == "bad"
        yield fits
    if refused:
        return  # as these findings say
    attempts, total = attempts_before(workdir, step), exp.run.total_steps
    now = [exp.conditions] if step < total else []
    yield resuming.check_resuming(
        step,
        total,
        known=all_kept(attempts),
        differing=differences([a["conditions"] for a in attempts] + now),
        changed=[entry["field"] for entry in origin.data_changes(workdir)],
    )
