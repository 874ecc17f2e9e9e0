"""What a reader of checkpoints gives."""

import dataclasses

from mlm.models.distilbert import DistilBertConfig


@dataclasses.dataclass(frozen=True)
class Loaded:
    """A whole model from a file format of others.

    Attributes:
      config: the architecture.
      params: nested dict of NumPy `float32`, as `create` makes them.
      notes: what was dropped or made up, a line each, for people.
    """

    config: DistilBertConfig
    params: dict
    notes: tuple[str, ...]
