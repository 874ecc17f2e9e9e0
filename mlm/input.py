"""From `config.data` to prepared text, rows and batches, without jax."""

import dataclasses
from collections.abc import Callable, Iterable
from pathlib import Path

from ml_collections import ConfigDict

from mlm.data import (
    Rows,
    difficulty_stages,
    epoch_counts,
    make_batch_at,
    make_epoch_order,
    make_rows,
    row_difficulty,
)
from mlm.errors import ConfigError
from mlm.preparing import (
    PreparedText,
    TextSettings,
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


def training_rows(config: ConfigDict, text: PreparedText) -> Rows:
    """The rows that are trained on; those of each source by themselves if they have shares."""
    data = config.data
    return make_rows(
        text.train,
        mode=data.rows,
        length=data.length,
        special=text.tokenizer.special,
        overlap=data.overlap,
        by_source=bool(data.shares) or data.temperature != 1.0,
        cache_dir=cache_dir(config),
    )


def heldout_rows(config: ConfigDict, text: PreparedText) -> Rows:
    """The rows that are evaluated on: the same ones whatever training rows are."""
    return make_rows(
        text.heldout,
        mode="document",
        length=config.eval.length,
        special=text.tokenizer.special,
    )


def batch_function(
    config: ConfigDict, rows: Rows, *, process_index: int, process_count: int
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
        process_index=process_index,
        process_count=process_count,
    )


def cache_dir(config: ConfigDict) -> Path:
    """Where stores and packing plans are kept."""
    return Path(config.data.cache_dir) if config.data.cache_dir else default_cache_dir()
