"""A prepared folder is made once, from its text alone, whole or not at all."""

import dataclasses
import json
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from mlm.errors import DataError, OutputError
from mlm.preparing import TextSettings, open_prepared, prepare
from mlm.preparing import folder as folder_module
from mlm.preparing.documents import scan
from mlm.text import train_tokenizer

SETTINGS = dict(
    document="paragraph", heldout_fraction=0.2, tokenizer="", vocabulary_size=96, lowercase=True
)


@pytest.fixture
def settings(corpus_file):
    return TextSettings(corpus=str(corpus_file), **SETTINGS)


def test_text_is_read_once_and_found_again(settings, tmp_path):
    said = []
    text = prepare(settings, cache_dir=tmp_path, say=said.append)
    assert len(said) == 3 and text.folder.parent == tmp_path
    again = prepare(settings, cache_dir=tmp_path, say=said.append)
    assert len(said) == 3 and again.folder == text.folder
    assert again.tokenizer.hash == text.tokenizer.hash
    share = text.heldout.documents / (text.heldout.documents + text.train.documents)
    assert text.train.documents + text.heldout.documents == 600 and 0.13 < share < 0.27


def test_the_run_can_say_what_it_read(settings, tmp_path):
    text = prepare(settings, cache_dir=tmp_path, say=str)
    source = json.loads((text.folder / "prepared.json").read_text())
    assert source["corpus"] == settings.corpus and len(source["text"]) == 64
    assert text.train.meta["source"]["text"] == source["text"]


def test_any_change_of_text_or_settings_is_prepared_anew(settings, tmp_path, corpus_file):
    first = prepare(settings, cache_dir=tmp_path, say=str).folder
    copy = tmp_path / corpus_file.name
    copy.write_text(corpus_file.read_text() + "\n\nOne more story.")
    for change in (
        {"heldout_fraction": 0.3},
        {"vocabulary_size": 80},
        {"document": "line"},
        {"corpus": str(copy)},
    ):
        other = dataclasses.replace(settings, **change)
        assert prepare(other, cache_dir=tmp_path, say=str).folder != first


def test_a_tokenizer_of_ones_own(settings, tmp_path, corpus_file):
    own = train_tokenizer([corpus_file.read_text()], vocabulary_size=80, lowercase=True)
    own.save(tmp_path / "own.json")
    given = dataclasses.replace(settings, tokenizer=str(tmp_path / "own.json"))
    text = prepare(given, cache_dir=tmp_path, say=str)
    assert text.tokenizer.hash == own.hash == text.train.tokenizer_hash
    assert text.tokenizer.decode(text.train.tokens[:40]).islower()


def test_a_store_made_by_another_tokenizer_is_refused(settings, tmp_path):
    text = prepare(settings, tmp_path / "store", cache_dir=tmp_path, say=str)
    other = train_tokenizer(["some other text"] * 3, vocabulary_size=64, lowercase=True)
    with pytest.raises(DataError, match=other.hash[:12]):
        open_prepared(text.folder, tokenizer=other)


def test_a_store_that_claims_more_ids_than_its_tokenizer_has(settings, tmp_path):
    """Then ids beyond the embeddings would pass for checked."""
    text = prepare(settings, cache_dir=tmp_path, say=str)
    meta = text.folder / "train/meta.json"
    meta.write_text(json.dumps(json.loads(meta.read_text()) | {"vocabulary_size": 5000}))
    with pytest.raises(DataError, match="meta.json is damaged .a vocabulary of 5000 ids, its tok"):
        open_prepared(text.folder)


def test_the_same_text_by_another_path_is_found_again(settings, tmp_path, corpus_file):
    first = prepare(settings, cache_dir=tmp_path, say=str).folder
    copy = tmp_path / "other" / corpus_file.name
    copy.parent.mkdir()
    copy.write_text(corpus_file.read_text())
    moved = dataclasses.replace(settings, corpus=f"{copy.parent}/../other/{copy.name}")
    assert prepare(moved, cache_dir=tmp_path, say=str).folder == first
    out = tmp_path / "out"
    prepare(settings, out, cache_dir=tmp_path, say=str)
    assert prepare(moved, out, cache_dir=tmp_path, say=str).folder == out
    # Which part is held out is no matter of paths.
    held = dataclasses.replace(settings, corpus=str(copy), heldout_corpus=str(copy))
    two = dataclasses.replace(settings, corpus=f"{copy},{corpus_file}")
    with pytest.raises(DataError, match="leaves 0 documents to train on"):
        prepare(held, cache_dir=tmp_path, say=str)
    assert prepare(two, cache_dir=tmp_path, say=str).folder != first


def test_a_folder_of_other_text_is_not_overwritten(settings, tmp_path):
    out = tmp_path / "store"
    prepare(settings, out, cache_dir=tmp_path, say=str)
    prepare(settings, out, cache_dir=tmp_path, say=str)
    with pytest.raises(OutputError, match="was not made from this text"):
        prepare(dataclasses.replace(settings, vocabulary_size=80), out, cache_dir=tmp_path, say=str)


def test_a_folder_without_prepared_text_says_how_to_make_it(tmp_path):
    with pytest.raises(DataError, match="remove it and make it with python -m mlm prepare"):
        open_prepared(tmp_path)


def test_too_little_text_to_hold_any_out(tmp_path):
    (tmp_path / "one.txt").write_text("A single document.")
    settings = TextSettings(corpus=str(tmp_path / "one.txt"), **SETTINGS)
    with pytest.raises(DataError, match="has 1 documents.*give more text"):
        prepare(settings, cache_dir=tmp_path, say=str)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["one.txt"]


def test_evaluation_text_of_its_own(settings, tmp_path):
    own = tmp_path / "own.txt"
    own.write_text("The old dog likes the river.\n\nMy neighbour hears the teacher.")
    given = dataclasses.replace(settings, heldout_corpus=str(own))
    text = prepare(given, cache_dir=tmp_path, say=str)
    assert (text.train.documents, text.heldout.documents) == (600, 2)
    source = json.loads((text.folder / "prepared.json").read_text())
    assert source["heldout"]["files"][0]["path"] == source["heldout_corpus"] == str(own)
    own.write_text("Another one.")
    assert prepare(given, cache_dir=tmp_path, say=str).folder != text.folder


def test_equal_documents_count_once(settings, tmp_path):
    corpus, own, said = tmp_path / "a.txt", tmp_path / "own.txt", []
    corpus.write_text("\n\n".join(["a cat", "a dog", "a cat", "a bird", "a dog"] + ["x y"] * 9))
    own.write_text("a bird\n\na bird")
    given = dataclasses.replace(
        settings, corpus=str(corpus), heldout_corpus=str(own), vocabulary_size=40
    )
    kept = prepare(given, cache_dir=tmp_path, say=str)
    # What is evaluated on is not trained on: the bird has left the training text.
    assert (kept.train.documents, kept.heldout.documents) == (13, 2)
    once = dataclasses.replace(given, drop_duplicates=True)
    text = prepare(once, cache_dir=tmp_path, say=said.append)
    assert (text.train.documents, text.heldout.documents) == (3, 1)
    assert "11 documents left out that were there before" in said
    assert "1 documents left out of training because they are held out" in said
    assert text.train.fingerprint != kept.train.fingerprint


def test_what_was_replaced_is_told(settings, tmp_path):
    corpus, said = tmp_path / "a.txt", []
    corpus.write_bytes(b"\n\n".join(b"caf\xe9 number %d" % n for n in range(40)))
    given = dataclasses.replace(settings, corpus=str(corpus), on_bad_bytes="replace")
    prepare(given, cache_dir=tmp_path, say=said.append)
    assert "40 characters stand for bytes that are no text" in said


def test_sources_keep_their_order_and_their_shares(settings, tmp_path, corpus_file):
    (tmp_path / "b.jsonl").write_text("".join(f'{{"text": "one more {n}"}}\n' for n in range(40)))
    both = dataclasses.replace(settings, corpus=f"{tmp_path / 'b.jsonl'},{corpus_file}")
    text = prepare(both, cache_dir=tmp_path, say=str)
    names = [source["name"] for source in text.train.sources]
    assert names == both.corpus.split(",")
    first = text.train.sources[0]["tokens"]
    words = text.tokenizer.decode(text.train.tokens[:first])
    assert words.startswith("one more") and "the" not in words.split()
    assert "more" not in text.tokenizer.decode(text.train.tokens[first:]).split()


def test_documents_of_a_notebook_are_found_again_by_their_text(settings, tmp_path):
    texts = [f"a document about the number {n}" for n in range(60)]
    said = []
    first = prepare(settings, documents=iter(texts), cache_dir=tmp_path, say=said.append)
    again = prepare(settings, documents=(t for t in texts), cache_dir=tmp_path, say=said.append)
    assert first.folder == again.folder and len(said) == 3
    other = prepare(settings, documents=texts[1:], cache_dir=tmp_path, say=str)
    assert other.folder != first.folder and other.folder.name.startswith("documents-")
    assert {path.name for path in tmp_path.iterdir()} == {first.folder.name, other.folder.name}


# A process that was killed, and others beside it.


class Killed(BaseException):
    """Ends `prepare` where no handler of its own can."""


def kill_at(monkeypatch, module, name, call):
    """`module.name` raises `Killed` at its `call`-th call."""
    calls, real = [], getattr(module, name)

    def dying(*args, **kwargs):
        calls.append(name)
        if len(calls) == call:
            raise Killed
        return real(*args, **kwargs)

    monkeypatch.setattr(module, name, dying)


def files(folder):
    names = sorted(p.relative_to(folder) for p in folder.rglob("*") if p.name != "checked.json")
    return {name: (folder / name).read_bytes() for name in names if (folder / name).is_file()}


@pytest.mark.parametrize(
    ("name", "call", "said"),
    [
        ("scan", 1, ["reading", "training", "tokenizing"]),
        ("train_on", 1, ["reading", "training", "tokenizing"]),
        ("_write_side", 1, ["continuing", "tokenizing"]),
        ("_write_side", 2, ["continuing", "tokenizing"]),
    ],
)
def test_a_killed_process_is_continued(settings, tmp_path, monkeypatch, name, call, said):
    whole = prepare(settings, cache_dir=tmp_path / "whole", say=str)
    with monkeypatch.context() as patch, pytest.raises(Killed):
        kill_at(patch, folder_module, name, call)
        prepare(settings, cache_dir=tmp_path / "cache", say=str)
    [partial] = (p for p in (tmp_path / "cache").iterdir() if p.suffix == ".partial")
    assert partial.name.startswith(".stories-")
    lines = []
    text = prepare(settings, cache_dir=tmp_path / "cache", say=lines.append)
    assert [line.split()[0] for line in lines] == said
    assert files(text.folder) == files(whole.folder)
    assert [p.name for p in (tmp_path / "cache").iterdir()] == [text.folder.name]


def test_what_a_power_cut_has_torn_is_made_again(settings, tmp_path, monkeypatch):
    whole = prepare(settings, cache_dir=tmp_path / "whole", say=str)
    with monkeypatch.context() as patch, pytest.raises(Killed):
        kill_at(patch, folder_module, "_write_side", 2)
        prepare(settings, cache_dir=tmp_path / "cache", say=str)
    [scanned] = (tmp_path / "cache").glob(".*.partial/scan.json")
    scanned.write_text("{")
    lines = []
    text = prepare(settings, cache_dir=tmp_path / "cache", say=lines.append)
    assert [line.split()[0] for line in lines] == ["reading", "training", "tokenizing"]
    assert files(text.folder) == files(whole.folder)


def test_text_that_changes_before_it_is_read(settings, tmp_path, monkeypatch):
    copy = tmp_path / "copy.txt"
    copy.write_text("\n\n".join(f"story {n}" for n in range(60)))
    given = dataclasses.replace(settings, corpus=str(copy), vocabulary_size=40)

    def change_and_scan(settings):
        copy.write_text(copy.read_text() + "\n\nstory 60")
        return scan(settings)

    monkeypatch.setattr(folder_module, "scan", change_and_scan)
    with pytest.raises(DataError, match="copy.txt changed while it was read"):
        prepare(given, cache_dir=tmp_path / "cache", say=str)


def test_text_that_changed_after_a_kill_is_prepared_anew(settings, tmp_path, monkeypatch):
    copy = tmp_path / "copy.txt"
    copy.write_text("\n\n".join(f"story {n}" for n in range(60)))
    given = dataclasses.replace(settings, corpus=str(copy), vocabulary_size=40)
    with monkeypatch.context() as patch, pytest.raises(Killed):
        kill_at(patch, folder_module, "_write_side", 2)
        prepare(given, cache_dir=tmp_path / "cache", say=str)
    copy.write_text(copy.read_text() + "\n\nstory 60")
    text = prepare(given, cache_dir=tmp_path / "cache", say=str)
    assert text.train.documents + text.heldout.documents == 61


def test_two_processes_prepare_one_text_once(settings, tmp_path, monkeypatch):
    """Threads stand for processes: the lock belongs to an open file, not to a process."""
    began, go_on, said = threading.Event(), threading.Event(), [[], []]

    def slow_scan(settings):
        began.set()
        assert go_on.wait(30)
        return scan(settings)

    monkeypatch.setattr(folder_module, "scan", slow_scan)

    def run(i):
        return prepare(settings, cache_dir=tmp_path, say=said[i].append).folder

    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(run, 0)
        assert began.wait(30)
        second = pool.submit(run, 1)
        while not said[1]:
            time.sleep(0.01)
        go_on.set()
        assert first.result() == second.result()
    assert said[1] == ["waiting for another process that prepares the same text"]
    assert [line.split()[0] for line in said[0]] == ["reading", "training", "tokenizing"]
    assert [p.name for p in tmp_path.iterdir()] == [first.result().name]


def test_many_processes_want_one_text(settings, tmp_path):
    """Real processes, which come and go while the lock file is made and removed."""
    code = (
        "import json, sys; from pathlib import Path; from mlm.preparing import *;"
        "text = prepare(TextSettings(**json.loads(sys.argv[1])), cache_dir=Path(sys.argv[2]));"
        "print(text.folder)"
    )
    fields = json.dumps(dataclasses.asdict(settings) | {"spooled": {}})
    command = [sys.executable, "-c", code, fields, str(tmp_path)]
    running = [
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for _ in range(5)
    ]
    ended = [process.communicate(timeout=120) for process in running]
    assert [process.returncode for process in running] == [0] * 5, ended
    assert len({out.splitlines()[-1] for out, _ in ended}) == 1
    assert sum("tokenizing" in out for out, _ in ended) == 1
    assert len(list(tmp_path.iterdir())) == 1


def test_an_out_that_another_process_filled_meanwhile(settings, tmp_path, monkeypatch):
    other, out = dataclasses.replace(settings, vocabulary_size=80), tmp_path / "out"
    real = folder_module._make_whole

    def other_first(*arguments):
        monkeypatch.setattr(folder_module, "_make_whole", real)
        prepare(other, out, cache_dir=tmp_path, say=str)
        real(*arguments)

    monkeypatch.setattr(folder_module, "_make_whole", other_first)
    with pytest.raises(OutputError, match="out exists and was not made from this text"):
        prepare(settings, out, cache_dir=tmp_path, say=str)
    assert open_prepared(out).tokenizer.vocabulary_size <= 80


def test_a_full_disk_leaves_nothing(settings, tmp_path, full_disk):
    # Room for the tokenizer, not for 600 documents of tokens.
    with full_disk(9000), pytest.raises(OutputError, match="cannot be written .File too large."):
        prepare(settings, cache_dir=tmp_path / "cache", say=str)
    assert list((tmp_path / "cache").iterdir()) == []
    with full_disk(100), pytest.raises(OutputError, match="cannot be written"):
        prepare(settings, tmp_path / "out", cache_dir=tmp_path, say=str)
    assert not (tmp_path / "out").exists()


def test_damaged_text_leaves_nothing(settings, tmp_path):
    corpus = tmp_path / "a.txt"
    corpus.write_bytes(b"\n\n".join(b"story %d" % n for n in range(60)) + b"\n\n\xff")
    given = dataclasses.replace(settings, corpus=str(corpus))
    with pytest.raises(DataError, match="a.txt is not UTF-8: byte 0xff in line 121"):
        prepare(given, cache_dir=tmp_path / "cache", say=str)
    assert list((tmp_path / "cache").iterdir()) == []
