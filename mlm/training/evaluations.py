"""What an evaluation says: to metrics.jsonl, to people, and of which checkpoint is best.

An evaluation is `{"token@0.15": {"loss": nats, ...}, ...}`, the first kind of mask being the one
that decides.
"""

import math


def flat_evaluation(evaluation: dict[str, dict]) -> dict[str, float]:
    """Its numbers by names such as 'eval/token@0.15/loss'."""
    return {
        f"eval/{kind}/{name}": value
        for kind, values in evaluation.items()
        for name, value in values.items()
        if isinstance(value, (int, float))
    }


def evaluation_text(evaluation: dict[str, dict]) -> str:
    """The loss and the share of right predictions for each kind of mask, in a line."""
    return "  ".join(
        f"{kind}: loss {values['loss']:.3f} (unigram {values['unigram_loss']:.3f}), "
        f"top-1 {values['top1']:.3f}"
        for kind, values in evaluation.items()
    )


def deciding_loss(evaluation: dict[str, dict] | None) -> float | None:
    """The loss that a checkpoint is compared by; None if there is none, or it is no number."""
    loss = next(iter(evaluation.values()))["loss"] if evaluation else math.nan
    return loss if math.isfinite(loss) else None
