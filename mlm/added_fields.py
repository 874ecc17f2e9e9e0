"""What config fields stand for in a config from before they were there.

A run that began then goes on, is evaluated and replayed, and a forked config file trains, as they
did: what a field was added for is off in them. So a value here stays for good, also when the
default for new runs becomes another one.
"""

from collections.abc import Mapping

from ml_collections import ConfigDict
from ml_collections.config_dict import placeholder

ADDED = {
    "deterministic": False,
    "data.curriculum": "none",
    "data.curriculum_visits": 1,
    "data.drop_duplicates": False,
    "data.field": "text",
    "data.heldout_corpus": "",
    "data.new_tokens": (),
    "data.on_bad_bytes": "error",
    "data.overlap": 0,
    "data.shares": (),
    "data.source": "",
    "data.temperature": 1.0,
    "data.tokenizer_sample": 50_000_000,
    "eval.masks": (),
    "log.peak_flops": None,
    "masking.final_mask_token_rate": None,
    "masking.final_random_token_rate": None,
    "masking.final_rate": None,
    "masking.fit": "auto",
    "masking.lowest_rate": None,
    "masking.ngram": (1, 3),
    "masking.patterns": 0,
    "masking.pmi_count": 10,
    "masking.prediction_rate": None,
    "masking.random_ids_alpha": 1.0,
    "masking.schedule": "constant",
    "masking.span_longest": 10,
    "masking.span_p": 0.2,
    "masking.stages": 2,
    "masking.unit": "token",
    "masking.units": "",
    "masking.weights": "uniform",
    "masking.weights_alpha": 0.7,
    "masking.weights_decay": 0.99,
    "mesh.data": -1,
    "mesh.fsdp": 1,
    "mesh.slices": 1,
    "mesh.tensor": 1,
    "model.attention": "einsum",
    "model.custom": "",
    "model.epsilon": 1e-12,
    "model.init_from": "",
    "processes.heartbeat_timeout_seconds": 100,
    "processes.init_timeout_seconds": 300,
    "processes.shutdown_timeout_seconds": 30,
    "train.freeze": (),
    "train.loss": "",
    "train.max_nonfinite_in_a_row": 1,
    "train.remat": "none",
    "train.skip_spikes": False,
    "train.step_timeout_seconds": None,
}


def with_added(fields: Mapping[str, object]) -> dict[str, object]:
    """Fields by dotted name, with those that came later."""
    return ADDED | dict(fields)


def add_missing(config: ConfigDict) -> None:
    """Gives a config, in place, the fields of `ADDED` that it lacks."""
    with config.unlocked():
        for name, value in ADDED.items():
            section, _, leaf = name.rpartition(".")
            if section and section not in config:
                config[section] = ConfigDict()
            fields = config[section] if section else config
            if leaf not in fields:
                fields[leaf] = placeholder(float) if value is None else value
