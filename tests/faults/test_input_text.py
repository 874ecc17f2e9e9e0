"""Rows 35-38: text that is none, or that is odd."""

import json

import numpy as np
import pytest
from refusals import ran, refused

from mlm.preparing import open_prepared


@pytest.fixture
def prepared(tmp_path):
    """`prepared(name, content, **fields)`: `python -m mlm prepare` of a file with these bytes."""

    def prepared(name, content, **fields):
        (tmp_path / name).write_bytes(content)
        fields = {"data.corpus": tmp_path / name, "data.vocabulary_size": 96} | fields
        fields["data.cache_dir"] = tmp_path / "cache"
        return ran("-m", "mlm", "prepare", f"--out={tmp_path}/out-{name}", fields=fields)

    return prepared


@pytest.mark.fault(
    35,
    "an empty file, a file of blank lines, fewer rows than one batch",
    "exit 3 naming the file or the sizes",
)
def test_text_that_is_not_there(prepared, tiny, tmp_path):
    refused(prepared("empty.txt", b""), 3, "empty.txt", within=tmp_path)
    refused(prepared("blank.txt", b"\n \n\t\n" * 99), 3, "blank.txt", within=tmp_path)
    stories = "\n\n".join(f"story {i} is about the number {i}." for i in range(40))
    (tmp_path / "small.txt").write_text(stories)
    fields = tiny | {"data.corpus": tmp_path / "small.txt", "train.batch_size": 512}
    ended = ran("train.py", f"--workdir={tmp_path}/run", fields=fields)
    refused(ended, 3, "rows", "batch of 512", within=tmp_path)


STORY = "".join(f"a story about {n}\n\n" for n in range(200)).encode()
ODD = {
    "latin1.txt": (STORY + b"caf\xe9", "byte 0xe9 in line 401"),
    "nul.txt": (STORY + b"a\0b", "a NUL byte in line 401"),
    "half.jsonl": (b'{"text": "a"}\n{"text": "\\ud800"}', "line 2 holds a lone surrogate"),
    "utf16.txt": (STORY.decode().encode("utf-16"), "UTF-16"),
}


@pytest.mark.fault(
    36,
    "bytes that are not UTF-8, NUL, half a character in JSON, UTF-16; BOM and CRLF",
    "exit 3 with file and line, or replaced and counted if asked for; BOM and CRLF are text",
)
def test_bytes_that_are_no_text(prepared, tmp_path):
    for name, (content, words) in ODD.items():
        refused(prepared(name, content), 3, name, words, within=tmp_path)
    ended = prepared("mended.txt", ODD["latin1.txt"][0], **{"data.on_bad_bytes": "replace"})
    assert ended.exit_code == 0 and "1 characters stand for bytes that are no text" in ended.out
    ended = prepared("windows.txt", b"\xef\xbb\xbf" + STORY.replace(b"\n", b"\r\n"))
    assert ended.exit_code == 0, ended.error
    text = open_prepared(tmp_path / "out-windows.txt")
    assert text.train.documents + text.heldout.documents == 200


@pytest.mark.fault(
    37,
    "a line of 20 MB without an end, half of it one word",
    "less than 500 MB of memory, in seconds",
)
def test_a_line_of_20_megabytes(prepared):
    ended = prepared("long.txt", STORY + b"a story of words " * 600_000 + b"a" * 10_000_000)
    assert ended.exit_code == 0, ended.error
    assert ended.peak < 500 << 20, ended.peak
    assert ended.seconds < 100  # five on an idle core


@pytest.mark.fault(
    38,
    "a corpus that holds [MASK], [PAD] and [SEP] as text",
    "read as words in brackets and counted; no special id is in the data",
)
def test_names_of_special_tokens_in_a_corpus(prepared, tmp_path):
    ended = prepared("named.txt", STORY + b"the [MASK] of [PAD] and [SEP]\n\n" * 10)
    assert ended.exit_code == 0, ended.error
    assert "30 names such as [MASK] stand in the text" in ended.out
    text = open_prepared(tmp_path / "out-named.txt")
    for store in text.stores.values():
        assert not np.isin(store.tokens, list(text.tokenizer.special_ids)).any()
    facts = json.loads((tmp_path / "out-named.txt/prepared.json").read_text())
    assert facts["special_names"] == 30
