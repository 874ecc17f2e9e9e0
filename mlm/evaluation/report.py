"""Evaluations for people (one table) and for programs (`eval.json`)."""

from collections.abc import Callable, Mapping, Sequence

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table


def print_evaluation(console: Console, evaluation: Mapping[str, dict], *, step: int) -> None:
    """One table: a row per kind of mask, then its [MASK], random and kept slots."""
    table = Table(
        title=f"Evaluation on frozen masks, step {step}", title_justify="left", box=SIMPLE_HEAD
    )
    columns = ("masks", "loss", "unigram", "perplexity", "top-1", "top-5", "tokens", "rate", "hash")
    for i, name in enumerate(columns):
        table.add_column(name, justify="left" if i == 0 else "right")
    for kind, v in evaluation.items():
        scores = (f"{v[name]:.4f}" for name in ("loss", "unigram_loss"))
        rest = (f"{v['perplexity']:.2f}", f"{v['top1']:.4f}", f"{v['top5']:.4f}")
        place = (str(v["masked_tokens"]), f"{v['realised_rate']:.4f}", v["mask_hash"][:12])
        table.add_row(kind, *scores, *rest, *place)
        for slot, s in v["by_slot"].items():
            if s["masked_tokens"]:
                loss, top1 = f"{s['loss']:.4f}", f"{s['top1']:.4f}"
                table.add_row(f"  {slot}", loss, "", "", top1, "", str(s["masked_tokens"]))
    console.print(table)


def print_fills(
    console: Console, fill: Callable, params: dict, texts: Sequence[str], *, top_k: int = 5
) -> None:
    """Each text, and below it a line of candidates for each of its [MASK]s."""
    for text in texts:
        masks = fill(params, text, top_k)
        console.print(text, style="bold")
        for guesses in masks:
            shown = "   ".join(f"{g.token} {g.probability:.3f}" for g in guesses)
            console.print(f"    {shown}")
