"""Each piece knows where its document goes on."""

import numpy as np
import pytest

from mlm.data import make_neighbours, make_rows, read_rows
from mlm.errors import ConfigError

PAD, CLS, SEP = 0, 1, 2


def piece(rows, row, segment):
    batch = read_rows(rows, [row])
    ids = batch["token_ids"][0]
    chosen = batch["segment_ids"][0] == segment if rows.mode == "packed" else ids != PAD
    return [token for token in ids[chosen].tolist() if token not in (CLS, SEP)]


@pytest.mark.parametrize("mode", ["packed", "document"])
@pytest.mark.parametrize("length, overlap", [(8, 0), (16, 0), (16, 5), (64, 0)])
def test_documents_can_be_read_from_piece_to_piece(store, corpus, special, mode, length, overlap):
    rows = make_rows(store, mode=mode, length=length, special=special, overlap=overlap)
    found = make_neighbours(rows)(np.arange(len(rows)))
    places = list(zip(found.row.tolist(), found.segment.tolist(), strict=True))
    after = dict(zip(places, zip(found.after_row, found.after_segment, strict=True), strict=True))
    before = dict(
        zip(places, zip(found.before_row, found.before_segment, strict=True), strict=True)
    )
    documents = []
    for place in places:
        if before[place] != (-1, -1):
            continue
        text, here = piece(rows, *place), place
        while after[here] != (-1, -1):
            assert before[after[here]] == here
            here = after[here]
            text += piece(rows, *here)[overlap:]
        documents.append(text)
    assert sorted(documents) == sorted(corpus)


def test_any_rows_in_any_order(store, special):
    rows = make_rows(store, mode="packed", length=16, special=special)
    neighbours = make_neighbours(rows)
    whole, some = neighbours(np.arange(len(rows))), neighbours([5, 0, 5])
    for name in whole._fields:
        column = getattr(whole, name)
        expected = np.concatenate([column[whole.row == row] for row in (5, 0, 5)])
        assert np.array_equal(getattr(some, name), expected)


def test_blocks_have_none(store, special):
    with pytest.raises(ConfigError, match="the text of row r goes on in row r . 1"):
        make_neighbours(make_rows(store, mode="blocks", length=16, special=special))
