"""Texts become ids piece by piece, and progress is told."""

from mlm.preparing import encode
from mlm.text import train_tokenizer

LINES = [f"the cat {n} sees the dog {n % 7}" for n in range(400)]


def test_long_documents_are_cut_at_white_space_and_give_the_same_ids(monkeypatch):
    tokenizer = train_tokenizer(LINES, vocabulary_size=80, lowercase=True)
    texts = [" ".join(LINES), "short", "", "\n".join(LINES[:50]), "x" * 500]
    whole = tokenizer.encode(texts)
    monkeypatch.setattr("mlm.text.pieces.PIECE", 97)
    monkeypatch.setattr(encode, "CHUNK", 200)
    cut = [ids.tolist() for ids in encode.encode(tokenizer, texts)]
    assert cut[:4] == whole[:4]
    assert set(cut[4]) == set(whole[4]) == {tokenizer.special.unk}  # a word no vocabulary has


def test_progress_is_told_now_and_then():
    said = []
    assert list(encode.with_progress(iter(["ab"] * 5), 10, said.append, every=0.0)) == ["ab"] * 5
    assert len(said) == 5 and "0 of 0 MB, " in said[0] and "s left" in said[0]
    said.clear()
    list(encode.with_progress(iter(["ab"] * 5), 10, said.append))
    assert not said


def test_progress_goes_on_where_it_was(monkeypatch):
    said, clock = [], iter(range(100))
    monkeypatch.setattr(encode.time, "monotonic", lambda: next(clock))
    megabyte = "x" * 1_000_000
    texts = encode.with_progress(iter([megabyte] * 6), 6_000_000, said.append, start=4, every=1)
    assert list(texts) == [megabyte] * 2
    # The clock starts after what was done before, and so does the speed.
    assert said == ["  5 of 6 MB, 1.0 MB/s, 1 s left", "  6 of 6 MB, 1.0 MB/s, 0 s left"]
