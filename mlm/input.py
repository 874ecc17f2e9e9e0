"""From `config.data` to prepared text, rows and batches, without jax."""

import dataclasses
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
from ml_collections import ConfigDict

from mlm.config import evaluation_masks
from mlm.data import (
    Rows,
    Units,
    difficulty_stages,
    epoch_counts,
    make_batch_at,
    make_epoch_order,
    make_rows,
    open_units,
    row_difficulty,
)
from mlm.errors import ConfigError
from mlm.masking_rules import BITMAPS
from mlm.preparing import (
    PreparedText,
    TextSettings,
    collocation_folder,
    default_cache_dir,
    local_folder,
    open_prepared,
    prepare,
)
from mlm.start import find_start
from mlm.text import Tokenizer


def text_settings(config: ConfigDict) -> TextSettings:
    """What decides the prepared text of a config."""
    names = {field.name for field in dataclasses.fields(TextSettings)} - {"spooled"}
    return TextSettings(**{name: config.data[name] for name in names})


def prepare_text(
    config: ConfigDict,
    *,
    folder: Path | None = None,
    documents: Iterable[str] | None = None,
    tokenizer: Tokenizer | None = None,
    say: Callable = print,
) -> PreparedText:
    """Tokenizer and token stores of `config.data`, or of `documents` in place of its corpus.

    Args:
      folder: where they go; by default the cache.
      documents: anything that yields texts.
      tokenizer: the one of `find_start(config)`, where that has been called already.
      say: called with a line on what is being done.

    Raises:
      DataError: they cannot be used, or do not go together.
    """
    data = config.data
    if data.store and (folder or documents is not None):
        other = f"--out {folder} would stay empty" if folder else "documents would not be read"
        raise ConfigError(
            f"data.store {data.store} is prepared already and {other}; give one of them"
        )
    tokenizer = tokenizer or find_start(config, say=say).tokenizer
    cache = cache_dir(config)
    if data.store:
        stored = local_folder(data.store, cache_dir=cache, say=say)
        return open_prepared(stored, tokenizer=tokenizer)
    return prepare(
        text_settings(config),
        folder,
        documents=documents,
        tokenizer=tokenizer,
        cache_dir=cache,
        say=say,
    )


def training_rows(config: ConfigDict, text: PreparedText, *, say: Callable = print) -> Rows:
    """The rows that are trained on; those of each source by themselves if they have shares.

    They have units where `masking.unit` needs a bitmap, see `unit_folder`.
    """
    data = config.data
    return make_rows(
        text.train,
        mode=data.rows,
        length=data.length,
        special=text.tokenizer.special,
        overlap=data.overlap,
        by_source=bool(data.shares) or data.temperature != 1.0,
        units=_units(config, text, "train", say),
        cache_dir=cache_dir(config),
    )


def heldout_rows(config: ConfigDict, text: PreparedText, *, say: Callable = print) -> Rows:
    """The rows that are evaluated on: the same ones whatever training rows are.

    They have units where `eval.masks`, or `masking.unit` if that is empty, needs a bitmap.
    """
    return make_rows(
        text.heldout,
        mode="document",
        length=config.eval.length,
        special=text.tokenizer.special,
        units=_units(config, text, "heldout", say),
    )


def unit_folder(
    config: ConfigDict, text: PreparedText, *, side: str = "train", say: Callable = print
) -> Path | None:
    """The folder whose `train` and `heldout` are the bitmaps that rows need; None: they need none.

    Of 'pmi' it is made now unless the cache has it; of 'external' it is `masking.units`.

    Args:
      side: 'train', for the rows that `masking.unit` masks, or 'heldout', where `eval.masks` may
        name another unit.
      say: called with a line on what is being done.

    Raises:
      ConfigError: both bitmaps are needed for the same rows, or `masking.units` is empty.
      DataError: the text has no words or no collocations.
    """
    unit = _bitmap_unit(config, side)
    if unit == "pmi":
        return collocation_folder(
            text, more_than=config.masking.pmi_count, cache_dir=cache_dir(config), say=say
        )
    if unit == "external" and not config.masking.units:
        raise ConfigError(
            "masking.units is empty and 'external' needs it; name the folder whose train and "
            "heldout mlm.data.save_units wrote"
        )
    return Path(config.masking.units) if unit else None


def _bitmap_unit(config: ConfigDict, side: str) -> str | None:
    """'pmi' or 'external', if rows of this side need it."""
    kinds = {config.masking.unit}
    if side == "heldout":
        kinds = {unit for unit, _ in evaluation_masks(config)}
    asked = kinds & set(BITMAPS)
    if len(asked) > 1:
        raise ConfigError(
            f"eval.masks {tuple(config.eval.masks)} has both 'pmi' and 'external', and a row holds "
            "the units of one; leave one of them out"
        )
    return next(iter(asked), None)


def _units(config: ConfigDict, text: PreparedText, side: str, say: Callable) -> Units | None:
    folder = unit_folder(config, text, side=side, say=say)
    return folder and open_units(folder / side, text.stores[side])


def batch_function(
    config: ConfigDict, rows: Rows, *, places: np.ndarray | None = None
) -> Callable[[int], dict]:
    """`batch_at(k)`, see `make_batch_at`, in the shares and the order that the config asks for."""
    data, stages = config.data, None
    if data.curriculum != "none":
        stages = difficulty_stages(row_difficulty(rows, data.curriculum))
    order = make_epoch_order(
        rows,
        seed=config.seed,
        counts=epoch_counts(rows, shares=data.shares, temperature=data.temperature),
        stages=stages,
        easy_visits=data.curriculum_visits,
    )
    return make_batch_at(
        rows,
        seed=config.seed,
        batch_size=config.train.batch_size,
        order=order,
        places=places,
    )


def cache_dir(config: ConfigDict) -> Path:
    """Where stores and packing plans are kept."""
    return Path(config.data.cache_dir) if config.data.cache_dir else default_cache_dir()
