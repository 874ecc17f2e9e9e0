"""What a config names to start from, before any of it is trained."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
from safetensors.numpy import load_file

from mlm.__main__ import main
from mlm.config import apply_overrides, load_config
from mlm.errors import CheckpointError, DataError
from mlm.rules import validate
from mlm.start import find_start, params_digest, with_sizes_of
from mlm.text import load_tokenizer

CHECKPOINT = Path(__file__).parent / "parity" / "hf_distilbert_tiny"


@pytest.fixture
def folder(tmp_path):
    """A Hugging Face directory of a tiny model with 120 tokens."""
    folder = tmp_path / "checkpoint"
    folder.mkdir()
    for name in ("config.json", "model.safetensors", "tokenizer.json"):
        shutil.copy(CHECKPOINT / name, folder)
    return folder


@pytest.fixture
def make(tiny, folder):
    def make(**fields):
        config = load_config("configs/default.py")
        named = {name.replace("__", "."): value for name, value in fields.items()}
        apply_overrides(config, tiny | {"model.init_from": str(folder)} | named)
        validate(config)
        return config

    return make


def test_weights_come_with_their_sizes_and_their_tokenizer(make, folder):
    said = []
    config = make(model__init_from=str(folder), data__vocabulary_size=64)
    start = find_start(config, say=said.append)
    assert start.tokenizer.hash == load_tokenizer(folder).hash
    tensors = load_file(folder / "model.safetensors")
    np.testing.assert_array_equal(
        start.params["head"]["output_bias"], tensors["vocab_projector.bias"]
    )
    assert start.facts["kind"] == "huggingface" and start.facts["place"] == str(folder)
    assert start.facts["digest"] == params_digest(start.params)

    sized = with_sizes_of(start, config, say=said.append)
    assert (sized.model.layers, sized.model.width, sized.model.max_length) == (2, 32, 64)
    assert sized.model.dropout == config.model.dropout and config.model.width == 16
    assert said[-1] == (
        f"as in {folder}: model.layers 2 (not 1), model.width 32 (not 16), model.heads 4 (not 2), "
        "model.hidden 64 (not 32), model.max_length 64 (not 16)"
    )
    said.clear()
    assert with_sizes_of(start, sized, say=said.append) == sized and not said


def test_the_digest_tells_weights_apart(make):
    params = find_start(make()).params
    digest = params_digest(params)
    assert params_digest(jax.tree.map(np.copy, params)) == digest
    params["head"]["output_bias"][7] += 1e-3
    changed = params_digest(params)
    params["head"]["output_bias"][7] -= 1e-3
    params["head"]["output_bias"] = params["head"]["output_bias"][None]
    assert len({digest, changed, params_digest(params)}) == 3


def test_a_given_tokenizer_may_read_text_otherwise_but_not_number_it_otherwise(make, tmp_path):
    own = load_tokenizer(CHECKPOINT)
    pieces = sorted(own.backend.get_vocab(), key=own.backend.token_to_id)
    (tmp_path / "vocab.txt").write_text("\n".join(pieces))
    given = {"data__tokenizer": str(tmp_path / "vocab.txt"), "data__lowercase": False}
    start = find_start(make(**given))
    assert start.tokenizer.hash != own.hash and start.facts
    assert start.tokenizer.encode(["the"]) == own.encode(["the"])

    pieces[100], pieces[101] = pieces[101], pieces[100]
    (tmp_path / "vocab.txt").write_text("\n".join(pieces))
    with pytest.raises(DataError) as error:
        find_start(make(**given))
    assert "vocab.txt" in str(error.value) and "checkpoint" in str(error.value)
    swapped = f"the id of {pieces[100]!r} is 100 of 120 in the first, 101 of 120 in the second"
    other = f"the id of {pieces[101]!r} is 101 of 120 in the first, 100 of 120 in the second"
    assert swapped in str(error.value) or other in str(error.value)


def test_a_tokenizer_that_is_not_the_one_of_the_weights(make, folder):
    content = json.loads((folder / "tokenizer.json").read_text())
    content["model"]["vocab"]["one-too-many"] = 120
    (folder / "tokenizer.json").write_text(json.dumps(content))
    with pytest.raises(CheckpointError, match="has 121 ids, its model 120; one of them belongs"):
        find_start(make())


def test_new_tokens_of_a_given_tokenizer_need_no_weights(make):
    config = make(
        model__init_from="", data__tokenizer=str(CHECKPOINT), data__new_tokens=("catfish",)
    )
    start = find_start(config)
    assert start.tokenizer.encode(["catfish"]) == [[120]]
    assert start.params is None and start.model is None and start.facts is None
    assert with_sizes_of(start, config) is config
    assert find_start(make(model__init_from="")).tokenizer is None


def test_text_is_prepared_with_the_tokenizer_of_the_weights(make, folder, tiny, tmp_path, capsys):
    fields = tiny | {"model.init_from": str(folder), "data.new_tokens": "('catfish',)"}
    given = [f"--config.{name}={value}" for name, value in fields.items()]
    out = tmp_path / "prepared"
    main(["prepare", "--config=configs/default.py", *given, f"--out={out}"])
    config = make(data__new_tokens=("catfish",), data__store=str(out))
    assert load_tokenizer(out).hash == find_start(config).tokenizer.hash
    assert "vocabulary 121" in capsys.readouterr().out


def test_starting_from_nothing_does_not_import_jax():
    code = (
        "import sys; from mlm.config import load_config; from mlm.start import find_start\n"
        "find_start(load_config('configs/default.py'))\n"
        "print([m for m in ('jax', 'flax') if m in sys.modules])"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"
