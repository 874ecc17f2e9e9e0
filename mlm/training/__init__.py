"""Training: loss, optimizer, sharding, the jitted step, checkpoints and the loop.

Read `step` (one update), `freezing` (what no update reaches), `adaptive` (what masking may follow)
and `loop` (the whole run). The room receives a model's `apply` and a masking function; it
knows neither Flax nor a config.
"""

from mlm.lazy import lazy_exports

__all__ = [
    "Outcome",
    "Run",
    "TrainState",
    "make_init_state",
    "make_train_step",
    "masked_cross_entropy",
    "train",
]

__getattr__ = lazy_exports(
    __name__,
    {
        "Outcome": "loop",
        "Run": "loop",
        "TrainState": "step",
        "make_init_state": "step",
        "make_train_step": "step",
        "masked_cross_entropy": "loss",
        "train": "loop",
    },
)
