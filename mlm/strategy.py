"""How batches are masked: a strategy, and the parts of one that a config names.

    units -> weights -> `mask_tokens` -> a masked batch

`masks` makes of it the masks of training and of evaluation. B batch, L length, V vocabulary.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from mlm.data import token_counts
from mlm.errors import ConfigError, DataError
from mlm.masking import MaskingSpec, mask_tokens, row_keys
from mlm.masking.keys import Stream
from mlm.masking.selection import row_rates
from mlm.masking.tables import frequency_weights, random_id_cdf, read_weights
from mlm.masking.transform import selectable_positions
from mlm.masking.units import ngram_starts, span_starts, word_starts
from mlm.masking_rules import ADAPTIVE, BITMAPS
from mlm.own import is_array, kind_of, load_function, reason
from mlm.preparing import PreparedText
from mlm.text import Tokenizer, continuations
from mlm.training.adaptive import table_weights
from mlm.training.step import Batch, MaskCounts

TRIED_ROWS = 3  # of the batch that a function of the user is tried on
# starts(keys, token_ids, selectable, batch) -> bool[B, L], or None where each token is a unit
Starts = Callable[..., jax.Array | None]
# weights(keys, token_ids, table) -> float32[V], float32[B, L], or None where all weigh the same
Weights = Callable[..., jax.Array | None]


@dataclasses.dataclass(frozen=True, eq=False)
class Strategy:
    """How a batch is masked, but for the rates.

    Attributes:
      spec: static settings.
      starts: where units begin.
      weights: how readily each id or token is selected.
      random_cdf: `uint32[R]`, the law of random replacements; None: uniform.
      copies: of each row, with disjoint selections.
      patterns: masks that a row's visits have in turn; 0: each visit has new ones.
    """

    spec: MaskingSpec
    starts: Starts = lambda keys, ids, selectable, batch: None
    weights: Weights = lambda keys, ids, table: None
    random_cdf: np.ndarray | None = None
    copies: int = 1
    patterns: int = 0


def mask_batch(
    batch: Batch,
    strategy: Strategy,
    *,
    root: jax.Array,
    rate: jax.Array | float,
    lowest: float | None = None,
    table: Any = (),
    **rates: Any,
) -> tuple[Batch, MaskCounts]:
    """The batch with corrupted ids and mask slots, and what masking met.

    Args:
      batch: rows; where the strategy has copies, every field of the result has those of all.
      strategy: how.
      root: the key of all masks.
      rate: the share of selectable tokens that is selected.
      lowest: rows draw their rate evenly between it and `rate`; None: all have `rate`.
      table: what adaptive weights are made from.
      rates: the split and the prediction rate of `mask_tokens`.
    """
    ids, keys = batch["token_ids"], mask_keys(batch, strategy, root=root)
    if lowest is not None:
        rate = row_rates(keys, jnp.float32(lowest), rate)
    selectable = selectable_positions(ids, strategy.spec)
    masked = mask_tokens(
        keys,
        ids,
        strategy.spec,
        rate=rate,
        unit_starts=strategy.starts(keys, ids, selectable, batch),
        weights=strategy.weights(keys, ids, table),
        random_cdf=strategy.random_cdf,
        copies=strategy.copies,
        **rates,
    )._asdict()
    overflow, corrupted = (jnp.sum(masked.pop(n)) for n in ("overflow", "corrupted"))
    counts = MaskCounts(
        selectable=jnp.sum(selectable).astype(jnp.float32),
        overflow=overflow.astype(jnp.float32),
        corrupted=corrupted.astype(jnp.float32) / strategy.copies,
    )
    rows = {name: values for name, values in batch.items() if name != "unit_starts"}
    if strategy.copies > 1:
        rows = {name: jnp.repeat(values, strategy.copies, axis=0) for name, values in rows.items()}
    return {**rows, **masked}, counts


def mask_keys(batch: Batch, strategy: Strategy, *, root: jax.Array) -> jax.Array:
    """`key[B]` of the batch's masks: a visit's own, or those of its pattern."""
    visits = batch["visits"]
    if strategy.patterns:
        visits = visits % strategy.patterns
    return row_keys(root, visits, batch["example_ids"])


def make_starts(config: ConfigDict, unit: str, tokenizer: Tokenizer) -> Starts:
    """Where units of this kind begin.

    Raises:
      ConfigError: a function of the user cannot be used.
      DataError: the tokenizer does not tell the words that these units are made of.
    """
    if unit == "token":
        return lambda keys, ids, selectable, batch: None
    if unit in BITMAPS:
        return lambda keys, ids, selectable, batch: batch["unit_starts"]
    if ":" in unit:
        own = _own_function(config, "unit", tokenizer, wanted=(jnp.bool_, "bool[B, L]"))
        return lambda keys, ids, selectable, batch: own(keys, ids)
    m, table = config.masking, continuations(tokenizer)
    if unit == "word":
        return lambda keys, ids, selectable, batch: word_starts(ids, table)
    if unit == "span":
        return lambda keys, ids, selectable, batch: span_starts(
            keys, word_starts(ids, table), selectable, p=m.span_p, longest=m.span_longest
        )
    shortest, longest = m.ngram
    return lambda keys, ids, selectable, batch: ngram_starts(
        keys, word_starts(ids, table), selectable, shortest=shortest, longest=longest
    )


def make_weights(config: ConfigDict, text: PreparedText, spec: MaskingSpec) -> Weights:
    """The weights of `masking.weights`.

    Raises:
      ConfigError: a file or a function of the user cannot be used.
    """
    kind = config.masking.weights
    if kind == "uniform":
        return lambda keys, ids, table: None
    if kind in ADAPTIVE:
        return lambda keys, ids, table: table_weights(table, kind)
    if ":" in kind:
        wanted = jnp.floating, "float32[B, L] or float32[V]"
        own = _own_function(config, "weights", text.tokenizer, wanted=wanted, per_id=True)
        return lambda keys, ids, table: own(keys, ids)
    if kind == "frequency":
        fixed = frequency_weights(token_counts(text.train), config.masking.weights_alpha)
    else:
        fixed = _weights_of_file(kind, spec)
    return lambda keys, ids, table: jnp.asarray(fixed)


def _weights_of_file(path: str, spec: MaskingSpec) -> np.ndarray:
    selectable = np.ones(spec.vocabulary_size, bool)
    selectable[list(spec.unselectable_token_ids)] = False
    try:
        return read_weights(path, spec.vocabulary_size, selectable)
    except ValueError as error:
        raise ConfigError(f"masking.{error}") from error


def make_random_cdf(config: ConfigDict, text: PreparedText, spec: MaskingSpec) -> np.ndarray | None:
    """The law of `masking.random_ids`, None where it is uniform."""
    if config.masking.random_ids != "unigram":
        return None
    counts = token_counts(text.train)
    return random_id_cdf(counts, spec.replacement_ids, config.masking.random_ids_alpha)


def _own_function(
    config: ConfigDict,
    field: str,
    tokenizer: Tokenizer,
    *,
    wanted: tuple[type, str],
    per_id: bool = False,
) -> Callable[[jax.Array, jax.Array], jax.Array]:
    """`call(keys, token_ids)` of the function that `masking.FIELD` names.

    What it gives is checked by shapes alone, for rows of training and of evaluation, before
    anything is compiled. It is told that each token is a word if the tokenizer does not tell words.

    Args:
      wanted: the dtype of what it must give, and that in words.
      per_id: whether `[V]` will do as well as `[B, L]`.

    Raises:
      ConfigError: there is no such function, it fails, or gives something else.
    """
    name = config.masking[field]
    function = load_function(f"masking.{field}", name)
    stream = Stream.OWN_UNITS if field == "unit" else Stream.OWN_WEIGHTS
    try:
        table = continuations(tokenizer)
    except DataError:  # that names functions as the way out
        table = np.zeros(tokenizer.vocabulary_size, bool)

    def call(keys: jax.Array, ids: jax.Array) -> jax.Array:
        return function(_own_keys(keys, stream), ids, word_starts(ids, table))

    for length in sorted({config.data.length, config.eval.length}):
        shapes = [(TRIED_ROWS, length), *([(tokenizer.vocabulary_size,)] if per_id else [])]
        try:
            _check_result(jax.eval_shape(call, *_tried_on(length)), wanted[0], shapes, length)
        except Exception as error:  # whatever a function of the user's does
            raise ConfigError(
                f"masking.{field} is {name!r}: {reason(error)}; give a function (keys key[B], "
                f"token_ids int32[B, L], words bool[B, L]) -> {wanted[1]}"
            ) from error
    return call


def _tried_on(length: int) -> tuple[jax.ShapeDtypeStruct, jax.ShapeDtypeStruct]:
    """Keys and ids of a batch, as shapes."""
    keys = jax.random.split(jax.random.key(0, impl="threefry2x32"), TRIED_ROWS)
    ids = jax.ShapeDtypeStruct((TRIED_ROWS, length), jnp.int32)
    return jax.ShapeDtypeStruct(keys.shape, keys.dtype), ids


def _check_result(found: Any, dtype: type, shapes: list[tuple[int, ...]], length: int) -> None:
    """Raises ValueError unless what a function gave is an array of this kind."""
    if is_array(found) and jnp.issubdtype(found.dtype, dtype) and found.shape in shapes:
        return
    raise ValueError(f"it gives {kind_of(found)} for token_ids int32{[TRIED_ROWS, length]}")


def _own_keys(keys: jax.Array, stream: Stream) -> jax.Array:
    """`key[B]` for a function of the user, whose draws no other draw repeats."""
    return jax.vmap(lambda key: jax.random.fold_in(key, stream))(keys)
