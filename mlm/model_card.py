"""The README.md of an exported model: what it was trained on, how, and how well it does.

Only what is known is told: a run knows its text, masks and evaluation, a checkpoint from elsewhere
nothing but its sizes.
"""

from collections.abc import Iterator, Sequence

from mlm import models
from mlm.pretrained import Pretrained
from mlm.training.metrics import read_metrics
from mlm.training.workdir import read_json

HEADER = "---\nlibrary_name: transformers\npipeline_tag: fill-mask\ntags: [masked-lm]\n---\n"


def model_card(source: Pretrained, *, command: str = "", notes: Sequence[str] = ()) -> str:
    """Markdown for the folder of an exported model."""
    config = source.config
    count = models.parameter_count(source.params)
    lines = [
        HEADER,
        "# A masked language model",
        "",
        f"DistilBERT's architecture: {config.layers} layers of width {config.width}, "
        f"{config.heads} heads, {count:,} parameters, a vocabulary of "
        f"{config.vocabulary_size:,}, texts of up to {config.max_length} tokens.",
        "",
        f"Made from {_origin(source)}" + (f" by `{command}`." if command else "."),
        *(f"\n{note[0].upper()}{note[1:]}." for note in (*source.notes, *notes)),
    ]
    if source.kind == "run":
        lines += ["", *_run_lines(source)]
    return "\n".join(lines) + "\n"


def _origin(source: Pretrained) -> str:
    if source.kind == "run":
        return f"step {source.revision} of a training run of mlm"
    return f"a {source.kind} checkpoint" + (
        f" at commit {source.revision}" if source.revision else ""
    )


def _run_lines(source: Pretrained) -> Iterator[str]:
    config = read_json(source.folder / "config.json") or {}
    text = (read_json(source.folder / "text.json") or {}).get("source", {})
    yield "## Data"
    yield ""
    yield (
        f"{text.get('corpus', 'an unknown text')}: {text.get('documents', 0):,} documents, "
        f"{text.get('characters', 0):,} characters, sha256 `{text.get('text', '')[:16]}`; "
        f"a share of {config.get('data.heldout_fraction')} was held out."
    )
    yield from _masking_lines(source, config)
    yield from _evaluation_lines(source)


def _masking_lines(source: Pretrained, config: dict) -> Iterator[str]:
    step = int(source.revision)
    logged = read_metrics(source.folder / "metrics.jsonl")
    rates = [
        line["masking/realised_rate"]
        for line in logged
        if "masking/realised_rate" in line and line["step"] <= step
    ]
    realised = f", {sum(rates) / len(rates):.4f} realised" if rates else ""
    kept = 1 - config["masking.mask_token_rate"] - config["masking.random_token_rate"]
    yield from ("", "## Masking", "")
    yield (
        f"A rate of {config['masking.rate']}{realised} ({config['masking.count']}); of the "
        f"selected tokens {config['masking.mask_token_rate']:.0%} were shown as [MASK], "
        f"{config['masking.random_token_rate']:.0%} as another token, {kept:.0%} as they are."
    )


def _evaluation_lines(source: Pretrained) -> Iterator[str]:
    found = read_json(source.folder / "eval.json") or {}
    if str(found.get("step")) != source.revision:  # of another checkpoint
        return
    yield from ("", "## Evaluation", "")
    yield "On held-out text with frozen masks; losses are comparable where the mask hash is equal."
    yield from ("", "| masks | loss | unigram | perplexity | top-1 | masked tokens | mask hash |")
    yield "| --- | --- | --- | --- | --- | --- | --- |"
    for name, masks in found["masks"].items():
        yield (
            f"| {name} | {masks['loss']:.4f} | {masks['unigram_loss']:.4f} | "
            f"{masks['perplexity']:.2f} | {masks['top1']:.4f} | {masks['masked_tokens']:,} | "
            f"{masks['mask_hash'][:12]} |"
        )
