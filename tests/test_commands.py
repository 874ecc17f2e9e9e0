"""`python -m mlm tokenizer` and `convert`: what they print, and one line for what is wrong."""

import json
import shutil
import sys
from pathlib import Path

import pytest

from mlm.__main__ import main
from mlm.cli import run_command
from mlm.errors import ConfigError
from mlm.text import load_tokenizer

CHECKPOINT = Path(__file__).parent / "parity" / "hf_distilbert_tiny"
PIECES = "[PAD] [UNK] [CLS] [SEP] [MASK] the The cat ##s dog é e".split()


@pytest.fixture
def vocab(tmp_path):
    path = tmp_path / "vocab.txt"
    path.write_text("\n".join(PIECES) + "\n", encoding="utf-8")
    return path


@pytest.fixture
def configured(tiny):
    return ["--config=configs/default.py", *(f"--config.{name}={v}" for name, v in tiny.items())]


@pytest.fixture
def refused(monkeypatch, capsys):
    """`refused(exit code, words, *arguments)` checks the one line of a command that fails."""

    def check(exit_code, words, *arguments, command="tokenizer"):
        monkeypatch.setattr(sys, "argv", ["mlm", command, *map(str, arguments)])
        assert run_command(main) == exit_code
        [line] = capsys.readouterr().err.splitlines()
        assert line.startswith("error: ") and words in line, line

    return check


def lines_of(capsys, *arguments) -> list[str]:
    main(["tokenizer", *map(str, arguments)])
    return capsys.readouterr().out.splitlines()


# ---- train ---------------------------------------------------------------------------------------


def test_train_writes_the_tokenizer_that_prepare_would_train(configured, tmp_path, capsys):
    out = tmp_path / "my.json"
    reading, training, made, use = lines_of(capsys, "train", *configured, f"--out={out}")
    assert reading.endswith("stories.txt") and training.startswith("training a WordPiece vocab")
    hash = load_tokenizer(out).hash
    assert made == f"vocabulary 96, tokenizer {hash[:12]}"
    assert use == f"to train or prepare with it: --config.data.tokenizer={out}"
    main(["prepare", *configured, f"--out={tmp_path / 'prepared'}"])
    assert load_tokenizer(tmp_path / "prepared").hash == hash
    main(["prepare", *configured, f"--out={tmp_path / 'again'}", f"--config.data.tokenizer={out}"])
    assert load_tokenizer(tmp_path / "again").hash == hash


def test_the_folder_of_a_cased_checkpoint_prepares_cased_text(configured, vocab, tmp_path):
    (tmp_path / "tokenizer_config.json").write_text('{"do_lower_case": false}')
    given = ["--config.data.lowercase=True", f"--config.data.tokenizer={tmp_path}"]
    main(["prepare", *configured, *given, f"--out={tmp_path / 'prepared'}"])
    prepared = load_tokenizer(tmp_path / "prepared")
    assert prepared.hash == load_tokenizer(vocab, lowercase=False).hash
    assert prepared.hash != load_tokenizer(vocab).hash


def test_train_refuses(configured, tmp_path, refused):
    out = f"--out={tmp_path / 'my.json'}"
    refused(2, "required: --out", "train", *configured)
    refused(2, "required: --config", "train", out)
    refused(
        2, "data.store x is prepared already", "train", *configured, out, "--config.data.store=x"
    )
    refused(
        2, "data.tokenizer is x, so none", "train", *configured, out, "--config.data.tokenizer=x"
    )
    refused(2, "copy that to the URL", "train", *configured, "--out=gs://bucket/my.json")
    refused(2, "a tokenizer is a .json file", "train", *configured, f"--out={tmp_path / 'my'}")
    refused(3, "none.txt", "train", *configured, out, "--config.data.corpus=none.txt")
    (tmp_path / "my.json").write_text("")
    refused(7, "my.json exists; choose another name", "train", *configured, out)
    refused(7, "cannot be written", "train", *configured, "--out=/proc/x/my.json")


# ---- show ----------------------------------------------------------------------------------------


def test_show(vocab, capsys):
    shown = lines_of(capsys, "show", vocab.parent, "The cats [MASK]", "é")
    assert shown == [
        f"tokenizer {load_tokenizer(vocab).hash[:12]}, vocabulary 12",
        "special tokens: [PAD] 0   [UNK] 1   [CLS] 2   [SEP] 3   [MASK] 4",
        "kind: WordPiece, lower-cases, strips accents; a word of more than 100 characters is [UNK]",
        "pieces: 6 begin a word, 1 continue one (##)",
        "The cats [MASK]",
        "    the 5   cat 7   ##s 8   [MASK] 4",
        "é",
        "    e 11",
    ]
    assert lines_of(capsys, "show", vocab) == shown[:4]


def test_show_refuses(vocab, tmp_path, refused):
    refused(2, "required: path", "show")
    refused(3, "none.json cannot be read (No such file", "show", tmp_path / "none.json")
    refused(3, "neither a vocab.txt nor a tokenizer.json, nor a folder", "show", tmp_path / "none")
    refused(3, "text 0 ('c\\udcff') has a lone surrogate", "show", vocab, "c\udcff")
    (tmp_path / "empty").mkdir()
    refused(3, "empty is a folder without tokenizer.json", "show", tmp_path / "empty")


# ---- compare -------------------------------------------------------------------------------------


def test_compare_on_text(vocab, tmp_path, capsys):
    (tmp_path / "cased").mkdir()
    vocab.rename(tmp_path / "cased/vocab.txt")
    (tmp_path / "cased/tokenizer_config.json").write_text('{"do_lower_case": false}')
    (tmp_path / "uncased.txt").write_text("\n".join(PIECES), encoding="utf-8")
    (tmp_path / "text.jsonl").write_text('{"body": "The cats see THE dog"}\n{"body": "é"}')
    paths = (tmp_path / "uncased.txt", tmp_path / "cased")
    text = ("--text", tmp_path / "text.jsonl", "--field", "body")
    shown = lines_of(capsys, "compare", *paths, *text)
    assert shown[:2] == [
        f"A: {paths[0]}, vocabulary 12, WordPiece, lower-cases, strips accents",
        f"B: {paths[1]}, vocabulary 12, WordPiece, keeps case, keeps accents",
    ]
    rows = [line.split() for line in shown if " A " in line or " B " in line][-4:]
    # the cat ##s [UNK] the dog / e, and The cat ##s [UNK] [UNK] dog / é; 17 letters, one accent.
    shares = ["14.29%", "17.65%", "5.56%"], ["28.57%", "35.29%", "0.00%"]
    assert rows[0] == ["text.jsonl", "6", "A", "1.17", "2.43", *shares[0]]
    assert rows[1] == ["B", "1.17", "2.43", *shares[1]]
    assert shown[-2:] == [
        "warning: text.jsonl: A reads 17.6% of the text as [UNK], which is 14.3% of its tokens",
        "warning: text.jsonl: B reads 35.3% of the text as [UNK], which is 28.6% of its tokens",
    ]


def test_compare_vocabularies(vocab, tmp_path, capsys):
    (tmp_path / "other.txt").write_text("\n".join([*PIECES[:5], "mouse"]), encoding="utf-8")
    assert lines_of(capsys, "compare", vocab, tmp_path / "other.txt")[2:] == [
        "A: 12 pieces, 7 of them in no other",
        "B: 6 pieces, 1 of them in no other",
        "common to all: 5 pieces, 5 of them with the same id",
    ]


def test_compare_refuses(vocab, tmp_path, refused):
    refused(2, "required: paths", "compare")
    refused(2, "one tokenizer alone has nothing to compare", "compare", vocab)
    refused(3, "none.json cannot be read", "compare", vocab, tmp_path / "none.json")
    refused(3, "none.txt does not exist", "compare", vocab, "--text", tmp_path / "none.txt")
    refused(3, "names no file", "compare", vocab, "--text=")
    (tmp_path / "a.jsonl").write_text('{"body": "cat"}')
    refused(3, "no text in the field 'text'", "compare", vocab, "--text", tmp_path / "a.jsonl")


def test_actions(refused, capsys):
    refused(2, "required: action")
    refused(2, "invalid choice: 'list' (choose from", "list")
    with pytest.raises(SystemExit):
        main(["tokenizer", "--help"])
    assert "{train,show,compare}" in capsys.readouterr().out
    with pytest.raises(
        ConfigError, match="no command 'tokeniser'; choose one of prepare, store, tokenizer"
    ):
        main(["tokeniser"])


# ---- convert -------------------------------------------------------------------------------------


@pytest.mark.parametrize("to, mark", [("huggingface", "model_type"), ("mlm", "mlm_version")])
def test_convert(tmp_path, capsys, to, mark):
    out = tmp_path / "a folder"
    main(["convert", str(CHECKPOINT), str(out), f"--to={to}"])
    assert capsys.readouterr().out == f"{out}: {to}, from a huggingface folder\n"
    assert mark in json.loads((out / "config.json").read_text())
    if to == "huggingface":  # the command can be copied from the card
        command = f"python -m mlm convert {CHECKPOINT} '{out}' --to=huggingface"
        assert f"`{command}`" in (out / "README.md").read_text()


def test_convert_says_what_is_different(tmp_path, capsys):
    folder, out = tmp_path / "encoder", tmp_path / "out"
    shutil.copytree(CHECKPOINT.parent / "kerashub_distilbert_tiny", folder)
    (folder / "task.weights.h5").unlink()
    main(["convert", str(folder), str(out), "--to=huggingface", "--allow_epsilon_change"])
    lines = capsys.readouterr().out.splitlines()
    assert any(line.startswith(f"{folder}: The head is fresh") for line in lines)
    assert any("head_epsilon=1e-05" in line for line in lines)
    assert lines[-1] == f"{out}: huggingface, from a keras folder"
    assert "The head is fresh" in (out / "README.md").read_text()
    main(["convert", str(CHECKPOINT), str(tmp_path / "k"), "--to=keras", "--allow_epsilon_change"])
    cut, epsilon, last = capsys.readouterr().out.splitlines()
    assert "logits differ a little" in epsilon and last.endswith("keras, from a huggingface folder")


def test_convert_refuses(tmp_path, refused, full_disk):
    def convert(exit_code, words, *arguments):
        refused(exit_code, words, *arguments, command="convert")
        assert not [path for path in tmp_path.iterdir() if path.name not in ("bad", "full")]

    out = tmp_path / "out"
    convert(2, "required: source, folder, --to")
    convert(2, "invalid choice: 'onnx' (choose from", CHECKPOINT, out, "--to=onnx")
    convert(2, "copy that to the URL", CHECKPOINT, "gs://bucket/models", "--to=mlm")
    assert not Path("gs:").exists()
    convert(4, "did you mean distil_bert_base_en?", "distil_bert_base_e", out, "--to=mlm")
    convert(4, "allow_epsilon_change", CHECKPOINT, out, "--to=keras")
    bad = Path(shutil.copytree(CHECKPOINT, tmp_path / "bad"))
    weights = bad / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-4])
    convert(4, "model.safetensors cannot be read as safetensors", bad, out, "--to=mlm")
    weights.unlink()
    index = {"weight_map": {"a": "../../etc/passwd"}}
    (bad / "model.safetensors.index.json").write_text(json.dumps(index))
    convert(4, "outside its folder; do not use it", bad, out, "--to=mlm")
    (bad / "tokenizer.json").write_text("{")
    convert(4, "outside its folder", bad, out, "--to=mlm")
    shutil.copy(CHECKPOINT / "model.safetensors", bad)
    convert(3, "is not a file of the tokenizers library", bad, out, "--to=mlm")
    (tmp_path / "full").mkdir()
    (tmp_path / "full/mine").write_text("")
    convert(7, "full exists already", CHECKPOINT, tmp_path / "full", "--to=mlm")
    convert(7, "cannot be written", CHECKPOINT, "/proc/x/out", "--to=mlm")
    with full_disk(5000):
        convert(7, "cannot be written", CHECKPOINT, out, "--to=huggingface")


@pytest.mark.parametrize("code", [0, None, 3, "stop"])
def test_code_of_the_user_that_exits_is_no_end_of_a_run(code, capsys):
    assert run_command(lambda argv: sys.exit(code)) == 1
    assert (
        capsys.readouterr().err == f"error: sys.exit({code!r}) was called by code of the config\n"
    )


def test_help_is_an_end(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["mlm", "tokenizer", "--help"])
    assert run_command(main) == 0
    assert "{train,show,compare}" in capsys.readouterr().out
