import subprocess
import sys

import pytest
from ml_collections import ConfigDict

from mlm.config import (
    apply_overrides,
    duration,
    flat,
    from_flat,
    load_config,
    model_fields,
    with_architecture,
)
from mlm.errors import ConfigError
from mlm.rules import validate, validate_sizes

CONFIGS = (
    "default",
    "quickstart",
    "distilbert_base",
    "adapt_to_domain",
    "pod_v5e_256",
    "gpu_node_8",
)


@pytest.fixture
def config():
    return load_config("configs/default.py")


@pytest.mark.parametrize("name", CONFIGS)
def test_every_config_loads_locked_and_valid(name):
    config = load_config(f"configs/{name}.py")
    validate(config)
    assert config.is_locked


def test_overrides_are_typed_by_their_field(config):
    apply_overrides(
        config,
        {
            "masking.rate": "1",
            "data.lowercase": "false",
            "data.corpus": "12",
            "masking.mask_selection_length": "30",
            "eval.fill": "['a [MASK]']",
        },
    )
    assert config.masking.rate == 1.0 and type(config.masking.rate) is float
    assert config.data.lowercase is False and config.data.corpus == "12"
    assert config.masking.mask_selection_length == 30 and config.eval.fill == ("a [MASK]",)
    apply_overrides(config, {"masking.mask_selection_length": None, "eval.fill": "one [MASK]."})
    assert config.eval.fill == ("one [MASK].",)
    assert config.masking.mask_selection_length is None


def test_all_wrong_overrides_are_reported_at_once(config):
    wrong = {
        "masking.rat": 0.3,
        "rate": 0.3,
        "nonsense": 1,
        "mesh": 8,
        "train.batch_size": "many",
        "model.layers": 1.5,
        "seed": True,
        "masking.rate": None,
    }
    with pytest.raises(ConfigError) as error:
        apply_overrides(config, wrong)
    assert error.value.problems == (
        "config has no field masking.rat; did you mean masking.rate?",
        "config has no field rate; did you mean masking.rate?",
        "config has no field nonsense; known are checkpoint.*, data.*, deterministic, eval.*, "
        "log.*, masking.*, mesh.*, model.*, optimizer.*, processes.*, seed, train.*",
        "mesh has fields of its own; set one of them, as mesh.FIELD=VALUE",
        "train.batch_size is 'many', of type str; it needs int",
        "model.layers is 1.5, of type float; it needs int",
        "seed is True, of type bool; it needs int",
        "masking.rate is None, of type NoneType; it needs float",
    )


def test_arguments_of_the_optimizer_are_free(config):
    apply_overrides(config, {"optimizer.args.momentum": "0.9", "optimizer.args.b1": "None"})
    assert config.optimizer.args.momentum == 0.9 and config.optimizer.args.b1 is None
    apply_overrides(config, {"optimizer.args.b2": "abc"})  # the optimizer will complain
    assert config.optimizer.args.b2 == "abc"
    validate(config)


def test_text_fields_are_taken_as_they_are_typed(config):
    apply_overrides(config, {"data.corpus": "0.10", "data.cache_dir": "None", "data.store": "1e3"})
    assert (config.data.corpus, config.data.cache_dir, config.data.store) == ("0.10", "None", "1e3")


def test_a_misspelt_field_in_a_config_file_is_found(config):
    with config.unlocked():
        config.masking.rat = 0.3
    with pytest.raises(ConfigError, match="no field masking.rat; did you mean masking.rate"):
        validate(config)


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        ({"masking.rate": 1.5}, "masking.rate is 1.5; it must be between 0 and 1"),
        ({"masking.rate": float("nan")}, "masking.rate is nan; give a finite number"),
        ({"model.heads": 5}, "model.heads 5 does not divide model.width 256"),
        ({"data.length": 1024}, "data.length 1024 is above the position table"),
        ({"eval.length": 1024}, "eval.length 1024 is above the position table"),
        ({"data.rows": "pack"}, "data.rows is 'pack'; choose one of packed, blocks, document"),
        ({"train.batch_size": 0}, "train.batch_size is 0; it must be above 0"),
        (
            {"processes.init_timeout_seconds": 10**12},
            "init_timeout_seconds is 1000000000000; it must be above 0 and at most 1000000",
        ),
        ({"processes.shutdown_timeout_seconds": 0}, "shutdown_timeout_seconds is 0; it must be"),
        ({"train.batch_size": 10, "train.accumulation": 4}, "10 is not divisible by .*4"),
        ({"data.cache_dir": "gs://b/c"}, "data.cache_dir is 'gs://b/c'; give a folder of this"),
        ({"train.loss": "focal"}, "train.loss is 'focal'; write module:function"),
        ({"model.custom": "mine"}, "model.custom is 'mine'; write module:function"),
        ({"seed": -1}, "seed is -1; it must be from 0 to"),
        ({"seed": 2**32}, "seed is 4294967296; it must be from 0 to"),
        ({"data.heldout_fraction": 0.0}, "data.heldout_fraction is 0.0; it must be"),
        ({"masking.mask_token_rate": 0.95}, "add up to more than 1"),
        (
            {"masking.mask_selection_length": 5},
            "5 is too small: data.length 128 at .* needs 20",
        ),
        ({"train.total_percent": 5}, "train.total_percent has no meaning"),
        ({"optimizer.warmup_percent": 600}, "warmup_percent is 600.0; it must be at most 100"),
        ({"data.length": -5, "masking.mask_selection_length": 3}, "data.length is -5"),
        ({"eval.fill": ("no mask",)}, r"eval.fill has 'no mask', without \[MASK\]"),
        ({"eval.every_steps": 0}, "eval.every_steps is 0; it must be above 0"),
        ({"optimizer.warmup_percent": "x"}, "optimizer.warmup_percent is 'x'"),
        (
            {"train.freeze": ("head(",)},
            r"train.freeze has 'head\(', which is no regular expression",
        ),
        ({"train.freeze": (3,)}, "train.freeze has 3, which is no regular expression"),
        ({"data.new_tokens": ("a", 1), "data.tokenizer": "x"}, "data.new_tokens has 1; give words"),
        ({"data.new_tokens": ("cat",)}, "data.new_tokens has 1 words and no vocabulary"),
    ],
)
def test_what_cannot_work_is_named(config, overrides, words):
    with pytest.raises(ConfigError, match=words):
        apply_overrides(config, overrides)
        validate(config)


def test_sizes_are_looked_at_when_they_are_known(config):
    sizes = {"data.length": 600, "model.heads": 5, "model.init_from": "place"}
    apply_overrides(config, sizes)
    validate(config)
    sized = with_architecture(config, {**config.model, "layers": 3, "heads": 4, "width": 64})
    assert (sized.model.layers, sized.model.heads, sized.model.init_from) == (3, 4, "place")
    assert config.model.layers == 6 and sized.is_locked
    with pytest.raises(ConfigError) as error:
        validate_sizes(sized)
    assert str(error.value) == (
        "data.length 600 is above the position table, model.max_length 512; shorten the rows or "
        "start from other weights than place"
    )
    assert "init_from" not in model_fields(sized) and model_fields(sized)["width"] == 64


def test_a_config_that_lacks_fields_is_told_which(config):
    with config.unlocked():
        del config.masking.count, config.eval.seed
    with pytest.raises(ConfigError) as error:
        validate(config)
    assert [p.split(";")[0] for p in error.value.problems] == [
        "the config lacks eval.seed",
        "the config lacks masking.count",
    ]


def test_all_problems_of_a_config_are_reported_at_once(config):
    apply_overrides(config, {"masking.rate": -1.0, "model.heads": 7, "data.document": "page"})
    with pytest.raises(ConfigError) as error:
        validate(config)
    assert len(error.value.problems) == 3


def test_a_duration_may_change_its_suffix(config):
    apply_overrides(config, {"train.total_epochs": "3"})
    assert "total_steps" not in config.train and config.train.total_epochs == 3.0
    validate(config)
    assert duration(config.train, "total", epoch=100, batch_size=8) == 38
    apply_overrides(config, {"log.every_percent": "1", "eval.every_epochs": "0.5"})
    validate(config)


@pytest.mark.parametrize(
    ("field", "value", "steps"),
    [
        ("steps", 7, 7),
        ("epochs", 0.5, 7),
        ("examples", 17, 3),
        ("percent", 5, 10),
        ("percent", 0, 1),
    ],
)
def test_durations_in_steps(field, value, steps):
    section = ConfigDict({f"every_{field}": value})
    assert duration(section, "every", epoch=100, batch_size=8, total=200) == steps


def test_a_flat_config_comes_back(config):
    again = from_flat(flat(config))
    assert flat(again) == flat(config)
    assert again.optimizer.args.b2 == 0.98
    with config.unlocked():
        config.optimizer.args = ConfigDict()
    assert from_flat(flat(config)).optimizer.args.to_dict() == {}


def test_a_missing_file_and_a_broken_one(tmp_path):
    with pytest.raises(ConfigError, match="no such file"):
        load_config(str(tmp_path / "none.py"))
    nothing = tmp_path / "nothing.py"
    nothing.write_text("def get_config():\n    pass\n")
    with pytest.raises(ConfigError, match="TypeError: get_config.. returned NoneType"):
        load_config(str(nothing))
    broken = tmp_path / "broken.py"
    broken.write_text("def get_config():\n    return unknown\n")
    with pytest.raises(ConfigError, match="NameError: name 'unknown' is not defined"):
        load_config(str(broken))


def test_importing_the_package_and_checking_a_config_needs_no_jax():
    code = (
        "import sys, mlm, mlm.config, mlm.rules, mlm.cli, mlm.masking, mlm.training, train, eval\n"
        "config = mlm.config.load_config('configs/quickstart.py'); mlm.rules.validate(config)\n"
        "sys.exit('jax' in sys.modules or 'flax' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
