"""Steps of a run taken again, and what comes of them compared with what the run recorded.

A step is a pure function of the state before it, the batch and the step's number, so it can be
repeated from the last checkpoint before it. If the bits differ and the conditions do not, something
computed or kept a wrong number: a processor, a memory, a disk.
"""

import dataclasses
import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from ml_collections import ConfigDict

from mlm import experiment, origin, saved
from mlm.conditions import UNKNOWN, attempts_before, differences
from mlm.errors import CheckpointError, ConfigError
from mlm.experiment import Experiment
from mlm.training.checkpoint import parts_of
from mlm.training.digests import digests_of
from mlm.training.metrics import Interval, host, read_metrics
from mlm.training.restoring import stored_digests
from mlm.training.step import TrainState
from mlm.training.workdir import saved_steps

SHOWN = 5  # differences that are told one by one


@dataclasses.dataclass(frozen=True)
class Comparison:
    """What came of steps that were taken again.

    Attributes:
      step: the one that was asked for.
      began: the step of the checkpoint that they were taken from; 0 for the start.
      recorded: the step whose record they were compared with.
      equal: how many numbers and arrays are the same.
      differing: those that are not, as 'train/loss 4.1 -> 4.2', what was recorded first.
      conditions: what differs between the run and this process, as 'cores 2 -> 1'.
    """

    step: int
    began: int
    recorded: int
    equal: int
    differing: tuple[str, ...]
    conditions: tuple[str, ...]

    def lines(self) -> Iterator[str]:
        """Differences a line each, then the verdict in one."""
        taken = f"step {self.step}, taken again from {self.began} to {self.recorded}"
        if not self.differing:
            yield f"{taken}: {self.equal} recorded numbers and arrays are equal, bit for bit"
            return
        yield from self.differing[:SHOWN]
        if len(self.differing) > SHOWN:
            yield f"and {len(self.differing) - SHOWN} more"
        cause = (
            f"not bit-exact: {', '.join(self.conditions)}"
            if self.conditions
            else "and the conditions are the same: a number was computed or kept wrongly, then or "
            "now; the same command again tells which"
        )
        number = len(self.differing)
        yield f"{taken}: {number} of {number + self.equal} are different, {cause}"


def compare(config: ConfigDict, workdir: Path, step: int, *, say: Callable = print) -> Comparison:
    """Step `step` of the run in `workdir` and those around it, up to what the run recorded next.

    That is a line of metrics.jsonl, a checkpoint or both; the line's speeds are not compared.

    Args:
      config: of the run, from `stored_config`.
      step: 1 for the first.
      say: called with a line on what is being done.

    Raises:
      ConfigError: the run has recorded nothing at this step or later.
      CheckpointError: text or tokenizer are not the run's, or there is nothing to begin or to
        compare with.
    """
    steps = saved_steps(workdir / "checkpoints")
    # Evaluations and saves have lines of their own.
    lines = {x["step"]: x for x in read_metrics(workdir / "metrics.jsonl") if "steps" in x}
    recorded = min((s for s in (*lines, *steps) if s >= step), default=0)
    if step < 1 or not recorded:
        last = max((*lines, *steps), default=0)
        known = f"steps 1 to {last}" if last else "no step yet"
        raise ConfigError(f"--step is {step}; the run in {workdir} has recorded {known}")
    exp = experiment.build(config, start=origin.kept_start(config, workdir), say=say)
    origin.check_text(workdir, exp.text, exp.rows, weights=config.masking.weights)
    line = lines.get(recorded, {})
    then = _numbers(line)
    if recorded in steps:
        then |= _digests(stored_digests(workdir / "checkpoints" / str(recorded))["leaves"])
    if not then:
        raise CheckpointError(
            f"checkpoint {recorded} of {workdir} is from before digests and metrics.jsonl has no "
            f"line there, so there is nothing to compare with; give a --step behind {recorded}"
        )
    began = last_before(config, workdir, step, steps)
    say(f"training again from step {began} to {recorded}")
    line_from = recorded - line.get("steps", 0)
    state, interval = train_again(exp, workdir, began, recorded, line_from=line_from)
    now = _digests(digests_of(parts_of(state)))
    if line:
        now |= _numbers(interval.line() | {"train/tokens": recorded * exp.run.slots})
    names = [name for name in then if name in now]  # older versions recorded less
    return Comparison(
        step=step,
        began=began,
        recorded=recorded,
        equal=sum(then[name] == now[name] for name in names),
        differing=tuple(f"{n} {then[n]} -> {now[n]}" for n in names if then[n] != now[n]),
        conditions=tuple(_conditions(workdir, began, recorded, exp)),
    )


def last_before(config: ConfigDict, workdir: Path, step: int, steps: list[int]) -> int:
    """The last of the checkpoints `steps` before `step`; 0: the start of the run.

    Raises:
      CheckpointError: nothing of before `step` is known any more.
    """
    before = max((s for s in steps if s < step), default=0)
    origin.check_unchanged(workdir, step, began=before)
    if not before and config.model.init_from:
        raise CheckpointError(
            f"no checkpoint of {workdir} is from before step {step}, and the run began with "
            f"{config.model.init_from}, which a replay does not read again; replay a later step"
        )
    return before


def train_again(
    exp: Experiment, workdir: Path, before: int, after: int, *, line_from: int = 0
) -> tuple[TrainState, Interval]:
    """The state at step `after`, from the checkpoint `before`, and the sums since `line_from`."""
    run = exp.run
    interval = Interval(slots=run.slots, max_nonfinite_in_a_row=run.max_nonfinite_in_a_row)
    if before:
        state, sums = saved.restore_run(run.init_state, workdir, before, shardings=exp.shardings)
        interval.resume(sums)
    else:
        state = run.init_state()
    for k in range(before, after):
        if k == line_from:
            interval.restart()
        state, metrics = run.step(state, run.put(run.batch_at(k)))
        interval.add(k + 1, host(metrics))
    return state, interval


def _numbers(line: Mapping[str, float]) -> dict[str, str]:
    """What of a line follows from the run, exactly as JSON has it."""
    left = {n: v for n, v in line.items() if n != "step" and not n.startswith("perf/")}
    return {name: json.dumps(value) for name, value in left.items()}


def _digests(facts: Mapping[str, Mapping]) -> dict[str, str]:
    return {f"leaf {path}": found["digest"] for path, found in facts.items()}


def _conditions(workdir: Path, began: int, recorded: int, exp: Experiment) -> list[str]:
    """What differs between the attempts that took the steps and this process."""
    attempts = attempts_before(workdir, recorded)
    ends = [*(attempt["step"] for attempt in attempts[1:]), recorded]
    taking = [a for a, end in zip(attempts, ends, strict=False) if end > began]
    if not taking:
        return [UNKNOWN]
    return differences([*(a["conditions"] for a in taking), exp.conditions])
