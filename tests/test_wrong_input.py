"""Wrong input on purpose: one `error:` line with value, rule and way out, and the exit code."""

import gzip
import json
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

import eval as eval_script
import train as train_script
from mlm import __main__ as commands
from mlm.cli import run_command
from mlm.config import apply_overrides, flat, load_config
from mlm.data import ORDER_VERSION
from mlm.preparing import open_prepared
from mlm.text import load_tokenizer, train_tokenizer

CHECKPOINT = Path(__file__).parent / "parity" / "hf_distilbert_tiny"


@pytest.fixture
def run(tiny, tmp_path, monkeypatch, capsys):
    """`run(script, *arguments, **overrides) -> (exit code, error lines)` with tiny fields."""

    def run(script, *arguments, config="configs/default.py", **overrides):
        fields = tiny | {name.replace("__", "."): value for name, value in overrides.items()}
        given = [f"--config.{name}={value}" for name, value in fields.items()] if config else []
        given += [f"--config={config}"] if config else []
        if script is train_script and not any(a.startswith("--workdir") for a in arguments):
            given.append(f"--workdir={tmp_path / 'run'}")
        monkeypatch.setattr(sys, "argv", ["mlm", *arguments, *given])
        exit_code = run_command(script.main)
        lines = capsys.readouterr().err.splitlines()
        assert all(line.startswith("error: ") for line in lines), lines
        return exit_code, [line.removeprefix("error: ") for line in lines]

    return run


def refused(result, exit_code, *words):
    code, lines = result
    assert code == exit_code and len(lines) == 1, result
    for word in words:
        assert word in lines[0], lines[0]


# ---- the command line and the config: 2 ---------------------------------------------------------


def test_a_misspelt_field_gets_a_suggestion(run):
    refused(run(train_script, masking__rat=0.3), 2, "masking.rat;", "did you mean masking.rate?")


def test_a_wrong_type(run):
    refused(run(train_script, train__batch_size="many"), 2, "train.batch_size is 'many'", "int")


def test_stray_arguments(run):
    refused(run(train_script, "config.seed=1"), 2, "stray argument 'config.seed=1'", "--config.")
    refused(run(train_script, "--sede=1"), 2, "stray argument '--sede=1'")
    refused(run(train_script, "--config.seed"), 2, "--config.seed has no value; write")


def test_missing_arguments(run):
    refused(run(train_script, config=None), 2, "--config", "--help")
    refused(run(eval_script, config=None), 2, "--workdir", "--help")


def test_an_empty_workdir(run):
    refused(run(train_script, "--workdir="), 2, "--workdir is empty")


def test_a_number_of_candidates_below_one(run):
    refused(run(eval_script, "--workdir=x", "--top_k=0", config=None), 2, "--top_k is 0")


def test_a_missing_config_file(run):
    refused(run(train_script, config="configs/none.py"), 2, "configs/none.py: no such file")


def test_several_problems_are_several_lines(run):
    code, lines = run(train_script, model__heads=3, masking__rate=2, data__rows="pack")
    assert code == 2 and len(lines) == 3


def test_rows_longer_than_the_position_table(run):
    refused(run(train_script, data__length=32), 2, "data.length 32", "model.max_length 16")


def test_too_few_slots_for_the_rate(run):
    result = run(train_script, masking__rate=0.5, masking__mask_selection_length=7)
    refused(result, 2, "mask_selection_length 7", "needs 8")


def test_a_batch_that_the_devices_cannot_share(run):
    refused(run(train_script, train__batch_size=12), 2, "train.batch_size 12", "8 devices")


def test_an_attention_that_this_machine_cannot_run(run, tmp_path):
    result = run(train_script, model__attention="splash", model__attention_dropout=0.0)
    refused(result, 2, "model.attention is 'splash'", "needs a TPU", "computes on cpu")
    refused(run(train_script, model__attention="flash"), 2, "choose one of auto, einsum, cudnn,")
    refused(run(train_script, train__remat="all"), 2, "choose one of none, layers, dots")


def test_steps_to_profile_that_the_run_does_not_have(run, tmp_path):
    refused(run(train_script, "--profile_steps=5"), 2, "--profile_steps is 5;", "=100-105")
    refused(run(train_script, "--profile_steps="), 2, "--profile_steps is ; it needs two steps")
    refused(run(train_script, "--profile_steps=9-13"), 2, "is 9-13", "ends at step 12")
    assert not (tmp_path / "run/config.json").exists()


def test_heads_that_do_not_divide_the_width(run):
    refused(run(train_script, model__heads=3), 2, "model.heads 3", "model.width 16")


def test_an_unknown_optimizer_and_its_arguments(run):
    refused(run(train_script, optimizer__name="adamv"), 2, "optimizer.name is 'adamv'", "adamw")
    refused(run(train_script, optimizer__args__beta=1), 2, "optimizer.args has beta", "b1")
    refused(run(train_script, optimizer__args__b1="abc"), 2, "optimizer.name adamw", "'abc'")
    refused(run(train_script, optimizer__args__mask=1), 2, "optimizer.args has mask")
    result = run(train_script, optimizer__name="lbfgs", optimizer__args__b1=None)
    refused(result, 2, "optimizer.args has b2, eps, weight_decay")


def test_the_workdir_of_another_config(run, tmp_path):
    workdir = tmp_path / "other"
    (workdir / "checkpoints/5/params").mkdir(parents=True)
    result = run(train_script, f"--workdir={workdir}")
    refused(result, 4, str(workdir), "up to step 5", "no readable config.json")
    (workdir / "config.json").write_text(json.dumps({"seed": 9}))
    result = run(train_script, f"--workdir={workdir}")
    assert result[0] == 2 and "seed: 9 then, 0 now" in result[1]
    words = "holds a run with another config", "choose another folder"
    assert all(word in result[1][-1] for word in (str(workdir), *words))


def test_prompts_are_checked_before_training(run):
    refused(run(train_script, eval__fill="('no mask',)"), 2, "'no mask'", "[MASK]")
    long = "[MASK]" + " cat" * 20
    refused(run(train_script, eval__fill=f"('{long}',)"), 2, "has 23 tokens; the model reads 16")


def test_a_place_for_text_that_is_prepared_already(run, tmp_path):
    result = run(commands, "prepare", f"--out={tmp_path / 'x'}", data__store="store")
    refused(result, 2, "data.store store is prepared already", "--out")


def test_shares_that_do_not_fit_the_corpus(run):
    two = "a.txt,b.txt"
    refused(
        run(train_script, data__corpus=two, data__shares="(1,2,3)"),
        2,
        "data.shares has 3 numbers for 2 sources, a.txt, b.txt; give one for each",
    )
    refused(run(train_script, data__shares="(-1,)"), 2, "data.shares is (-1,)", "0 or more")
    refused(run(train_script, data__shares="('a',)"), 2, "data.shares is ('a',)", "numbers")
    refused(run(train_script, data__shares="(0,)"), 2, "one of them must be above 0")
    result = run(train_script, data__shares="(1,)", data__temperature=2.0)
    refused(result, 2, "data.shares (1,) and data.temperature 2.0", "give one of them")


def test_an_overlap_that_pieces_cannot_have(run):
    result = run(train_script, data__overlap=14)
    refused(result, 2, "data.overlap is 14", "rows of 16 has 14 tokens")
    refused(run(train_script, data__overlap=1, data__rows="blocks"), 2, "'blocks' have no pieces")
    refused(run(train_script, data__overlap=-1), 2, "data.overlap is -1; it must be 0 or more")


def test_an_unknown_curriculum(run):
    refused(run(train_script, data__curriculum="size"), 2, "choose one of none, length, rarity")


def test_a_source_that_is_no_function(run):
    refused(run(train_script, data__source="mine"), 2, "data.source is 'mine'; write module:")
    refused(
        run(train_script, data__source="no.where:f"),
        2,
        "'no.where:f': ModuleNotFoundError: No module",
    )


def test_patterns_that_freeze_nothing_or_all(run):
    result = run(train_script, train__freeze="('backbone',)")
    refused(result, 2, "train.freeze has 'backbone'", "none of the 25", "backbone/embeddings/word")
    refused(run(train_script, train__freeze="('.*',)"), 2, "('.*',) leaves none of the 25")
    refused(run(train_script, train__freeze="('(',)"), 2, "'(', which is no regular expression")


def test_new_tokens_without_a_vocabulary(run):
    refused(run(train_script, data__new_tokens="('fish',)"), 2, "name data.tokenizer or model.init")


def test_rows_longer_than_the_pretrained_position_table(run):
    result = run(train_script, data__length=65, model__init_from=CHECKPOINT)
    refused(result, 2, "data.length 65", "model.max_length 64", f"other weights than {CHECKPOINT}")


def test_a_tokenizer_is_not_trained_for_pretrained_weights(run):
    result = run(commands, "tokenizer", "train", "--out=x.json", model__init_from="place")
    refused(result, 2, "model.init_from place brings its tokenizer", "leave it empty")


def test_an_unknown_command(run):
    refused(run(commands, "prepair", config=None), 2, "'prepair'", "prepare")


# ---- text, tokenizer, store: 3 -------------------------------------------------------------------


def test_a_missing_corpus(run):
    refused(run(train_script, data__corpus="none.txt"), 3, "none.txt")


def test_an_empty_corpus(run, tmp_path):
    (tmp_path / "empty.txt").write_text("\n \n\n")
    refused(run(train_script, data__corpus=tmp_path / "empty.txt"), 3, "empty.txt")


WRONG_BYTES = {
    "latin1.txt": (b"one\n\ncaf\xe9", "latin1.txt is not UTF-8: byte 0xe9 in line 3"),
    "utf16.txt": ("text".encode("utf-16"), "utf16.txt is no text but, by its first bytes, UTF-16"),
    "nul.txt": (b"one\n\0", "nul.txt has a NUL byte in line 2"),
    "half.jsonl": (b'{"text": "\\ud800"}', "half.jsonl line 1 holds a lone surrogate"),
    "list.jsonl": (b'{"text": "a"}\n[1]', "list.jsonl line 2 is not a JSON object but list"),
    "field.jsonl": (b'{"body": "a"}', "field.jsonl line 1 has no text in the field 'text'"),
    "json.jsonl": (b'{"text": "a"', "json.jsonl line 1 is not JSON"),
    "cut.txt.gz": (gzip.compress(b"word " * 999)[:-9], "cut.txt.gz is damaged after line 0"),
    "not.parquet": (b"PAR1", "not.parquet is damaged after row 0"),
}


@pytest.mark.parametrize("name", WRONG_BYTES)
def test_files_that_are_not_text(run, tmp_path, name):
    content, words = WRONG_BYTES[name]
    (tmp_path / name).write_bytes(content)
    out = tmp_path / "out/prepared"
    refused(run(commands, "prepare", f"--out={out}", data__corpus=tmp_path / name), 3, words)
    assert not list(out.parent.iterdir())


@pytest.mark.parametrize("field", ["data__tokenizer", "data__store", "masking__weights"])
def test_names_that_are_too_long_for_a_file(run, field):
    name = "x" * 500 + (".npy" if field == "masking__weights" else ".json")
    refused(run(train_script, **{field: name}), 2, "xxx... is too long for the name of a file")


def test_names_that_lead_to_no_text(run, tmp_path):
    (tmp_path / "empty").mkdir()
    refused(run(train_script, data__corpus=tmp_path / "*.txt"), 3, "no file matches")
    refused(run(train_script, data__corpus=tmp_path / "empty"), 3, "is a folder without any .txt")
    refused(
        run(train_script, data__corpus="datasets:./gone"), 3, "datasets:./gone cannot be loaded"
    )


def test_a_bom_and_windows_lines_are_text(run, tmp_path):
    lines = "\r\n".join(f"a story about {n}" for n in range(200))
    (tmp_path / "windows.txt").write_bytes(b"\xef\xbb\xbf" + lines.encode())
    fields = {"data__corpus": tmp_path / "windows.txt", "data__document": "line"}
    assert run(commands, "prepare", f"--out={tmp_path / 'out'}", **fields) == (0, [])
    text = open_prepared(tmp_path / "out")
    assert text.train.documents + text.heldout.documents == 200
    assert text.tokenizer.backend.token_to_id("\r") is None


def test_a_full_disk(run, tmp_path, full_disk):
    with full_disk(9000):
        result = run(commands, "prepare", f"--out={tmp_path / 'out/prepared'}")
    refused(result, 7, "out/prepared cannot be written (File too large)", "free some space")
    assert not list((tmp_path / "out").iterdir())


@pytest.mark.parametrize("damage", [lambda b: b[:-1], lambda b: b[:6] + b"\xff\xff" + b[8:]])
def test_a_damaged_store(run, tmp_path, damage):
    store = tmp_path / "store"
    assert run(commands, "prepare", f"--out={store}") == (0, [])
    file = store / "train/tokens.bin"
    file.write_bytes(damage(file.read_bytes()))
    refused(run(train_script, data__store=store), 3, "train/tokens.bin is damaged")


def test_a_vocabulary_above_the_ids_of_a_store(run, tmp_path):
    store = tmp_path / "store"
    assert run(commands, "prepare", f"--out={store}") == (0, [])
    meta = store / "train/meta.json"
    meta.write_text(json.dumps(json.loads(meta.read_text()) | {"vocabulary_size": 70_000}))
    refused(run(train_script, data__store=store), 3, "holds uint16", "70000 ids needs uint32")


def test_a_corpus_smaller_than_a_batch(run, tmp_path):
    stories = (f"story {i} is about the number {i}." for i in range(40))
    (tmp_path / "small.txt").write_text("\n\n".join(stories))
    result = run(train_script, data__corpus=tmp_path / "small.txt", train__batch_size=512)
    refused(result, 3, "37 rows", "batch of 512", "smaller batch size")


def write_vocabulary(path, *tokens):
    path.write_text("\n".join([*tokens, *"abcdefghijklmnopqrstuvwxyz", "."]) + "\n")
    return path


def test_a_tokenizer_without_mask(run, tmp_path):
    file = write_vocabulary(tmp_path / "vocab.txt", "[PAD]", "[UNK]", "[CLS]", "[SEP]")
    refused(run(train_script, data__tokenizer=file), 3, "vocab.txt", "[MASK]")


def test_a_tokenizer_with_equal_special_ids(run, tmp_path):
    tokens = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "[PAD]")
    file = write_vocabulary(tmp_path / "vocab.txt", *tokens)
    refused(run(train_script, data__tokenizer=file), 3, "vocab.txt", "[PAD]")


def other_tokenizer(path):
    tokenizer = train_tokenizer(["some other words"] * 3, vocabulary_size=64, lowercase=True)
    tokenizer.save(path)
    return tokenizer


def test_a_store_and_a_tokenizer_that_did_not_make_it(run, tmp_path):
    store = tmp_path / "store"
    assert run(commands, "prepare", f"--out={store}") == (0, [])
    other = other_tokenizer(tmp_path / "other.json")
    result = run(train_script, data__store=store, data__tokenizer=tmp_path / "other.json")
    refused(result, 3, other.hash[:12], load_tokenizer(store / "tokenizer.json").hash[:12])
    refused(run(train_script, data__store=tmp_path), 3, str(tmp_path), "python -m mlm prepare")


def test_new_tokens_that_are_no_new_words(run):
    given = {"model__init_from": CHECKPOINT, "data__new_tokens": "('Upper','the','x y')"}
    words = "'Upper' is read as 'upper'", "'the' is in the vocabulary already", "'x y' is read as 2"
    refused(run(train_script, **given), 3, "3 of 3 new tokens", *words)


def test_a_tokenizer_with_another_vocabulary_than_the_weights(run, tmp_path):
    other = other_tokenizer(tmp_path / "other.json")
    given = {"model__init_from": CHECKPOINT, "data__tokenizer": tmp_path / "other.json"}
    own = load_tokenizer(CHECKPOINT)
    refused(run(train_script, **given), 3, other.hash[:12], own.hash[:12], "has not the vocabulary")


def test_a_store_that_the_tokenizer_of_the_weights_did_not_make(run, tmp_path):
    assert run(commands, "prepare", f"--out={tmp_path / 'store'}") == (0, [])
    result = run(train_script, model__init_from=CHECKPOINT, data__store=tmp_path / "store")
    hashes = (load_tokenizer(p).hash[:12] for p in (CHECKPOINT, tmp_path / "store"))
    refused(result, 3, *hashes)


# ---- checkpoints: 4 ------------------------------------------------------------------------------


def test_a_run_that_began_with_another_tokenizer_or_text(run, tiny, tmp_path):
    workdir, store = tmp_path / "run", tmp_path / "store"
    assert run(commands, "prepare", f"--out={store}") == (0, [])
    (workdir / "checkpoints/5/params").mkdir(parents=True)
    config = load_config("configs/default.py")
    apply_overrides(config, tiny)
    (workdir / "config.json").write_text(json.dumps(flat(config)))
    refused(run(train_script), 4, str(workdir), "no readable text.json")

    text, tokenizer = workdir / "text.json", workdir / "tokenizer.json"
    fingerprint = json.loads((store / "train/meta.json").read_text())["fingerprint"]
    facts = {"text": fingerprint, "order": ORDER_VERSION}
    text.write_text(json.dumps(facts))
    refused(run(train_script), 4, "tokenizer.json", "missing or damaged", "another --workdir")
    other = other_tokenizer(tokenizer)
    words = f"tokenizer {other.hash[:12]} of {other.vocabulary_size} ids"
    refused(run(train_script), 4, str(workdir), words, "another --workdir")
    shutil.copy(store / "tokenizer.json", tokenizer)
    for name, value in (("text", "another text"), ("order", 0), ("rows", [0, 3, 9])):
        text.write_text(json.dumps(facts | {name: value}))
        code, lines = run(train_script)
        assert code == 4 and lines[0].startswith(f"{name}: {value} then, "), lines
        assert len(lines) == 2 and "began with other data (a difference)" in lines[1]
    # All is as it was: now the checkpoint itself, of which nothing is left, is what fails.
    text.write_text(json.dumps(facts))
    refused(run(train_script), 4, "damaged: 5 (params: cannot be read)", "put a copy back")


def test_eval_without_a_run_without_a_checkpoint_and_with_another_step(run, tiny, tmp_path):
    for workdir in (tmp_path, tmp_path / "none", __file__):
        result = run(eval_script, f"--workdir={workdir}", config=None)
        refused(result, 4, str(workdir), "holds no checkpoint of a run", "train.py")
    (tmp_path / "checkpoints/5/params").mkdir(parents=True)
    result = run(eval_script, f"--workdir={tmp_path}", config=None)
    refused(result, 4, "config.json cannot be read")
    config = load_config("configs/default.py")
    apply_overrides(config, tiny)
    (tmp_path / "config.json").write_text(json.dumps(flat(config)))
    result = run(eval_script, f"--workdir={tmp_path}", "--step=4", config=None)
    refused(result, 4, "has no checkpoint 4; it has 5")


# ---- output: 6 and 7 -----------------------------------------------------------------------------


def test_a_workdir_that_is_a_file(run, tmp_path):
    (tmp_path / "file").write_text("")
    result = run(train_script, f"--workdir={tmp_path / 'file'}")
    refused(result, 7, str(tmp_path / "file"), "cannot be written")


def test_a_workdir_that_is_read_only(run):
    refused(run(train_script, "--workdir=/proc/run"), 7, "/proc/run", "cannot be written")


# ---- how it is said ------------------------------------------------------------------------------


def test_config_errors_come_at_once_and_leave_no_folder(tmp_path):
    command = [sys.executable, "train.py", "--config=configs/default.py", "--config.masking.rat=1"]
    began = time.monotonic()
    done = subprocess.run(
        [*command, f"--workdir={tmp_path / 'run'}"], capture_output=True, text=True
    )
    # Two seconds are promised; ten keep the test honest on a busy machine (jax alone takes two).
    assert time.monotonic() - began < 10
    assert done.returncode == 2 and done.stderr.count("\n") == 1 and "Traceback" not in done.stderr
    assert not (tmp_path / "run").exists()


def test_verbose_shows_the_traceback(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["train.py", "--config=none.py", "--workdir=x", "--verbose"])
    assert run_command(train_script.main) == 2
    error = capsys.readouterr().err
    assert "Traceback" in error and error.rstrip().splitlines()[-1].startswith("error: --config")
