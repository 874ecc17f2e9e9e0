"""Evaluations for people (one table) and for programs (`eval.json`)."""

from collections.abc import Callable, Mapping, Sequence

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table


def print_evaluation(
    console: Console,
    masks: Mapping[str, dict],
    *,
    step: int,
    before: Mapping[str, dict] | None = None,
) -> None:
    """One table: a row per kind of mask, then its [MASK], random and kept slots.

    With the evaluation `before` training there are two columns of each score.
    """
    if before:
        console.print(_comparison(before, masks, step))
        return
    table = Table(
        title=f"Evaluation on frozen masks, step {step}", title_justify="left", box=SIMPLE_HEAD
    )
    columns = ("masks", "loss", "unigram", "perplexity", "top-1", "top-5", "tokens", "rate", "hash")
    for i, name in enumerate(columns):
        table.add_column(name, justify="left" if i == 0 else "right")
    for kind, v in masks.items():
        scores = (f"{v[name]:.4f}" for name in ("loss", "unigram_loss"))
        rest = (f"{v['perplexity']:.2f}", f"{v['top1']:.4f}", f"{v['top5']:.4f}")
        place = (str(v["masked_tokens"]), f"{v['realised_rate']:.4f}", v["mask_hash"][:12])
        table.add_row(kind, *scores, *rest, *place)
        for slot, s in v["by_slot"].items():
            if s["masked_tokens"]:
                loss, top1 = f"{s['loss']:.4f}", f"{s['top1']:.4f}"
                table.add_row(f"  {slot}", loss, "", "", top1, "", str(s["masked_tokens"]))
    console.print(table)


def _comparison(before: Mapping[str, dict], after: Mapping[str, dict], step: int) -> Table:
    table = Table(
        title=f"Evaluation on frozen masks, before training -> at step {step}",
        title_justify="left",
        box=SIMPLE_HEAD,
    )
    columns = ("masks", "loss", "unigram", "perplexity", "top-1", "tokens", "hash")
    for i, name in enumerate(columns):
        table.add_column(name, justify="left" if i == 0 else "right")
    for kind, v in after.items():
        old = before[kind]
        perplexity = f"{old['perplexity']:.2f} -> {v['perplexity']:.2f}"
        place = (str(v["masked_tokens"]), v["mask_hash"][:12])
        if old["mask_hash"] != v["mask_hash"]:  # then the losses are of different tokens
            place = (place[0], f"{old['mask_hash'][:12]} -> {place[1]}")
        scores = (_both(old, v, "loss"), f"{v['unigram_loss']:.4f}", perplexity)
        table.add_row(kind, *scores, _both(old, v, "top1"), *place)
        for slot, s in v["by_slot"].items():
            if s["masked_tokens"]:
                was = old["by_slot"][slot]
                loss, top1 = _both(was, s, "loss"), _both(was, s, "top1")
                table.add_row(f"  {slot}", loss, "", "", top1, str(s["masked_tokens"]))
    return table


def _both(before: Mapping[str, float], after: Mapping[str, float], name: str) -> str:
    return f"{before[name]:.4f} -> {after[name]:.4f}"


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
