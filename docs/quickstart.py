"""Draws a run's loss against the unigram line: `python docs/quickstart.py WORKDIR OUT.svg`."""

import json
import sys
from pathlib import Path

import matplotlib

matplotlib.use("svg")
import matplotlib.pyplot as plt  # noqa: E402

from mlm.training.metrics import read_metrics  # noqa: E402


def draw(workdir: Path, out: Path) -> None:
    lines = read_metrics(workdir / "metrics.jsonl")
    last = max(line["step"] for line in lines)
    result = json.loads((workdir / "eval.json").read_text())["masks"]["token@0.15"]
    figure, axes = plt.subplots(figsize=(7, 3.6), layout="constrained")
    for name, label, style in (
        ("train/loss", "training, at its own rate", {"color": "#9aa5b1", "linewidth": 1.5}),
        (
            "eval/token@0.15/loss",
            "held out, at 15 %",
            {"color": "#1f6feb", "marker": "o", "markersize": 5},
        ),
    ):
        points = [(line["step"], line[name]) for line in lines if name in line]
        axes.plot(*zip(*points, strict=True), label=label, **style)
    axes.axhline(result["unigram_loss"], color="#c2410c", linestyle="--", linewidth=1.2)
    axes.annotate(
        f"unigram {result['unigram_loss']:.2f}",
        (last, result["unigram_loss"]),
        ha="right",
        va="bottom",
        color="#c2410c",
    )
    axes.annotate(
        f"{result['loss']:.2f}",
        (last, result["loss"]),
        xytext=(8, -4),
        textcoords="offset points",
        color="#1f6feb",
    )
    axes.set(xlabel="step", ylabel="nats per masked token", xlim=(0, 1.06 * last))
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)
    figure.savefig(out, metadata={"Date": None})


if __name__ == "__main__":
    draw(Path(sys.argv[1]), Path(sys.argv[2]))
