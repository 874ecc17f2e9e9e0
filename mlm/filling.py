"""`python -m mlm fill-mask`: any model that can be loaded, any number of texts."""

import json
import math
import sys
from collections.abc import Iterator, Sequence

import jax

from mlm.errors import CheckpointError
from mlm.evaluation.fill_mask import Guess, check_prompt, make_fill_mask
from mlm.network import make_network
from mlm.pretrained import load_pretrained, need_tokenizer

ROUND = 16  # texts are padded to a multiple of it, so that few lengths are compiled


def fill_lines(
    model: str, texts: Sequence[str], *, top_k: int = 5, as_json: bool = False
) -> Iterator[str]:
    """Lines for people, or a JSON object per text, as each text is done.

    Raises:
      ConfigError: a text has no [MASK] or is too long for the model; none is filled then.
      CheckpointError, DataError: the model or its tokenizer cannot be loaded.
    """
    found = load_pretrained(model, key=jax.random.key(0), cast=True, custom=True, say=_aside)
    limit, tokenizer = found.config.max_length, need_tokenizer(found)
    longest = max(len(check_prompt(tokenizer, text, limit)) for text in texts)
    apply = make_network(found.config, found.custom).apply
    length = min(limit, -(-longest // ROUND) * ROUND)
    fill = make_fill_mask(apply, tokenizer, length=length)
    for text in texts:
        guesses = fill(found.params, text, top_k)
        _refuse_nan(model, guesses)
        if as_json:
            masks = [[guess._asdict() for guess in mask] for mask in guesses]
            yield json.dumps({"text": text, "masks": masks}, ensure_ascii=False)
        else:
            yield text
            yield from (f"    {_line(mask)}" for mask in guesses)


def _refuse_nan(model: str, guesses: list[list[Guess]]) -> None:
    """JSON has no word for it, and people would read it as an answer."""
    if any(math.isnan(guess.probability) for mask in guesses for guess in mask):
        raise CheckpointError(
            f"{model} gives probabilities that are not numbers: its weights are damaged or "
            "diverged; take another checkpoint"
        )


def _line(mask: Sequence[Guess]) -> str:
    return "   ".join(f"{guess.token} {guess.probability:.3f}" for guess in mask)


def _aside(line: str) -> None:
    """What is no result goes to standard error, so that the output can be piped."""
    print(line, file=sys.stderr)
