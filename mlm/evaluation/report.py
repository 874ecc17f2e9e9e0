"""Evaluations for people (one table) and for programs (`eval.json`)."""

from collections.abc import Callable, Mapping, Sequence

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

MOST_WITH_SLOTS = 2  # kinds of mask; of more, a line each and the slots of the first


def print_evaluation(
    console: Console,
    masks: Mapping[str, dict],
    *,
    step: int,
    before: Mapping[str, dict] | None = None,
) -> None:
    """One table: a row per kind of mask, then its [MASK], random and kept slots.

    Of more than two kinds only the first, which decides the best checkpoint, shows its slots. With
    the evaluation `before` training each score stands there twice. Fits into 100 columns.
    """
    if before:
        console.print(_comparison(before, masks, step))
        return
    columns = ("masks", "loss", "unigram", "perplexity", "top-1", "top-5", "tokens", "rate", "hash")
    table = _table(f"Evaluation on frozen masks, step {step}", columns, masks)
    for kind, v in masks.items():
        scores = (f"{v[name]:.4f}" for name in ("loss", "unigram_loss"))
        rest = (f"{v['perplexity']:.2f}", f"{v['top1']:.4f}", f"{v['top5']:.4f}")
        place = (str(v["masked_tokens"]), f"{v['realised_rate']:.4f}", v["mask_hash"][:12])
        table.add_row(kind, *scores, *rest, *place)
        for slot, s in _slots(masks, kind):
            loss, top1 = f"{s['loss']:.4f}", f"{s['top1']:.4f}"
            table.add_row(f"  {slot}", loss, "", "", top1, "", str(s["masked_tokens"]))
    console.print(table)


def _comparison(before: Mapping[str, dict], after: Mapping[str, dict], step: int) -> Table:
    title = f"Evaluation on frozen masks, before training -> at step {step}"
    columns = ("masks", "loss", "unigram", "perplexity", "top-1", "tokens", "hash")
    table = _table(title, columns, after)
    for kind, v in after.items():
        old = before[kind]
        perplexity = " -> ".join(_short(x["perplexity"]) for x in (old, v))
        place = (str(v["masked_tokens"]), v["mask_hash"][:12])
        if old["mask_hash"] != v["mask_hash"]:  # then the losses are of different tokens
            place = (place[0], f"{old['mask_hash'][:12]} -> {place[1]}")
        scores = (_both(old, v, "loss"), f"{v['unigram_loss']:.3f}", perplexity)
        table.add_row(kind, *scores, _both(old, v, "top1"), *place)
        for slot, s in _slots(after, kind):
            was = old["by_slot"][slot]
            loss, top1 = _both(was, s, "loss"), _both(was, s, "top1")
            table.add_row(f"  {slot}", loss, "", "", top1, str(s["masked_tokens"]))
    return table


def _table(title: str, columns: Sequence[str], masks: Mapping[str, dict]) -> Table:
    table = Table(title=title, title_justify="left", caption_justify="left", box=SIMPLE_HEAD)
    if len(masks) > MOST_WITH_SLOTS:
        table.caption = "[MASK], random and kept tokens of all masks: in eval.json"
    for i, name in enumerate(columns):
        table.add_column(name, justify="left" if i == 0 else "right")
    return table


def _slots(masks: Mapping[str, dict], kind: str) -> list[tuple[str, dict]]:
    """The slots of `kind` that are shown, with what was measured there."""
    if len(masks) > MOST_WITH_SLOTS and kind != next(iter(masks)):
        return []
    return [(slot, s) for slot, s in masks[kind]["by_slot"].items() if s["masked_tokens"]]


def _short(perplexity: float) -> str:
    form = ".1f" if perplexity < 1e3 else ".0f" if perplexity < 1e6 else ".1e"
    return format(perplexity, form)


def _both(before: Mapping[str, float], after: Mapping[str, float], name: str) -> str:
    return f"{before[name]:.3f} -> {after[name]:.3f}"


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
