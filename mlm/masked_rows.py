"""What masks made of rows, for those who look at them: units, all that is corrupted, places.

Masks come from `mlm.strategy`; this says what one sees of them. L length, P mask slots.
"""

import dataclasses
import hashlib
from collections.abc import Mapping

import jax
import numpy as np

from mlm.evaluation.frozen import masked_places
from mlm.masking.transform import selectable_positions
from mlm.masking.units import Units, make_units
from mlm.strategy import Strategy, mask_keys
from mlm.training.step import Batch


def batch_units(batch: Batch, strategy: Strategy, *, root: jax.Array) -> Units:
    """The units that `mask_batch` selects from."""
    ids, keys = batch["token_ids"], mask_keys(batch, strategy, root=root)
    selectable = selectable_positions(ids, strategy.spec)
    return make_units(selectable, strategy.starts(keys, ids, selectable, batch))


def predicting_all(strategy: Strategy) -> Strategy:
    """The same selection with a slot for each token of it; to be drawn without a prediction rate.

    Where fewer tokens are predicted than corrupted, it tells which are corrupted.
    """
    slots = strategy.spec.corruption_slots
    spec = dataclasses.replace(strategy.spec, mask_selection_length=slots, corruption_length=None)
    return dataclasses.replace(strategy, spec=spec)


def slot_places(masked: Mapping[str, np.ndarray]) -> np.ndarray:
    """`bool[B, L]`: where the filled mask slots of a masked batch stand."""
    places = np.zeros(masked["token_ids"].shape, bool)
    row, slot = np.nonzero(masked["mask_weights"])
    places[row, masked["mask_positions"][row, slot]] = True
    return places


def mask_hash(documents: np.ndarray, offsets: np.ndarray, masked: Mapping[str, np.ndarray]) -> str:
    """sha256 of every predicted (document, offset, label), as evaluations have it.

    Args:
      documents, offsets: `int64[B, L]`, where each token of the masked batch comes from.
    """
    slots = (masked[name] for name in ("mask_positions", "mask_ids", "mask_weights"))
    return hashlib.sha256(masked_places(documents, offsets, *slots)).hexdigest()
