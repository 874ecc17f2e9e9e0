"""Pieces of text with their marks, on a row that is made by hand."""

import io
import types

import numpy as np
import pytest
from rich.console import Console

from mlm.config import load_config
from mlm.inspection.measure import measure
from mlm.inspection.sample import KEPT, MASK, NONE, RANDOM, Inspection, Masked
from mlm.inspection.sentences import Stretch, pick, pieces, stretches, words
from mlm.inspection.terminal import ASCII, STYLES, Signs, rates_tables, sentence, signs_of
from mlm.text import load_tokenizer

PIECES = "[PAD] [UNK] [CLS] [SEP] [MASK] the cat ##s walk ##ing ##ed home . dog".split()
ID = {piece: i for i, piece in enumerate(PIECES)}


@pytest.fixture
def inspection(tmp_path):
    """[CLS] the cat ##s walk ##ing home . [SEP] dog [SEP] [PAD], 'walk ##ing home' as one unit."""
    (tmp_path / "vocab.txt").write_text("\n".join(PIECES) + "\n")
    row = "[CLS] the cat ##s walk ##ing home . [SEP] dog [SEP] [PAD]".split()
    ids = np.array([[ID[piece] for piece in row]] * 2, np.int32)
    shown, fates = ids.copy(), np.full(ids.shape, NONE, np.int8)
    shown[0, 4:7] = [ID["[MASK]"], ID["##ed"], ID["home"]]
    fates[0, 4:7] = MASK, RANDOM, KEPT
    shown[0, 1], fates[0, 1] = ID["[MASK]"], MASK
    leaders = np.arange(ids.shape[1], dtype=np.int32)[None].repeat(2, 0)
    leaders[:, 4:7] = 4
    leaders[:, 2:4] = 2
    masked = Masked(
        name="config made@0.5",
        config=load_config("configs/default.py"),
        requested=0.5,
        copies=2,
        token_ids=ids,
        shown=shown,
        fates=fates,
        predicted=fates != NONE,
        leaders=leaders,
        selectable=ids > ID["[MASK]"],
        overflow=0,
        hash="ab" * 32,
    )
    tokenizer = load_tokenizer(tmp_path / "vocab.txt")
    return Inspection(
        config=masked.config,
        text=types.SimpleNamespace(tokenizer=tokenizer),
        rows="one row",
        masked=(masked,),
        continuations=np.array([piece.startswith("##") for piece in PIECES]),
        counts=np.ones(len(PIECES), int),
    )


WHOLE = Stretch(0, 1, 8)


def test_what_is_masked_can_be_read_without_colour(inspection):
    found = pieces(inspection, inspection.masked[0], WHOLE)
    plain = sentence(found, ASCII).plain
    assert plain == "[MASK] cats {[MASK]##ing>##ed =home} ."
    assert sentence(found, Signs()).plain == "[MASK] cats ⟦[MASK]##ing→##ed =home⟧ ."


def test_predicted_and_silent(inspection):
    masked = inspection.masked[0]
    masked.predicted[0, 4] = False
    assert sentence(pieces(inspection, masked, WHOLE), ASCII).plain == (
        "[MASK] cats {[MASK]~##ing>##ed =home} ."
    )


def test_colours_tell_the_fates_too(inspection):
    text = sentence(pieces(inspection, inspection.masked[0], WHOLE), ASCII)
    styled = {text.plain[s.start : s.end]: s.style for s in text.spans}
    assert styled["=home"] == STYLES[KEPT] and styled["ing>##ed"] == STYLES[RANDOM]
    assert styled["[MASK]"] == STYLES[MASK] and len(set(STYLES.values())) == 3


def test_stretches_lie_between_special_tokens(inspection):
    ids = inspection.masked[0].token_ids[::2]
    found = stretches(ids, inspection.tokenizer.special)
    assert found == [WHOLE, Stretch(0, 9, 10)]
    assert pick(inspection, 4) == found  # of any length, where there are not enough


def test_a_picked_sentence_is_neither_short_nor_long_nor_begun(inspection):
    special = inspection.tokenizer.special
    rows = np.full((3, 60), ID["dog"], np.int32)
    rows[0, :] = special.pad
    rows[0, 1:8] = ID["dog"]
    rows[2, [0, 20]] = special.sep
    rows[2, 21] = ID["##s"]
    object.__setattr__(inspection.masked[0], "token_ids", rows.repeat(2, 0))
    assert pick(inspection, 1) == [Stretch(2, 1, 20)]


def test_words_hold_their_pieces(inspection):
    found = words(pieces(inspection, inspection.masked[0], WHOLE))
    texts = ["".join(piece.original for piece in word) for word in found]
    assert texts == ["the", "cats", "walking", "home", "."]


def test_a_bracket_ends_where_a_sentence_does(inspection):
    found = pieces(inspection, inspection.masked[0], Stretch(0, 1, 6))
    assert sentence(found, ASCII).plain == "[MASK] cats {[MASK]##ing>##ed}"
    found = pieces(inspection, inspection.masked[0], Stretch(0, 6, 8))
    assert sentence(found, ASCII).plain == "=home ."


@pytest.mark.parametrize("width", [120, 70])
def test_the_table_says_what_was_measured(inspection, width):
    [masked] = inspection.masked
    found = measure(masked, continuations=inspection.continuations, counts=inspection.counts)
    console = Console(width=width, record=True, file=io.StringIO())
    tables = rates_tables([masked], [found], width=width)
    assert len(tables) == 1 + (width < 100)
    for table in tables:
        console.print(table)
    printed = [line for line in console.export_text().splitlines() if "made" in line]
    # Of 2 x 8 tokens 4 are selected, in two units and two runs, of 1 and of 3 tokens.
    cells = "0.5 0.2500 4 2 2.00 50.0% 25.0% 25.0% 0 abababababab".split()
    assert " ".join(printed).replace("config made@0.5", "").split() == cells


@pytest.mark.parametrize("encoding, signs", [("utf-8", Signs()), ("ascii", ASCII), ("", ASCII)])
def test_signs_suit_the_output(encoding, signs):
    assert signs_of(types.SimpleNamespace(encoding=encoding)) == signs
