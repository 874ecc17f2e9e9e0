"""The quickstart's own text: what README and docs say of it."""

from mlm.data import make_rows, useful_share
from mlm.preparing import TextSettings, prepare


def test_packed_rows_of_the_builtin_corpus_hold_little_padding(tmp_path):
    settings = TextSettings(
        corpus="builtin:python_docs",
        document="paragraph",
        heldout_fraction=0.05,
        tokenizer="",
        vocabulary_size=2048,
        lowercase=True,
    )
    text = prepare(settings, cache_dir=tmp_path, say=str)
    assert 450_000 < text.train.token_count + text.heldout.token_count < 800_000
    assert text.tokenizer.vocabulary_size == 2048
    rows = make_rows(text.train, mode="packed", length=128, special=text.tokenizer.special)
    assert useful_share(rows) >= 0.93
    source = text.train.meta["source"]
    assert "python" in source and len(source["text"]) == 64
