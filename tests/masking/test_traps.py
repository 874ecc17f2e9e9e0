"""What existing tools get wrong, each shown not to happen here. The tools are those that were read.

T7 for frozen evaluation masks is also in tests/evaluation/test_frozen.py, T10 for the loss in
tests/training/test_loss.py and for the whole step in tests/training/test_step.py.
"""

import random

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from mask_kinds import (
    CLS,
    IDS,
    KINDS,
    MASK,
    PAD,
    ROOT,
    ROWS,
    SEP,
    SPECIAL,
    TABLE,
    V,
    make_spec,
    mask,
    selectable,
    where,
)

from mlm.masking import MaskedLMMaskGenerator, MaskingSpec, mask_tokens, required_slots, row_keys
from mlm.masking.units import make_units, word_starts

every_kind = pytest.mark.parametrize("kind", KINDS)


@pytest.mark.parametrize("rate", [0.2, 0.8])
def test_t1_slots_that_cap_the_rate_are_refused_or_counted(rate):
    # KerasHub: 512 tokens and 96 slots make 18.8 % of every rate from 20 % on.
    keys, ids = row_keys(ROOT, 0, jnp.arange(2)), np.full((2, 512), 9, np.int32)
    capped = MaskingSpec(V, MASK, 96, SPECIAL)
    with pytest.raises(ValueError, match=f"96 is too small: rate {rate:g} of 512 tokens"):
        mask_tokens(keys, ids, capped, rate=rate)
    traced = jax.jit(lambda rate: mask_tokens(keys, ids, capped, rate=rate))(rate)
    assert (traced.overflow == np.ceil(rate * 512 - 1e-6) - 96).all()
    held = MaskingSpec(V, MASK, required_slots(rate, 512, "exact"), SPECIAL)
    masked = mask_tokens(keys, ids, held, rate=rate)
    assert (masked.mask_weights.sum(axis=1) == np.ceil(rate * 512 - 1e-6)).all()


def test_t2_one_law_inside_and_outside_of_jit_and_no_global_randomness():
    # KerasHub: exactly ceil(rate n) in TensorFlow, coins of the global `random` in Python.
    masker = MaskedLMMaskGenerator(V, 0.15, MASK, 8, SPECIAL, seed=3)
    key, rows = jax.random.key(1), IDS[:16]
    random.seed(0), np.random.seed(0)
    outside = masker(rows, key=key)
    random.seed(1), np.random.seed(1)
    inside = jax.jit(lambda rows: masker(rows, key=key))(rows)
    for name, value in outside.items():
        np.testing.assert_array_equal(value, inside[name])
    n = selectable(rows).sum(axis=1)
    np.testing.assert_array_equal(outside["mask_weights"].sum(axis=1), np.ceil(0.15 * n - 1e-6))


@every_kind
def test_t3_random_tokens_are_never_special(kind):
    # KerasHub, both Hugging Face collators, BERT and cramming draw from the whole vocabulary.
    masked = mask(kind, IDS, 0.9, mask_token_rate=0.0, random_token_rate=1.0)
    drawn = masked.token_ids[where(masked)]
    assert drawn.size > 3000 and not np.isin(drawn, SPECIAL).any()


def test_t3_the_originals_draw_is_there_to_be_asked_for():
    spec = make_spec(random_ids="vocabulary")
    theirs = mask("token", IDS, 0.9, spec=spec, mask_token_rate=0.0, random_token_rate=1.0)
    assert np.isin(theirs.token_ids[where(theirs)], SPECIAL).any()


def test_t4_the_usual_predictions_per_sequence_hold_15_percent_and_no_more():
    # BERT: max_predictions_per_seq=20 makes 15.6 % of every rate above; and copies that are static.
    keys, ids = row_keys(ROOT, 0, jnp.arange(2)), np.full((2, 128), 9, np.int32)
    spec = MaskingSpec(V, MASK, 20, SPECIAL)
    assert (mask_tokens(keys, ids, spec, rate=0.15).mask_weights == 1).all()
    with pytest.raises(ValueError, match="20 is too small: rate 0.16 of 128 tokens may select 21"):
        mask_tokens(keys, ids, spec, rate=0.16)


@every_kind
@pytest.mark.parametrize("rate", [0.15, 0.4])
def test_t5_nothing_is_selected_twice(kind, rate):
    # ELECTRA draws positions with replacement: 13.8 % of 15 %, and 33 % of 40 %.
    masked = mask(kind, IDS, rate, spec=make_spec(kind, fit="truncate"))
    for positions, filled in zip(masked.mask_positions, masked.mask_weights > 0, strict=True):
        assert len(set(positions[filled])) == filled.sum()
    assert abs(where(masked).sum() / selectable(IDS).sum() - rate) < 0.005


@every_kind
def test_t6_specials_stay_and_no_row_knows_its_batch(kind):
    # ModernBERT's packer masks [CLS], [SEP] and padding, and draws random ids below the batch's
    # largest; every rank draws alike.
    masked = mask(kind, IDS, 0.3, weights=TABLE)
    special = np.isin(IDS, (PAD, CLS, SEP))
    np.testing.assert_array_equal(masked.token_ids[special], IDS[special])
    others = np.where(np.arange(ROWS)[:, None] == 7, IDS, IDS[::-1])
    for one, row in zip(mask(kind, others, 0.3, weights=TABLE), masked, strict=True):
        np.testing.assert_array_equal(one[7], row[7])
    low = np.where(special, IDS, 5)
    drawn = mask("token", low, 0.9, mask_token_rate=0.0, random_token_rate=1.0)
    assert drawn.token_ids.max() > 5
    same = mask(kind, np.tile(IDS[:1], (ROWS, 1)), 0.3)  # as on many ranks: other examples
    assert len(np.unique(same.token_ids, axis=0)) > 1


@every_kind
def test_t7_masks_do_not_advance_with_calls(kind):
    # Hugging Face's collator has a seed, but its generator goes on from call to call.
    first = mask(kind, IDS)
    mask(kind, IDS, examples=np.arange(ROWS, 2 * ROWS))
    for one, other in zip(first, mask(kind, IDS), strict=True):
        np.testing.assert_array_equal(one, other)


def test_t8_words_keep_the_split_and_punctuation_and_ideographs_are_words():
    # Hugging Face's whole words are all [MASK]; "Hello," is one word, a Chinese sentence another.
    pieces = ["[CLS]", "hel", "##lo", ",", "我", "喜", "欢", "!", "[SEP]"]
    vocabulary = sorted(set(pieces))
    ids = jnp.array([[vocabulary.index(piece) for piece in pieces]])
    continues = np.array([piece.startswith("##") for piece in vocabulary])
    selectable_ = jnp.array([[not piece.startswith("[") for piece in pieces]])
    units = make_units(selectable_, word_starts(ids, continues))
    assert units.leaders[0].tolist() == [0, 1, 1, 3, 4, 5, 6, 7, 8]
    masked = mask("word", IDS, 0.4)
    shown, labels = masked.token_ids[where(masked)], IDS[where(masked)]
    shares = [(shown == MASK).mean(), (shown == labels).mean()]
    np.testing.assert_allclose(shares, [0.8, 0.1], atol=5 * 0.4 / np.sqrt(shown.size))


@every_kind
@pytest.mark.parametrize("rate", [0.99, 1.0])
def test_t9_first_and_last_tokens_are_left_alone(kind, rate):
    # fairseq and DinkyTrain select what they have put around the text.
    masked = mask(kind, IDS, rate, spec=make_spec(kind, fit="truncate"))
    hidden = where(masked)
    assert not hidden[IDS == CLS].any() and not hidden[IDS == SEP].any()
    if rate == 1:
        np.testing.assert_array_equal(hidden, selectable(IDS))


def test_t10_slots_without_a_token_weigh_nothing_wherever_the_rows_are():
    # run_mlm_flax averages the means of devices. A sum over slots needs no device's own mean: rows
    # without masks weigh 0, and all others 1 for each token.
    ids = np.where(np.arange(ROWS)[:, None] < 128, PAD, IDS)
    masked = mask("word", ids)
    assert not masked.mask_weights[:128].any()
    assert masked.mask_weights.sum() == masked.corrupted.sum() == where(masked).sum()


@pytest.mark.parametrize("kind", ["word", "span"])
def test_t11_the_rate_of_a_row_is_not_redrawn_with_its_mask(kind):
    # "Dynamic" means other tokens at each visit, not another number of them.
    spec = make_spec(kind, count="exact", fit="truncate")
    first, second = (mask(kind, IDS, spec=spec, visits=visit) for visit in (0, 1))
    np.testing.assert_array_equal(first.corrupted, second.corrupted)
    assert (where(first) != where(second)).any(axis=1).mean() > 0.9


@pytest.mark.parametrize("n", [1, 2, 3, 5])
def test_t12_short_rows_have_no_higher_rate(n):
    # max(1, round(rate n)) makes 33 % of 15 % in rows of three tokens.
    ids = np.full((4000, 5), PAD, np.int32)
    ids[:, :n] = 9
    masked = mask("token", ids, 0.15)
    share = masked.mask_weights.sum() / (4000 * n)
    assert abs(share - 0.15) < 5 * 0.5 / np.sqrt(4000) / n
    # 'exact' is KerasHub's rule, and does; who asks for it gets it.
    forced = mask("token", ids, 0.15, spec=make_spec(count="exact"))
    assert (forced.mask_weights.sum(axis=1) == 1).all()
