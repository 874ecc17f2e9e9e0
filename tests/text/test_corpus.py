"""Documents come out as they were written, and every unusable source is refused by name."""

import pytest

from mlm.errors import ConfigError, DataError
from mlm.text import Reading, is_held_out, read_corpus, source_identity
from mlm.text import corpus as module


@pytest.fixture
def write(tmp_path):
    def write(name: str, content: str | bytes) -> str:
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode("utf-8"))
        return str(path)

    return write


def error_of(source: str, **options) -> str:
    with pytest.raises(DataError) as caught:
        read_corpus(source, Reading(**options))
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_paragraphs_and_lines(write):
    source = write("a.txt", "\n \none\ntwo\n\n \t\nthree \n\n\n")
    assert read_corpus(source).documents == ("one\ntwo", "three")
    assert read_corpus(source, Reading(document="line")).documents == ("one", "two", "three")


def test_several_files_keep_their_order(write):
    first, second = write("b.txt", "b"), write("a.txt", "a")
    corpus = read_corpus(f"{first}, {second},{first}")
    assert corpus.documents == ("b", "a", "b")
    assert corpus.origin == {
        "files": [{"path": path, "bytes": 1} for path in (first, second, first)],
        "replaced_characters": 0,
        "documents": 3,
        "characters": 3,
    }


def test_byte_order_mark_and_windows_line_ends_change_nothing(write):
    plain = read_corpus(write("a.txt", "é one\ntwo\n\nthree\n"))
    windows = read_corpus(write("b.txt", b"\xef\xbb\xbf\xc3\xa9 one\r\ntwo\r\n\r\nthree\r\n"))
    assert windows.documents == plain.documents == ("é one\ntwo", "three")
    assert windows.fingerprint == plain.fingerprint


def test_only_line_feeds_end_a_line(write):
    text = "one\u2028still one\x0bstill one"
    assert read_corpus(write("a.txt", text), Reading(document="line")).documents == (text,)


def test_fingerprint_sees_where_documents_end(write):
    def fingerprint(content):
        return read_corpus(write("a.txt", content)).fingerprint

    assert len({fingerprint("ab\n\nc"), fingerprint("a\n\nbc"), fingerprint("abc")}) == 3
    assert fingerprint("a\n\nb") == fingerprint("a\n\n\n\nb\n")


def test_builtin(monkeypatch):
    monkeypatch.setattr(module, "python_docs", lambda: ["A topic.", "A docstring."])
    corpus = read_corpus("builtin:python_docs", Reading(document="line"))
    assert corpus.documents == ("A topic.", "A docstring.")
    assert corpus.origin["documents"] == 2 and corpus.origin["characters"] == 20
    assert corpus.origin["python"].startswith("3.")


def test_missing_file(write):
    assert "gone.txt does not exist; correct the path" in error_of(
        write("a.txt", "a") + ",gone.txt"
    )
    with pytest.raises(DataError, match=r"gone\.txt does not exist"):
        source_identity("gone.txt")


def test_file_below_a_file_cannot_be_read(write):
    assert "cannot be read: Not a directory" in error_of(write("a.txt", "a") + "/b.txt")


@pytest.mark.parametrize("content", ["", " \n\n\t\r\n", "\ufeff"])
def test_no_document(write, content):
    message = error_of(write("blank.txt", content))
    assert "blank.txt' has no document" in message and "builtin:python_docs" in message


def test_no_path():
    assert "names no file; give a .txt file, a folder or a glob" in error_of(" , ")


def test_unknown_builtin():
    message = error_of("builtin:wikipedia")
    assert "'builtin:wikipedia'" in message and "builtin:python_docs" in message
    with pytest.raises(DataError, match="builtin:wikipedia"):
        source_identity("builtin:wikipedia")


def test_unknown_document_rule(write):
    for function in (read_corpus, source_identity):
        with pytest.raises(ConfigError, match="'page'; choose one of paragraph, line, file"):
            function(write("a.txt", "a"), Reading(document="page"))


def test_identity_changes_with_bytes_files_and_rule(write, tmp_path):
    a, b, same = write("a.txt", "one"), write("b.txt", "two"), write("c.txt", "one")
    assert source_identity(a) == source_identity(same)
    sources = [(a, "paragraph"), (a, "line"), (b, "paragraph"), (str(tmp_path), "paragraph")]
    sources.append((f"{tmp_path}/[ab].txt", "paragraph"))
    identities = {source_identity(source, Reading(document=rule)) for source, rule in sources}
    assert len(identities) == len(sources)
    assert source_identity("builtin:python_docs").startswith("builtin:python_docs of ")


def test_identity_knows_json_from_text_and_what_is_read_of_it(write):
    a, b = write("a.txt", '{"text": "one"}'), write("a.jsonl", '{"text": "one"}')
    rules = [Reading(), Reading(field="title"), Reading(on_bad_bytes="replace")]
    assert len({source_identity(a), *(source_identity(b, rule) for rule in rules)}) == 4


def test_a_file_that_grows_while_it_is_read(write, monkeypatch):
    path = write("a.txt", "one")

    def read_and_append(*args):
        write("a.txt", "one and more")
        return ["one"]

    monkeypatch.setattr(module, "read_documents", read_and_append)
    assert f"{path} changed while it was read" in error_of(path)


def test_held_out_share_and_stability():
    texts = [f"document {n}" for n in range(4000)]
    tenth = {text for text in texts if is_held_out(text, 0.1)}
    assert 340 < len(tenth) < 460  # 400 expected, standard deviation 19
    assert tenth < {text for text in texts if is_held_out(text, 0.2)}
    assert not any(is_held_out(text, 0.0) for text in texts)
    assert all(is_held_out(text, 1.0) for text in texts)
    # As recorded: another hash would let old runs train on what new ones evaluate on.
    assert [n for n in range(100) if is_held_out(texts[n], 0.1)] == [40, 44, 59, 70, 81]


@pytest.mark.parametrize("fraction", [-0.1, 10, float("nan")])
def test_held_out_refuses_what_is_no_fraction(fraction):
    with pytest.raises(ConfigError, match=f"fraction is {fraction}; .* between 0 and 1"):
        is_held_out("text", fraction)
