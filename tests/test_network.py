"""A model and a loss of one's own: through training, restart, evaluation and filling."""

import json
import shutil
import sys

import jax
import numpy as np
import pytest

import eval as eval_script
import train as train_script
from mlm import experiment
from mlm.__main__ import main as mlm_command
from mlm.cli import run_command
from mlm.config import apply_overrides, load_config
from mlm.errors import CheckpointError, ConfigError
from mlm.models import DistilBertConfig
from mlm.network import make_loss, make_network
from mlm.pretrained import load_pretrained
from mlm.rules import validate
from mlm.training.freezing import leaf_paths
from mlm.training.loss import cross_entropy
from mlm.training.metrics import read_metrics

# A convolution that looks five tokens to either side, in plain JAX.
MODEL = """
import jax
import jax.numpy as jnp

REACH = 5


def make(config):
    vocabulary, width = config.vocabulary_size, config.width

    def init(key):
        word, kernel = jax.random.split(key)
        shape = (2 * REACH + 1, width, width)
        return {
            "word": 0.3 * jax.random.normal(word, (vocabulary, width)),
            "conv": {
                "kernel": 0.1 * jax.random.normal(kernel, shape),
                "bias": jnp.zeros(width),
            },
            "output_bias": jnp.zeros(vocabulary),
        }

    def apply(params, batch, *, key=None):
        x = params["word"][batch["token_ids"]] * batch["padding_mask"][:, :, None]
        if key is not None:
            keep = jax.random.bernoulli(key, 1 - config.dropout, x.shape)
            x = jnp.where(keep, x / (1 - config.dropout), 0)
        axes = ("NWC", "WIO", "NWC")
        x = jax.lax.conv_general_dilated(
            x, params["conv"]["kernel"], (1,), "SAME", dimension_numbers=axes
        )
        x = jax.nn.gelu(x + params["conv"]["bias"])
        x = jnp.take_along_axis(x, batch["mask_positions"][:, :, None], axis=1)
        return x @ params["word"].T + params["output_bias"]

    return init, apply
"""
# What is no model: each is refused by a line with these words.
BROKEN = """
import jax
import jax.numpy as jnp
from conv_of_mine import make


def changed(change):
    def made(config):
        init, apply = make(config)
        return init, lambda params, batch, *, key=None: change(apply, params, batch)

    return made


def initial(params):
    return lambda config: (lambda key: params, make(config)[1])


def all_positions(apply, params, batch):
    return params["word"][batch["token_ids"]] @ params["word"].T


def one_length(apply, params, batch):
    return apply(params, batch) + batch["token_ids"].reshape(2, 16).sum()


nothing = lambda config: None
failing = lambda config: config.depth
logits_everywhere = changed(all_positions)
half = changed(lambda apply, *args: apply(*args).astype(jnp.bfloat16))
scores_and_more = changed(lambda apply, *args: (apply(*args), 0))
packed_only = changed(lambda apply, params, batch: apply(params, batch) * batch["segment_ids"])
fixed_length = changed(one_length)
without_gradient = changed(
    lambda apply, *args: jax.lax.while_loop(lambda x: x.sum() > 0, lambda x: x - 1, apply(*args))
)
without_key = lambda config: (make(config)[0], lambda params, batch: make(config)[1](params, batch))
listed = initial([jnp.zeros(3)])
layered = initial({"layers": [jnp.zeros(3)]})
whole_numbers = initial({"word": jnp.zeros(3, jnp.int32)})
empty = initial({"word": {}})
"""
LOSSES = """
import jax
import jax.numpy as jnp
import optax


def cross_entropy(logits, labels):
    return optax.softmax_cross_entropy_with_integer_labels(logits, labels)


def doubled(logits, labels):
    return 2 * cross_entropy(logits, labels)


def mean(logits, labels):
    return cross_entropy(logits, labels).mean()


def hits(logits, labels):
    return (logits.argmax(-1) == labels).astype(jnp.int32)


def failing(logits, labels):
    return logits - labels


nothing = lambda logits, labels: None
"""
CONFIG = DistilBertConfig(
    32, layers=1, width=8, heads=2, hidden=16, max_length=16, dropout=0.1, attention_dropout=0.0
)


@pytest.fixture(scope="module", autouse=True)
def modules(tmp_path_factory):
    """A folder on the path with the user's modules."""
    folder = tmp_path_factory.mktemp("modules")
    for name, text in (("conv", MODEL), ("broken", BROKEN), ("losses", LOSSES)):
        (folder / f"{name}_of_mine.py").write_text(text)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(folder))
        yield


def make_config(tiny, **overrides):
    config = load_config("configs/default.py")
    apply_overrides(config, tiny | {k.replace("__", "."): v for k, v in overrides.items()})
    validate(config)
    return config


# ---- a model ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def finished(tiny, tmp_path_factory):
    """A run of the convolution to the end, and its config."""
    workdir = tmp_path_factory.mktemp("own_model") / "run"
    config = make_config(
        tiny,
        model__custom="conv_of_mine:make",
        optimizer__learning_rate=3e-2,
        train__freeze=("conv/bias",),
        eval__fill=("the cat sees the [MASK].",),
    )
    assert train_script.run(config, workdir) == 0
    return workdir, config


def test_a_model_of_ones_own_learns(finished):
    workdir, _ = finished
    result = json.loads((workdir / "eval.json").read_text())["masks"]["token@0.15"]
    first = read_metrics(workdir / "metrics.jsonl")[0]
    assert first["train/loss"] > 4 and result["loss"] < result["unigram_loss"] + 0.2
    assert result["loss"] < first["train/loss"] - 0.7


def test_it_goes_on_bit_for_bit(finished, tmp_path, capsys):
    workdir, config = finished
    again = tmp_path / "run"
    shutil.copytree(workdir, again)
    shutil.rmtree(again / "checkpoints/12")
    (again / "eval.json").unlink()
    assert train_script.run(config, again) == 0
    out = capsys.readouterr().out
    assert "continuing at step 8 of 12" in out and "output_bias" in out
    assert "frozen 1 of 4 arrays" in out
    assert (again / "eval.json").read_text() == (workdir / "eval.json").read_text()
    assert measured(again) == measured(workdir)


def measured(workdir):
    """All metrics but speeds."""
    lines = read_metrics(workdir / "metrics.jsonl")
    return [{k: v for k, v in line.items() if not k.startswith("perf/")} for line in lines]


def test_it_is_evaluated_and_fills_masks(finished, capsys, monkeypatch):
    workdir, _ = finished
    before = json.loads((workdir / "eval.json").read_text())
    eval_script.run(workdir)
    assert json.loads((workdir / "eval.json").read_text()) == before
    eval_script.run(workdir, fill=["the cat sees the [MASK]."])
    assert "the cat sees the [MASK]." in capsys.readouterr().out
    command = ["mlm", "fill-mask", str(workdir), "the [MASK] sees", "--json", "--top_k=200"]
    monkeypatch.setattr(sys, "argv", command)
    assert run_command(mlm_command) == 0
    [guesses] = json.loads(capsys.readouterr().out)["masks"]
    assert len(guesses) == 96
    assert sum(guess["probability"] for guess in guesses) == pytest.approx(1, abs=1e-5)


def test_no_format_holds_it_and_nothing_starts_from_it(finished, tiny, tmp_path, monkeypatch):
    workdir, _ = finished
    words = "has a model of its own, model.custom 'conv_of_mine:make', which no other format can"
    with pytest.raises(CheckpointError, match=words):
        load_pretrained(workdir, say=str)
    command = ["mlm", "convert", str(workdir), str(tmp_path / "out"), "--to=huggingface"]
    monkeypatch.setattr(sys, "argv", command)
    assert run_command(mlm_command) == 4 and not (tmp_path / "out").exists()
    with pytest.raises(CheckpointError, match=words):
        experiment.build(make_config(tiny, model__init_from=str(workdir)), say=str)
    with pytest.raises(ConfigError, match="which model.custom a:b is not; leave one of them"):
        make_config(tiny, model__init_from=str(workdir), model__custom="a:b")


def test_no_name_is_distilbert():
    network = make_network(CONFIG)
    params = network.init(jax.random.key(0))
    assert leaf_paths(params) == leaf_paths(network.params)
    assert params["head"]["output_bias"].shape == (32,)


@pytest.mark.parametrize(
    ("function", "words"),
    [
        ("nothing", "TypeError: cannot unpack"),
        ("failing", "'DistilBertConfig' object has no attribute 'depth'"),
        (
            "logits_everywhere",
            r"apply gives float32\[2, 16, 32\] for mask_positions int32\[2, 3\] in rows of 16, it "
            r"must be float32\[2, 3, 32\]",
        ),
        ("half", r"apply gives bfloat16\[2, 3, 32\]"),
        ("scores_and_more", "apply gives tuple for"),
        ("packed_only", "KeyError: 'segment_ids'"),
        ("fixed_length", "cannot reshape"),
        ("without_gradient", "Reverse-mode differentiation does not work"),
        ("without_key", "unexpected keyword argument 'key'"),
        ("listed", "init gives list among its params, which must be nested dicts"),
        ("layered", "init gives list among its params"),
        ("whole_numbers", "init gives 'word' as int32, params must be float32"),
        ("empty", "init gives a dict without params"),
    ],
)
def test_what_is_no_model(function, words):
    name = f"broken_of_mine:{function}"
    with pytest.raises(ConfigError, match=f"model.custom is '{name}': .*{words}") as caught:
        make_network(CONFIG, name)
    assert "\n" not in str(caught.value) and "returns (init, apply)" in str(caught.value)


# ---- a loss -------------------------------------------------------------------------------------


def first_step(config):
    exp = experiment.build(config, say=str)
    state, metrics = exp.run.step(exp.run.init_state(), exp.run.put(exp.run.batch_at(0)))
    return jax.device_get((state.params, metrics))


def test_cross_entropy_by_another_name_gives_the_same_bits(tiny):
    ours = first_step(make_config(tiny))
    theirs = first_step(make_config(tiny, train__loss="losses_of_mine:cross_entropy"))
    for a, b in zip(*map(jax.tree.leaves, (ours, theirs)), strict=True):
        np.testing.assert_array_equal(a, b)
    _, doubled = first_step(make_config(tiny, train__loss="losses_of_mine:doubled"))
    np.testing.assert_allclose(doubled.sums.loss, 2 * ours[1].sums.loss, rtol=1e-6)
    np.testing.assert_allclose(doubled.grad_norm, 2 * ours[1].grad_norm, rtol=1e-5)


def test_no_name_is_cross_entropy():
    assert make_loss("", 32) is cross_entropy


@pytest.mark.parametrize(
    ("function", "words"),
    [
        ("mean", r"the loss has shape \(\) for labels \(2, 3\); give one number per mask slot"),
        ("hits", "but got int32"),
        ("failing", "ValueError: Incompatible shapes for broadcasting"),
        ("nothing", r"the loss has shape \(\) for labels \(2, 3\)"),
    ],
)
def test_what_is_no_loss(function, words):
    name = f"losses_of_mine:{function}"
    with pytest.raises(ConfigError, match=f"train.loss is '{name}': .*{words}") as caught:
        make_loss(name, 32)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("field", ["model.custom", "train.loss"])
def test_a_function_that_is_not_there_is_told_before_text_is_read(tiny, field):
    config = make_config(tiny | {field: "nowhere:f", "data.corpus": "no_such_file.txt"})
    with pytest.raises(ConfigError, match=f"{field} is 'nowhere:f': ModuleNotFoundError"):
        experiment.build(config, say=str)
