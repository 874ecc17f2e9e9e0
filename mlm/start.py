"""What a run starts from: pretrained weights, a given tokenizer, new tokens, or nothing at all.

Imports jax only when there are weights to read.
"""

import dataclasses
import hashlib
from collections.abc import Callable
from typing import TYPE_CHECKING

from ml_collections import ConfigDict

from mlm.config import ARCHITECTURE, with_architecture
from mlm.errors import CheckpointError, DataError
from mlm.text import Tokenizer, extend_tokenizer, load_tokenizer

if TYPE_CHECKING:
    from mlm.models import DistilBertConfig


@dataclasses.dataclass(frozen=True)
class Start:
    """What a run starts from.

    Attributes:
      tokenizer: reads the text, new tokens included; None: one is trained on the text.
      model: the architecture that the weights have; None: the config's.
      params: NumPy arrays; None: random ones, or those of a checkpoint of the run itself.
      facts: where the weights come from, for `init.json`; None: there are none.
    """

    tokenizer: Tokenizer | None = None
    model: "DistilBertConfig | None" = None
    params: dict | None = None
    facts: dict[str, object] | None = None


def find_start(config: ConfigDict, *, say: Callable = print) -> Start:
    """What `model.init_from`, `data.tokenizer` and `data.new_tokens` name.

    Pretrained weights bring their tokenizer, and none is ever trained for them.

    Raises:
      DataError: a tokenizer or a new token cannot be used, or `data.tokenizer` has not the
        vocabulary of the weights.
      CheckpointError: the weights cannot be used.
    """
    data = config.data
    given = load_tokenizer(data.tokenizer, lowercase=data.lowercase) if data.tokenizer else None
    if config.model.init_from:
        return _pretrained_start(config, given, say)
    return Start(given and extend_tokenizer(given, data.new_tokens)[0])


def _pretrained_start(config: ConfigDict, given: Tokenizer | None, say: Callable) -> Start:
    import jax

    from mlm.models import extend_vocabulary
    from mlm.pretrained import load_pretrained, need_tokenizer

    place = config.model.init_from
    # The key of a new model: a checkpoint without its head gets a random one.
    key = jax.random.fold_in(jax.random.key(config.seed, impl="threefry2x32"), 0)
    found = load_pretrained(place, key=key, say=say)
    own = need_tokenizer(found)
    if own.vocabulary_size != found.config.vocabulary_size:
        raise CheckpointError(
            f"model.init_from {place} has {found.config.vocabulary_size} rows of embeddings and a "
            f"tokenizer of {own.vocabulary_size} ids; give it the tokenizer that it was made with"
        )
    if given is not None:
        _check_same_ids(given, own, config)
    tokenizer, pieces = extend_tokenizer(given or own, config.data.new_tokens)
    model, params = extend_vocabulary(found.config, found.params, pieces)
    facts = {
        "place": place,
        "kind": found.kind,
        "revision": found.revision,
        "notes": list(found.notes),
        "digest": params_digest(found.params),
    }
    return Start(tokenizer, model, params, facts)


def _check_same_ids(given: Tokenizer, own: Tokenizer, config: ConfigDict) -> None:
    """Normalisation may differ, as its user wants it to; ids mean rows of the embedding."""
    ours, theirs = (t.backend.get_vocab(with_added_tokens=True) for t in (given, own))
    if ours == theirs:
        return
    piece, _ = min(ours.items() ^ theirs.items(), key=lambda item: (item[1], item[0]))
    ids = [f"{v.get(piece, 'none')} of {len(v)}" for v in (ours, theirs)]
    raise DataError(
        f"data.tokenizer {config.data.tokenizer} ({given.hash[:12]}) has not the vocabulary of "
        f"model.init_from {config.model.init_from} ({own.hash[:12]}): the id of {piece!r} is "
        f"{ids[0]} in the first, {ids[1]} in the second; leave data.tokenizer empty"
    )


def with_sizes_of(start: Start, config: ConfigDict, *, say: Callable = print) -> ConfigDict:
    """The config with the sizes of the weights, if there are any; tells which it had otherwise."""
    if start.model is None:
        return config
    sized = with_architecture(config, dataclasses.asdict(start.model))
    changed = [
        f"model.{name} {sized.model[name]} (not {config.model[name]})"
        for name in ARCHITECTURE
        if sized.model[name] != config.model[name]
    ]
    if changed:
        say(f"as in {config.model.init_from}: {', '.join(changed)}")
    return sized


def params_digest(params: dict) -> str:
    """sha256 of all arrays with their paths and shapes, in the order of the paths."""
    import jax

    from mlm.training.freezing import leaf_paths

    total = hashlib.sha256()
    leaves = dict(zip(leaf_paths(params), jax.tree.leaves(params), strict=True))
    for path, leaf in sorted(leaves.items()):
        total.update(f"{path} {leaf.dtype} {leaf.shape}\n".encode())
        total.update(leaf.tobytes())
    return total.hexdigest()
