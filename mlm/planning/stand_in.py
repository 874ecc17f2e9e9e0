"""What stands in for text that is not prepared: a plan needs its shapes, not its words."""

from collections.abc import Callable
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from mlm.data.store import TokenStore, smallest_dtype
from mlm.input import prepare_text
from mlm.masking_rules import BITMAPS
from mlm.preparing import PreparedText
from mlm.rules import validate_sizes
from mlm.start import find_start, with_sizes_of
from mlm.text import Tokenizer
from mlm.text.tokenizer import SPECIAL_TOKENS, bert_tokenizer
from mlm.training.step import Batch


def sized(config: ConfigDict, *, say: Callable) -> tuple[ConfigDict, PreparedText]:
    """The config with the sizes of the weights that it starts from, and its store or a stand-in.

    Only a tokenizer, a store or weights that the config names are read.

    Raises:
      ConfigError: the config does not fit these sizes.
      DataError, CheckpointError: what it names cannot be read.
    """
    start = find_start(config, say=say)
    config = with_sizes_of(start, config, say=say)
    validate_sizes(config)
    if config.data.store:
        return config, prepare_text(config, tokenizer=start.tokenizer, say=say)
    return config, stand_in_text(start.tokenizer, config.data.vocabulary_size)


def stand_in_text(tokenizer: Tokenizer | None, vocabulary_size: int) -> PreparedText:
    """A text in which every id stands once.

    Args:
      tokenizer: reads it; None: one with the special tokens and `vocabulary_size` ids, as one that
        is trained will have.
    """
    tokenizer = tokenizer or _stand_in_tokenizer(vocabulary_size)
    size = tokenizer.vocabulary_size
    tokens = np.arange(size, dtype=smallest_dtype(size))
    meta = {"documents": 1, "tokens": size, "vocabulary_size": size, "sources": []}
    store = TokenStore(Path(), tokens, np.array([size]), meta)
    return PreparedText(Path(), tokenizer, store, store)


def _stand_in_tokenizer(size: int) -> Tokenizer:
    rest = (f"##{i}" if i % 2 else str(i) for i in range(size - len(SPECIAL_TOKENS)))
    vocabulary = {piece: i for i, piece in enumerate((*SPECIAL_TOKENS, *rest))}
    return bert_tokenizer(vocabulary, lowercase=True, source="of a plan")


def abstract_batch(config: ConfigDict) -> Batch:
    """Shapes and dtypes of the global batch that a run of this config trains on."""
    rows, length = config.train.batch_size, config.data.length
    of_tokens = {"token_ids": jnp.int32, "padding_mask": jnp.bool_}
    if config.data.rows == "packed":
        of_tokens |= {"segment_ids": jnp.int32, "position_ids": jnp.int32}
    if config.masking.unit in BITMAPS:
        of_tokens["unit_starts"] = jnp.bool_
    batch = {name: jax.ShapeDtypeStruct((rows, length), t) for name, t in of_tokens.items()}
    of_rows = ("example_ids", "visits")
    return batch | {name: jax.ShapeDtypeStruct((rows,), jnp.int32) for name in of_rows}
