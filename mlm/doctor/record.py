"""What metrics.jsonl says of a run: rates, and losses that cannot be or that have not moved."""

import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from mlm.doctor.finding import DEVIATIONS, Finding
from mlm.doctor.sample import Sample

Line = Mapping[str, float]
LINES = 64  # log lines that are compared, evenly spaced
PLATEAU = 0.1  # nats below the unigram loss that count as something learnt
LAST = 2  # evaluations that must all be on the plateau


def check_recorded_rate(
    lines: Sequence[Line],
    samples: Sequence[Sample],
    asked: Callable[[int], float],
    *,
    rows: int,
    different: float = math.inf,
) -> Finding:
    """The realised rates that the run logged, against what its strategy does when it masks now.

    Masking now gives the ratio of realised to requested ('skip' makes it less than 1) and the
    spread from row to row, which say what a log line over so many rows may be.

    Args:
      lines: of metrics.jsonl.
      samples: taken at the start, in the middle and at the end.
      asked: the requested rate at a `state.step`.
      rows: of a batch.
      different: masks that a run has, rows times patterns: more rows are no new evidence.
    """
    name = "rate, in metrics.jsonl"
    logged = [line for line in lines if "masking/realised_rate" in line and line.get("steps")]
    used = [s for s in samples if s.asked]
    if not logged or not used:
        return Finding("warning", name, "nothing is logged yet")
    ratios = [s.realised / s.asked for s in used]
    spread = max(
        np.std(s.predictions - s.realised * s.tokens) / (s.asked * s.tokens.mean()) for s in used
    )
    now = min(len(s.tokens) for s in used)
    far, worst = 0.0, ""
    for line in logged[:: max(1, len(logged) // LINES)]:
        steps = range(line["step"] - line["steps"], line["step"])
        wanted, found = float(np.mean([asked(k) for k in steps])), line["masking/realised_rate"]
        evidence = 1 / min(rows * line["steps"], different) + 1 / now
        allowed = DEVIATIONS * spread * math.sqrt(evidence) + 1e-3
        ratio = found / wanted if wanted else 1.0 + found
        beyond = max(ratio - max(ratios), min(ratios) - ratio) - allowed
        if not beyond <= 0 and not beyond < far:
            far, worst = beyond, f"{found:.4f} logged at step {line['step']}, {wanted:.4g} asked"
    if worst:
        between = f"{min(ratios):.3f} to {max(ratios):.3f}"
        return Finding(
            "bad",
            name,
            f"{worst}; masking now gives {between} times what is asked: another config, text or "
            "version has written these lines",
        )
    last = logged[-1]
    return Finding(
        "ok", name, f"{last['masking/realised_rate']:.4f} at step {last['step']}, as masked now"
    )


def check_finite(lines: Sequence[Line], state: str = "") -> Finding:
    """Losses that are no numbers; `state` is that of status.json."""
    for line in lines:
        for name, value in line.items():
            if isinstance(value, float) and not math.isfinite(value):
                words = f"{name} is {value} at step {line['step']}"
                return Finding("bad", "finite", f"{words}; lower optimizer.learning_rate")
    if state == "non-finite":
        words = "the run ended because its loss or gradient was no number; lower the learning rate"
        return Finding("bad", "finite", words)
    skipped = [line["step"] for line in lines if line.get("train/nonfinite_steps")]
    if skipped:
        number = sum(line.get("train/nonfinite_steps", 0) for line in lines)
        words = f"{number} steps were skipped as their loss or gradient was no number, the last of "
        words += f"them up to step {skipped[-1]}; a lower learning rate may help"
        return Finding("warning", "finite", words)
    spikes = sum(line.get("train/loss_spikes", 0) for line in lines)
    words = f"all that was logged are numbers, {spikes} loss spikes"
    return Finding("ok", "finite", words)


def check_plateau(lines: Sequence[Line], *, total_steps: int) -> Finding:
    """Whether the model beats the unigram law, which the loss rests on before it takes off.

    In the first half of a run that is no more than a warning.
    """
    name, found = "learning", _evaluations(lines)
    if not found:
        return Finding("warning", name, "no evaluation is logged yet")
    kind, last = next(iter(found.items()))
    gains = [unigram - loss for _, loss, unigram in last[-LAST:]]
    step, loss, unigram = last[-1]
    words = f"{kind} loss {loss:.3f} at step {step}, unigram {unigram:.3f}"
    if not max(gains) < PLATEAU:
        return Finding("ok", name, words)
    late = step >= total_steps / 2
    advice = "; another learning rate, warm-up or more steps may start it" if late else ""
    return Finding("bad" if late else "warning", name, f"{words}: has learnt nothing yet{advice}")


def check_possible(lines: Sequence[Line], *, own_loss: bool = False) -> Finding:
    """Losses below what their own top-1 and top-5 allow: something is counted wrongly.

    A label that is not ranked first has a probability of at most 1/2, one that is not among the
    first five of at most 1/6.

    Args:
      lines: of metrics.jsonl.
      own_loss: training's is not cross-entropy and may be negative.
    """
    name = "loss that can be"
    for line in lines:
        for kind in _kinds(line):
            loss, top1, top5 = (line.get(f"eval/{kind}/{n}", 1.0) for n in ("loss", "top1", "top5"))
            least = (top5 - top1) * math.log(2) + (1 - top5) * math.log(6)
            if loss < least - 1e-3:
                return Finding(
                    "bad",
                    name,
                    f"{kind} loss {loss:.3f} at step {line['step']}, and top-1 {top1:.3f}, top-5 "
                    f"{top5:.3f} allow no less than {least:.3f}: these numbers were changed or are "
                    "of different masks",
                )
    if not own_loss and any(line.get("train/loss", 0) < 0 for line in lines):
        return Finding("bad", name, "a training loss is below 0, which no cross-entropy is")
    return Finding("ok", name, "no loss is below what top-1 and top-5 allow")


def _evaluations(lines: Sequence[Line]) -> dict[str, list[tuple[int, float, float]]]:
    """Step, loss and unigram loss of each evaluation by kind of mask."""
    found: dict = {}
    for line in lines:
        for kind in _kinds(line):
            values = (line[f"eval/{kind}/loss"], line[f"eval/{kind}/unigram_loss"])
            found.setdefault(kind, []).append((line["step"], *values))
    return found


def _kinds(line: Line) -> list[str]:
    """The masks that were evaluated; such as hide no token have no loss."""
    names = [n.split("/")[1] for n in line if n.startswith("eval/") and n.endswith("/unigram_loss")]
    return [kind for kind in names if line.get(f"eval/{kind}/masked_tokens", 1)]
