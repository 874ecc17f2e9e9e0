"""What a model puts in the place of each [MASK] of a text."""

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from mlm.errors import ConfigError
from mlm.text import Tokenizer


class Guess(NamedTuple):
    """One candidate for a [MASK]."""

    token: str
    probability: float


def make_fill_mask(
    apply: Callable[..., jax.Array],
    tokenizer: Tokenizer,
    *,
    length: int,
    out: jax.sharding.Sharding | None = None,
) -> Callable[..., list[list[Guess]]]:
    """`fill(params, text, top_k=5)`: for each [MASK] of the text its most probable tokens.

    Texts are padded to one length, so that all share one compiled function.

    Args:
      apply: the model.
      tokenizer: the one that the model was trained with.
      length: L, the longest text in tokens, [CLS] and [SEP] included.
      out: the sharding under which every process can read the probabilities, if params are split.
    """

    @functools.partial(jax.jit, out_shardings=out)
    def probabilities(params, batch):
        return jax.nn.softmax(apply(params, batch), axis=-1)

    def fill(params: dict, text: str, top_k: int = 5) -> list[list[Guess]]:
        batch, masks = _encode(tokenizer, text, length)
        # A model may have rows of embeddings beyond the vocabulary, to fill up a round number.
        known = slice(tokenizer.vocabulary_size)
        probs = np.asarray(probabilities(params, batch))[0, :masks, known]
        best = np.argsort(-probs, axis=-1, kind="stable")[:, :top_k]
        return [
            [Guess(tokenizer.token(i), float(p[i])) for i in ids]
            for p, ids in zip(probs, best.tolist(), strict=True)
        ]

    return fill


def check_prompt(tokenizer: Tokenizer, text: str, length: int) -> list[int]:
    """The ids of the text, [CLS] and [SEP] included.

    Raises:
      ConfigError: the text has no [MASK], or more than `length` tokens.
    """
    special = tokenizer.special
    ids = [special.cls, *tokenizer.encode_prompt(text), special.sep]
    if special.mask not in ids:
        raise ConfigError(f"{text!r} has no [MASK]; write [MASK] where a token is to be filled in")
    if len(ids) > length:
        raise ConfigError(f"{text[:40]!r}... has {len(ids)} tokens; the model reads {length}")
    return ids


def _encode(tokenizer: Tokenizer, text: str, length: int) -> tuple[dict[str, jax.Array], int]:
    """The text as a batch of one row, and its number of [MASK]s."""
    special = tokenizer.special
    ids = check_prompt(tokenizer, text, length)
    positions = [i for i, token in enumerate(ids) if token == special.mask]
    row = np.full((1, length), special.pad, np.int32)
    row[0, : len(ids)] = ids
    slots = np.zeros((1, length), np.int32)
    slots[0, : len(positions)] = positions
    batch = {
        "token_ids": jnp.asarray(row),
        "padding_mask": jnp.arange(length)[None] < len(ids),
        "mask_positions": jnp.asarray(slots),
    }
    return batch, len(positions)
