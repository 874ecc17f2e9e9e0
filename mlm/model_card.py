"""The README.md of an exported model: what it was trained on, how, and how well it does.

Only what is known is told: a run knows its text, masks and evaluation, a checkpoint from elsewhere
nothing but its sizes.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

from mlm import models
from mlm.conversion import PRESETS
from mlm.conversion.builtin import HUB
from mlm.pretrained import Pretrained
from mlm.training.metrics import read_metrics
from mlm.training.workdir import read_json

HEADER = "---\nlibrary_name: transformers\npipeline_tag: fill-mask\ntags: [masked-lm]\n---\n"
KINDS = {"huggingface": "Hugging Face", "keras": "KerasHub", "mlm": "mlm"}


def model_card(source: Pretrained, *, command: str = "", notes: Sequence[str] = ()) -> str:
    """Markdown for the folder of an exported model.

    Args:
      source: the model; of a run, its workdir is read.
      command: what wrote the folder.
      notes: of the export.
    """
    config = source.config
    count = models.parameter_count(source.params)
    lines = [
        HEADER,
        "# A masked language model",
        "",
        f"It fills in [MASK]. DistilBERT's architecture (layers {config.layers}, width "
        f"{config.width}, heads {config.heads}), {count:,} parameters, a vocabulary of "
        f"{config.vocabulary_size:,}, texts of up to {config.max_length} tokens.",
        "",
        f"Made from {_origin(source)}" + (f" by `{command}`." if command else "."),
        *(f"\n{note}" for note in (*source.notes, *notes)),
    ]
    if source.kind == "run":
        lines += _run_lines(source)
    return "\n".join(lines) + "\n"


def _origin(source: Pretrained) -> str:
    if source.kind == "run":
        return f"step {source.revision} of a training run of mlm"
    # A folder's name says nothing to those who do not have it.
    public = source.place in PRESETS or source.place.startswith(HUB)
    place = f"{source.place}, " if public else ""
    commit = f" at commit {source.revision}" if source.revision else ""
    return f"{place}a {KINDS.get(source.kind, source.kind)} checkpoint{commit}"


def _run_lines(source: Pretrained) -> Iterator[str]:
    # The reader of the run made sure of its config.json.
    config = read_json(source.folder / "config.json")
    yield from _data_lines(source.folder, config)
    yield from _masking_lines(source, config)
    yield from _training_lines(source, config)
    yield from _evaluation_lines(source)


def _data_lines(workdir: Path, config: dict) -> Iterator[str]:
    text = (read_json(workdir / "text.json") or {}).get("source", {})
    yield from ("", "## Data", "")
    yield (
        f"{text['documents']:,} documents, {text['characters']:,} characters from "
        f"`{text['corpus']}`, sha256 `{text['text'][:16]}`."
        if {"corpus", "documents", "characters", "text"} <= text.keys()
        else "The text that it was trained on is not written down with the run."
    )
    if not config.get("data.heldout_corpus"):
        yield f"Of these {config.get('data.heldout_fraction'):.2%} were held out from training."


def _masking_lines(source: Pretrained, config: dict) -> Iterator[str]:
    logged = [
        line["masking/realised_rate"]
        for line in read_metrics(source.folder / "metrics.jsonl")
        if "masking/realised_rate" in line and line["step"] <= int(source.revision)
    ]
    realised = f" (realised in training: {sum(logged) / len(logged):.4f})" if logged else ""
    rate, mask, random = (
        config[f"masking.{n}"] for n in ("rate", "mask_token_rate", "random_token_rate")
    )
    yield from ("", "## Masking", "")
    yield (
        f"{rate:.2%} of the tokens were selected{realised}, masking.count was "
        f"`{config['masking.count']}`. Of the selected, {mask:.0%} were shown as [MASK], "
        f"{random:.0%} as a random token and {1 - mask - random:.0%} as they are."
    )


def _training_lines(source: Pretrained, config: dict) -> Iterator[str]:
    began = read_json(source.folder / "init.json")
    command = (read_json(source.folder / "environment.json") or {}).get("command")
    yield from ("", "## Training", "")
    yield (
        f"{source.revision} steps of {config['train.batch_size']} rows of {config['data.length']} "
        f"tokens with {config['optimizer.name']}, from "
        + (f"the weights of {_began(began)}." if began else "random weights.")
    )
    if command:
        yield f"The command was `{command}`."


def _began(facts: dict) -> str:
    revision = f" at {facts['revision']}" if facts.get("revision") else ""
    return f"`{facts.get('place')}`{revision}"


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
