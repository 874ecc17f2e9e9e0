"""Rows 42-44: what a command line or a config cannot mean, told at once and without jax."""

import pytest
from refusals import ran, ran_as_typed, refused

TYPED = {
    "a misspelt field": ("--config.masking.rat=0.3", "did you mean masking.rate?"),
    "a misspelt section": ("--config.trian.batch_size=8", "did you mean train.batch_size?"),
    "a misspelt choice": ("--config.masking.unit=wrod", "did you mean 'word'?"),
    "a word for a number": ("--config.train.batch_size=many", "is 'many', of type str"),
    "a fraction for an integer": ("--config.train.batch_size=1.5", "of type float; it needs int"),
    "True for an integer": ("--config.model.layers=True", "of type bool; it needs int"),
    "None": ("--config.model.layers=None", "model.layers is None"),
    "NaN": ("--config.optimizer.learning_rate=nan", "optimizer.learning_rate is nan"),
    "beyond every number": (f"--config.seed={'9' * 400}", "seed is beyond 10**30; give a finite"),
    "a negative size": ("--config.model.width=-4", "model.width is -4; it must be above 0"),
    "a word without dashes": ("config.train.batch_size=8", "stray argument 'config.train.batch_"),
    "no value": ("--config.train.batch_size", "has no value"),
    "an unknown flag": ("--worksdir=x", "stray argument '--worksdir=x'"),
    "a config that is not there": ("--config=none.py", "none.py: no such file"),
}


@pytest.fixture(scope="module")
def without_jax(tmp_path_factory):
    """An environment in which importing jax ends the process."""
    folder = tmp_path_factory.mktemp("nojax")
    (folder / "jax.py").write_text("raise SystemExit('jax was imported')")
    return {"PYTHONPATH": str(folder)}


@pytest.mark.smoke
@pytest.mark.fault(
    42,
    "misspelt fields, wrong types, NaN, None, negative sizes, stray words: 14 command lines",
    "exit 2, one line with a suggestion, jax is not even imported (a second)",
)
def test_mistyped_arguments(without_jax, tmp_path, score):
    took = []
    for argument, words in TYPED.values():
        config = [] if argument.startswith("--config=") else ["--config=configs/default.py"]
        ended = ran_as_typed(
            ["train.py", *config, f"--workdir={tmp_path / 'run'}", argument], without_jax
        )
        refused(ended, 2, words, within=tmp_path)
        took.append(ended.seconds)
    assert not (tmp_path / "run").exists()
    # A second is promised; an idle core takes a third of it, a busy one several.
    assert sorted(took)[len(took) // 2] < 5
    score(seconds_to_stop=sorted(took)[len(took) // 2])


RATES = {
    "masking.rate": ("1.5", "-0.1"),
    "masking.mask_token_rate": ("2", "nan"),
    "masking.final_rate": ("1.2",),
    "masking.mask_selection_length": ("0", "999"),
    "masking.random_token_rate": ("0.3",),  # and 0.8 of [MASK]
}


@pytest.mark.fault(
    43,
    "masking rates outside [0, 1], a sum above 1, a selection length of 0 or above the row",
    "exit 2, one line that names the field and the rule",
)
def test_rates_that_are_none(without_jax, tmp_path):
    for name, values in RATES.items():
        for value in values:
            fields = {name: value}
            if name == "masking.final_rate":
                fields["masking.schedule"] = "linear"
            ended = ran(
                "train.py", f"--workdir={tmp_path}/run", fields=fields, environment=without_jax
            )
            refused(ended, 2, name, within=tmp_path)


@pytest.mark.fault(
    44,
    "rows longer than the position table, a batch that 8 devices cannot share, heads that do not "
    "divide the width, a vocabulary that 8 devices cannot share",
    "exit 2 naming both fields; the vocabulary is kept whole and another axis is split",
)
def test_sizes_that_do_not_fit(tiny, tmp_path):
    eight = {"XLA_FLAGS": "--xla_force_host_platform_device_count=8"}
    for fields, words in (
        ({"data.length": 32}, ("data.length 32", "model.max_length 16")),
        ({"model.heads": 3}, ("model.heads 3", "model.width 16")),
        ({"train.batch_size": 12}, ("train.batch_size 12", "mesh.data 8")),
    ):
        ended = ran(
            "train.py", f"--workdir={tmp_path}/run", fields=tiny | fields, environment=eight
        )
        refused(ended, 2, *words, within=tmp_path)
    fields = tiny | {"data.vocabulary_size": 90, "mesh.fsdp": 8, "mesh.data": 1}
    ended = ran("train.py", "--print_shardings", fields=fields, environment=eight)
    assert ended.exit_code == 0, ended.error
