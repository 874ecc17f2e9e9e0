"""Rows 32-34, 39 and 40: tokens, tokenizers and stores that are damaged, swapped or changed."""

import json
import shutil

import numpy as np
import pytest
from processes import finish, losses
from refusals import ran, refused

from mlm.text import load_tokenizer, train_tokenizer


@pytest.fixture
def trained_on(tiny, tmp_path):
    """`trained_on(store, **fields)`: train.py on a prepared folder."""

    def trained_on(store, **fields):
        fields = tiny | {"data.store": store} | {n.replace("__", "."): v for n, v in fields.items()}
        return ran("train.py", f"--workdir={tmp_path}/run", fields=fields)

    return trained_on


@pytest.fixture
def store(tiny, tmp_path):
    """A prepared folder that may be damaged."""
    ended = ran("-m", "mlm", "prepare", f"--out={tmp_path}/store", fields=tiny)
    assert ended.exit_code == 0, ended.error
    return tmp_path / "store"


def patch(file, at, value):
    tokens = np.fromfile(file, "<u2")
    tokens[at] = value
    tokens.tofile(file)


@pytest.mark.smoke
@pytest.mark.fault(
    32,
    "an id beyond the vocabulary, and -1, in the token file",
    "exit 3 before step 0, naming file, place and id",
)
def test_ids_outside_the_vocabulary(store, trained_on, tmp_path):
    size = load_tokenizer(store).vocabulary_size
    for value in (size, 65535):  # -1 as it is stored
        patch(store / "train/tokens.bin", 777, value)
        words = f"token 777 is id {value}, the vocabulary has {size}"
        refused(trained_on(store), 3, "train/tokens.bin", words, within=tmp_path)
    assert not (tmp_path / "run/metrics.jsonl").exists()


@pytest.mark.fault(
    33,
    "a tokenizer that did not make the data; one that the checkpoint was not trained with",
    "exit 3 (data) or 4 (checkpoint), both hashes in the line",
)
def test_swapped_tokenizers(store, trained_on, tmp_path, tiny, train_process):
    own = load_tokenizer(store).hash[:12]
    other = train_tokenizer(["some other words"] * 3, vocabulary_size=64, lowercase=True)
    other.save(tmp_path / "other.json")
    ended = trained_on(store, data__tokenizer=tmp_path / "other.json")
    refused(ended, 3, own, other.hash[:12], within=tmp_path)

    workdir = tmp_path / "begun"
    short = {"train__total_steps": 2, "eval__every_steps": 2, "checkpoint__every_steps": 1}
    finish(train_process(workdir, **short))
    (workdir / "eval.json").unlink()  # or it would be complete
    then = load_tokenizer(workdir).hash[:12]
    other.save(workdir / "tokenizer.json")
    process = train_process(workdir, **short)
    _, error = finish(process, 4)
    line = error.strip().splitlines()[-1]
    assert line.startswith("error: ") and then in line and other.hash[:12] in line


@pytest.mark.fault(
    34,
    "a tokenizer without [MASK], and one in which two special tokens share an id",
    "exit 3 naming the file and the tokens",
)
def test_tokenizers_without_what_masking_needs(store, trained_on, tmp_path, tiny):
    content = json.loads((store / "tokenizer.json").read_text())
    fields = tiny | {"data.tokenizer": tmp_path / "tokenizer.json"}

    def with_vocabulary(change):
        changed = json.loads(json.dumps(content))
        change(changed["model"]["vocab"], changed["added_tokens"])
        changed["post_processor"] = None
        (tmp_path / "tokenizer.json").write_text(json.dumps(changed))
        return ran("train.py", f"--workdir={tmp_path}/run", fields=fields)

    def lacking(vocabulary, added):
        vocabulary["other"] = vocabulary.pop("[MASK]")
        added[:] = [token for token in added if token["content"] != "[MASK]"]

    def sharing(vocabulary, added):
        vocabulary["[MASK]"] = vocabulary["[PAD]"]
        added.clear()

    refused(with_vocabulary(lacking), 3, "tokenizer.json", "lacks [MASK]", within=tmp_path)
    refused(with_vocabulary(sharing), 3, "[PAD] and [MASK] the same id", within=tmp_path)


@pytest.mark.fault(
    39,
    "a byte of the token file changed, its end cut off, document ends or meta.json changed",
    "exit 3 naming the file",
)
def test_damaged_stores(store, trained_on, tmp_path):
    for name, damage in (
        ("tokens.bin", lambda content: content[:100] + bytes([content[100] ^ 1]) + content[101:]),
        ("tokens.bin", lambda content: content[:-1]),
        ("doc_ends.npy", lambda content: content[:-3] + b"\1" + content[-2:]),
        ("meta.json", lambda content: content[: len(content) // 2]),
    ):
        shutil.rmtree(tmp_path / "damaged", ignore_errors=True)
        shutil.copytree(store, tmp_path / "damaged")
        file = tmp_path / "damaged/heldout" / name
        file.write_bytes(damage(file.read_bytes()))
        refused(trained_on(tmp_path / "damaged"), 3, f"heldout/{name}", within=tmp_path)


@pytest.mark.fault(
    40,
    "another seed and row length on resume; a corpus with one document more",
    "refused with then and now side by side, unless --allow_data_change: then it is written down",
)
def test_other_data_on_resume(tiny, tmp_path, corpus_file, train_process):
    short = tiny | {"train.total_steps": 4, "checkpoint.every_steps": 2, "eval.every_steps": 4}
    workdir, more = tmp_path / "run", tmp_path / "more.txt"
    more.write_text(corpus_file.read_text() + "\n\nAnd the cat was never seen again.")
    finish(train_process(workdir, **{n.replace(".", "__"): v for n, v in short.items()}))
    shutil.rmtree(workdir / "checkpoints/4")
    first = losses(workdir)

    def again(*flags, **fields):
        fields = short | {n.replace("__", "."): v for n, v in fields.items()}
        fields |= {"model.dropout": 0.1}
        return ran("train.py", f"--workdir={workdir}", *flags, fields=fields)

    ended = again(seed=5, data__length=8)
    refused(ended, 2, "2 differences", "--allow_data_change", within=tmp_path)
    assert "error: data.length: 16 then, 8 now\nerror: seed: 0 then, 5 now\n" in ended.error
    ended = again(data__corpus=more)
    refused(ended, 4, "differences", "--allow_data_change", within=tmp_path)
    assert "error: text: " in ended.error and " then, " in ended.error
    assert not (workdir / "data_changes.json").exists()

    ended = again("--allow_data_change", seed=5, data__corpus=more)
    assert ended.exit_code == 0, ended.error
    assert "not bit-exact: seed: 0 then, 5 now" in ended.out
    changes = json.loads((workdir / "data_changes.json").read_text())["changes"]
    assert {(c["field"], c["step"]) for c in changes} >= {("seed", 2), ("text", 2)}
    now = losses(workdir)
    assert [now[k] == first[k] for k in (1, 2, 3, 4)] == [True, True, False, False]
    assert again(seed=5, data__corpus=more).exit_code == 0  # it is the run's data now
