"""`python -m mlm doctor`: which checks of `mlm.doctor` are asked, of a config or of a run.

A check that cannot be made because something before it is bad is left out, and that is bad enough.
"""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from mlm import experiment, origin, saved
from mlm.data import MODES, make_rows, token_counts, useful_share, verify_store
from mlm.doctor import amounts, fates, kept, record, text
from mlm.doctor.finding import Finding
from mlm.doctor.sample import Sample, take_samples
from mlm.errors import CheckpointError, DataError
from mlm.evaluation.frozen import mask_hashes
from mlm.evaluation.rows import eval_rows
from mlm.experiment import Experiment
from mlm.going_on import TEXT, examine_going_on
from mlm.input import cache_dir
from mlm.masking import MaskingSpec
from mlm.masks import (
    Rates,
    adaptive,
    make_evaluation_masks,
    needed_slots,
    training_rates,
    training_strategy,
)
from mlm.preparing import PreparedText, unknown_warning
from mlm.preparing.inspect import unknown_share
from mlm.settings import run_keys
from mlm.strategy import Strategy
from mlm.training.adaptive import init_table
from mlm.training.metrics import read_metrics
from mlm.training.workdir import read_json, saved_steps
from mlm.upkeep import examine_files


def examine_config(config: ConfigDict, *, say: Callable = print) -> Iterator[Finding]:
    """What can be found before a run: its text, and how it would mask; prepares the text.

    Raises:
      ConfigError: the config cannot work.
    """
    try:
        exp = experiment.build(config, say=say)
    except (DataError, CheckpointError) as error:
        yield _refused(error)
        return
    yield from _text(config, exp, say)
    plan = _plan(config, exp)
    yield from _masking(config, exp, plan, _samples(config, exp, plan), recorded=0.0)
    yield kept.check_hashes(None, _hashes(config, exp), file="eval.json")


def examine_run(config: ConfigDict, workdir: Path, *, say: Callable = print) -> Iterator[Finding]:
    """What can be found of the run in `workdir`, with its config from `stored_config`.

    Raises:
      ConfigError: the config cannot work.
    """
    lines = read_metrics(workdir / "metrics.jsonl")
    status = read_json(workdir / "status.json") or {}
    try:
        exp = experiment.build(config, start=origin.kept_start(config, workdir), say=say)
    except (DataError, CheckpointError) as error:
        yield _refused(error)
        yield record.check_finite(lines, status.get("state", ""))
        yield record.check_possible(lines, own_loss=bool(config.train.loss))
        yield from examine_files(workdir)
        return
    same = kept.check_call(
        TEXT,
        lambda: origin.check_text(workdir, exp.text, exp.rows, weights=config.masking.weights),
        f"text {exp.text.train.fingerprint[:12]}, tokenizer {exp.tokenizer.hash[:12]}, as kept",
    )
    yield same
    yield from _text(config, exp, say)

    plan = strategy, rates = _plan(config, exp)
    samples = _samples(config, exp, plan, workdir)
    overflow = sum(line.get("masking/overflow", 0.0) for line in lines)
    yield from _masking(config, exp, plan, samples, recorded=overflow)
    yield record.check_recorded_rate(
        lines,
        samples,
        lambda step: _asked(rates, step, strategy.copies),
        rows=config.train.batch_size,
        different=len(exp.rows) * config.masking.patterns or np.inf,
    )
    yield record.check_finite(lines, status.get("state", ""))
    yield record.check_plateau(lines, total_steps=exp.run.total_steps)
    yield record.check_possible(lines, own_loss=bool(config.train.loss))
    files = [same]
    for finding in examine_files(workdir):
        files.append(finding)
        yield finding
    bad = {f.name for f in files if f.verdict == "bad"}
    yield from examine_going_on(exp, workdir, bad=bad)
    result = read_json(file := workdir / "eval.json")
    if result is None and file.exists():
        words = "eval.json cannot be read; python eval.py --workdir writes it again"
        yield Finding("bad", "evaluation masks", words)
        return
    result = result or {}
    yield kept.check_hashes(result.get("masks"), _hashes(config, exp), file="eval.json")


def _refused(error: Exception) -> Finding:
    return Finding("bad", "text and weights", "; ".join(str(error).splitlines()))


# ---- text --------------------------------------------------------------------------------------


def _text(config: ConfigDict, exp: Experiment, say: Callable) -> Iterator[Finding]:
    for side, store in exp.text.stores.items():
        yield kept.check_call(
            f"store, {side}",
            lambda store=store: verify_store(store),
            f"{store.token_count:,} tokens, checksums as written",
        )
    counts = token_counts(exp.text.train)
    warning = unknown_warning(counts, exp.tokenizer)
    yield text.check_unknown(unknown_share(counts, exp.tokenizer), warning)
    filled = [exp.run.batch_at(step)["padding_mask"].mean() for step in _steps(exp)]
    yield text.check_padding(
        1 - float(np.mean(filled)),
        mode=config.data.rows,
        useful=lambda: _useful_shares(config, exp.text),
    )


def _useful_shares(config: ConfigDict, prepared: PreparedText) -> dict[str, float]:
    settings = {"length": config.data.length, "special": prepared.tokenizer.special}
    return {
        mode: useful_share(
            make_rows(prepared.train, mode=mode, cache_dir=cache_dir(config), **settings)
        )
        for mode in MODES
    }


# ---- masking -----------------------------------------------------------------------------------


def _samples(
    config: ConfigDict, exp: Experiment, plan: tuple[Strategy, Rates], workdir: Path | None = None
) -> list[Sample]:
    return take_samples(
        *plan,
        exp.run.batch_at,
        root=run_keys(config.seed).masks,
        steps=_steps(exp),
        table=_table(config, exp, workdir),
    )


def _steps(exp: Experiment) -> list[int]:
    """At the start, in the middle and at the end of the run."""
    total = exp.run.total_steps
    return sorted({0, total // 2, total - 1})


def _plan(config: ConfigDict, exp: Experiment) -> tuple[Strategy, Rates]:
    """How the run masks, and how much."""
    rates = training_rates(config, total_steps=exp.run.total_steps)
    return training_strategy(config, exp.text, rates), rates


def _table(config: ConfigDict, exp: Experiment, workdir: Path | None) -> Any:
    """The newest table of weights that adapt, where it can be read."""
    adapt = adaptive(config, exp.tokenizer.vocabulary_size)
    if adapt is None:
        return ()
    steps = saved_steps(workdir / "checkpoints") if workdir else []
    like = jax.eval_shape(lambda: init_table(adapt))
    try:
        found = saved.restore_mask_table(like, workdir, steps[-1]) if steps else init_table(adapt)
    except CheckpointError:  # told by the check of the checkpoint
        found = init_table(adapt)
    return jax.device_get(found)


def _asked(rates: Rates, step: int, times: int) -> float:
    """The share of selectable tokens to predict at a step, in all copies of a row."""
    if rates.predicted is not None:
        return rates.predicted
    return times * rates.mean(step)


def _masking(
    config: ConfigDict,
    exp: Experiment,
    plan: tuple[Strategy, Rates],
    samples: list[Sample],
    *,
    recorded: float,
) -> Iterator[Finding]:
    masking, (strategy, rates) = config.masking, plan
    spec, special = strategy.spec, exp.tokenizer.special
    no_text = np.zeros(spec.vocabulary_size, bool)
    no_text[[i for i in exp.tokenizer.special_ids if i != special.unk]] = True
    yield amounts.check_rate(samples, fit=spec.fit)
    if rates.predicted is not None:
        yield amounts.check_rate(samples, fit=spec.fit, of="corrupted")
    yield amounts.check_weighted(samples)
    yield amounts.check_rounding(samples)
    yield fates.check_split(samples, mask_id=special.mask, law=_law(spec, strategy.random_cdf))
    yield fates.check_touched(samples, special=no_text)
    yield fates.check_inserted(
        samples, mask_id=special.mask, special=no_text, random_ids=masking.random_ids
    )
    if samples[0].lengths is not None:
        yield fates.check_whole(samples, fit=spec.fit, unit=masking.unit)
    yield amounts.check_overflow(samples, recorded)
    yield amounts.check_slots(
        samples, slots=spec.mask_selection_length, needed=needed_slots(config, rates)
    )


def _law(spec: MaskingSpec, cdf: np.ndarray | None) -> np.ndarray:
    """`float64[V]`: how likely each id is as a random replacement."""
    ids, law = spec.replacement_ids, np.zeros(spec.vocabulary_size)
    begins = np.arange(len(ids)) / len(ids) if cdf is None else cdf / 2.0**32
    law[ids] = np.diff(begins, append=1.0)
    return law


# ---- what the run keeps ------------------------------------------------------------------------


def _hashes(config: ConfigDict, exp: Experiment) -> dict[str, str]:
    size = min(config.eval.max_examples, len(exp.heldout_rows))
    pad = exp.tokenizer.special.pad
    rows = eval_rows(exp.heldout_rows, size, config.eval.batch_size, pad)
    return mask_hashes(make_evaluation_masks(config, exp.tokenizer), rows)
