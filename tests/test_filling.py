"""`python -m mlm fill-mask`: probabilities for people and programs, and one line for errors."""

import io
import json
import shutil
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from mlm import models
from mlm.__main__ import main
from mlm.cli import run_command
from mlm.conversion import load_huggingface
from mlm.errors import ConfigError
from mlm.filling import fill_lines
from mlm.text import load_tokenizer

MODEL = Path(__file__).parent / "parity" / "hf_distilbert_tiny"
TOKENIZER = load_tokenizer(MODEL)
TWO = "[MASK] the [MASK]"


@pytest.fixture
def command(monkeypatch, capsys):
    """`command(*arguments, stdin=bytes)`: the exit code, and the lines on stdout and on stderr."""

    def run(*arguments, stdin=b""):
        stream = io.TextIOWrapper(io.BytesIO(stdin), encoding="utf-8")
        monkeypatch.setattr(sys, "stdin", stream)
        monkeypatch.setattr(sys, "argv", ["mlm", "fill-mask", *map(str, arguments)])
        code = run_command(main)
        out, err = capsys.readouterr()
        return code, out.splitlines(), err.splitlines()

    return run


@pytest.fixture
def bare(tmp_path):
    """An encoder without its head, of which there is something to say."""
    folder = Path(shutil.copytree(MODEL, tmp_path / "bare"))
    tensors = load_file(folder / "model.safetensors")
    encoder = {name: t for name, t in tensors.items() if name.startswith("distilbert.")}
    save_file(encoder, folder / "model.safetensors")
    return folder


def expected(text):
    """Probabilities `[masks, V]`, computed without any of what is tested."""
    special = TOKENIZER.special
    ids = np.array([[special.cls, *TOKENIZER.encode_prompt(text), special.sep]], np.int32)
    loaded = load_huggingface(MODEL)
    batch = {"token_ids": ids, "padding_mask": np.ones_like(ids, bool)}
    logits = models.apply(models.create_abstract(loaded.config)[0], loaded.params, batch)
    return np.asarray(jax.nn.softmax(logits[0], axis=-1))[ids[0] == special.mask]


def test_json_holds_the_probabilities_of_every_mask(command):
    code, [line], err = command(MODEL, TWO, "--json", "--top_k=3")
    assert code == 0 and not err
    found = json.loads(line)
    assert list(found) == ["text", "masks"] and found["text"] == TWO
    probs = expected(TWO)
    assert len(found["masks"]) == len(probs) == 2
    for mask, p in zip(found["masks"], probs, strict=True):
        best = np.argsort(-p)[:3]
        assert [guess["token"] for guess in mask] == [TOKENIZER.token(int(i)) for i in best]
        np.testing.assert_allclose([guess["probability"] for guess in mask], p[best], rtol=1e-4)


def test_lines_for_people(command):
    text = f"{TWO} é"
    code, lines, err = command(MODEL, text, "the [MASK]", "--top_k=2")
    assert code == 0 and not err
    assert [line for line in lines if not line.startswith("    ")] == [text, "the [MASK]"]
    assert lines[0] == text and len(lines) == 5
    for line, p in zip(lines[1:3], expected(text), strict=True):
        first, second = np.argsort(-p)[:2].tolist()
        assert line == (
            f"    {TOKENIZER.token(first)} {p[first]:.3f}   {TOKENIZER.token(second)} "
            f"{p[second]:.3f}"
        )


def test_a_line_of_standard_input_is_a_text(command):
    texts = ["the [MASK]", "[MASK] é"]
    stdin = f"{texts[0]}\n\n  {texts[1]}  \r\n".encode()
    code, lines, _ = command(MODEL, "--json", "--top_k=1", stdin=stdin)
    assert code == 0 and [json.loads(line)["text"] for line in lines] == texts
    assert "é" in lines[1]


def test_notes_stay_out_of_the_output(command, bare):
    code, lines, err = command(bare, "the [MASK]", "--json")
    assert code == 0 and len(json.loads(*lines)["masks"]) == 1
    assert len(err) == 1 and err[0].startswith(f"{bare}: ") and "no MLM head" in err[0]


def test_a_run_fills_with_its_own_tokenizer(saved_run, command):
    code, lines, _ = command(saved_run, "the [MASK] sees", "--json", "--top_k=200")
    [guesses] = json.loads(*lines)["masks"]
    assert code == 0 and len(guesses) == 96  # the whole vocabulary, whatever was asked for
    assert sum(guess["probability"] for guess in guesses) == pytest.approx(1, abs=1e-5)


def test_nothing_is_filled_where_one_text_cannot_be():
    with pytest.raises(ConfigError, match="'no mask' has no .MASK."):
        next(fill_lines(str(MODEL), ["the [MASK]", "no mask"]))
    with pytest.raises(ConfigError, match="has 71 tokens; the model reads 64"):
        next(fill_lines(str(MODEL), ["[MASK] " * 69]))


def test_weights_that_give_no_number(command, tmp_path):
    folder = Path(shutil.copytree(MODEL, tmp_path / "nan"))
    tensors = load_file(folder / "model.safetensors")
    tensors["vocab_projector.bias"][7] = np.nan
    save_file(tensors, folder / "model.safetensors")
    code, out, [line] = command(folder, "the [MASK]", "--json")
    assert code == 4 and not out and "probabilities that are not numbers" in line


def test_wrong_input(command, tmp_path):
    def refused(*arguments, **settings):
        code, out, [line] = command(*arguments, **settings)
        assert not out and line.startswith("error: ")
        return code, line

    assert refused(MODEL, "the cat")[0] == 2
    assert refused(MODEL, "the [mask]")[0] == 2
    assert refused(MODEL) == (
        2,
        "error: no text with [MASK] is given, as an argument or on standard input",
    )
    code, line = refused(MODEL, stdin=b"[MASK] \xff")
    assert code == 2 and "standard input is not UTF-8" in line
    code, line = refused(MODEL, "the [MASK]", "--top_k=0")
    assert code == 2 and "--top_k is 0" in line
    code, line = refused("distil_bert_base_em", "the [MASK]")
    assert code == 4 and "did you mean distil_bert_base_en?" in line
    code, line = refused(tmp_path, "the [MASK]")
    assert code == 4 and "holds no model" in line
    code, line = refused(MODEL, "[MASK] \udcff")
    assert code == 3 and "lone surrogate" in line
    folder = Path(shutil.copytree(MODEL, tmp_path / "silent"))
    for name in ("tokenizer.json", "vocab.txt"):
        (folder / name).unlink()
    code, line = refused(folder, "the [MASK]")
    assert code == 4 and "holds no tokenizer" in line
    assert refused()[0] == 2
