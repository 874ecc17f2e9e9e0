"""What masks of every kind of unit, uniform and weighted, do and do not depend on."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec
from mask_kinds import (
    CONTINUES,
    IDS,
    KINDS,
    MASK,
    PAD,
    ROOT,
    ROWS,
    SPECIAL,
    TABLE,
    L,
    V,
    compiled,
    make_spec,
    mask,
    selectable,
    starts_of,
    units_of,
    where,
)

from mlm.masking import mask_tokens, row_keys, transform

WEIGHTED = ("token", "word", "span")
every = pytest.mark.parametrize(
    ("kind", "arrays"),
    [(kind, {}) for kind in KINDS] + [(kind, {"weights": TABLE}) for kind in WEIGHTED],
    ids=[f"{kind}-uniform" for kind in KINDS] + [f"{kind}-weighted" for kind in WEIGHTED],
)


def assert_equal(some, others):
    for one, other in zip(some, others, strict=True):
        np.testing.assert_array_equal(one, other)


@every
def test_masks_do_not_depend_on_order_batch_size_or_padding(kind, arrays):
    whole = mask(kind, IDS, **arrays)
    order = np.random.default_rng(3).permutation(ROWS)[:24]
    wide = np.pad(IDS[order], ((0, 0), (0, 23)), constant_values=PAD)
    part = mask(kind, wide, examples=order, **arrays)
    assert (part.token_ids[:, L:] == PAD).all()
    part = part._replace(token_ids=part.token_ids[:, :L])
    assert_equal([x[order] for x in whole], part)
    assert (whole.mask_weights.sum(axis=1) > 0).mean() > 0.8


@every
def test_each_visit_draws_anew_and_a_batch_may_straddle_two(kind, arrays):
    first, second = (mask(kind, IDS, visits=visit, **arrays) for visit in (0, 1))
    assert (where(first) == where(second)).all(axis=1).mean() < 0.3
    both = mask(kind, IDS, visits=np.arange(ROWS) % 2, **arrays)
    assert_equal([x[::2] for x in both], [x[::2] for x in first])
    assert_equal([x[1::2] for x in both], [x[1::2] for x in second])


@every
def test_whole_units_and_never_specials(kind, arrays):
    masked = mask(kind, IDS, 0.3, **arrays)
    hidden, units = where(masked), units_of(kind, IDS)
    assert not (hidden & ~selectable(IDS)).any() and hidden.sum() > 5000
    assert (hidden == np.take_along_axis(hidden, units.leaders, axis=1)).all()
    shown = masked.token_ids[hidden]
    assert not np.isin(shown, np.setdiff1d(SPECIAL, MASK)).any() and (shown == MASK).any()
    np.testing.assert_array_equal(masked.token_ids[~hidden], IDS[~hidden])
    filled = masked.mask_weights > 0
    np.testing.assert_array_equal(masked.mask_ids[filled], IDS[hidden])
    assert not masked.mask_ids[~filled].any() and not masked.overflow.any()
    np.testing.assert_array_equal(masked.corrupted, hidden.sum(axis=1))


@pytest.mark.parametrize("kind", KINDS)
def test_masks_are_the_same_on_eight_devices(kind):
    mesh = jax.make_mesh((8,), ("data",), axis_types=(AxisType.Auto,))
    rows = NamedSharding(mesh, PartitionSpec("data"))
    placed = jax.device_put((IDS, np.arange(ROWS), np.zeros(ROWS, np.int32)), rows)
    sharded = compiled(kind, make_spec(kind))(*placed, 0.15, {"weights": TABLE})
    assert len(sharded.token_ids.sharding.device_set) == 8
    assert_equal(mask(kind, IDS, weights=TABLE), jax.device_get(sharded))


@pytest.mark.parametrize("kind", ["word", "span"])
def test_masks_are_the_same_without_jit(kind):
    keys, spec = row_keys(ROOT, 0, jnp.arange(ROWS)), make_spec(kind)
    starts = starts_of(kind, keys, IDS, spec)
    masked = mask_tokens(keys, IDS, spec, rate=0.15, unit_starts=starts, weights=TABLE)
    assert_equal(mask(kind, IDS, weights=TABLE), masked)
    by_position = mask_tokens(keys, IDS, spec, rate=0.15, unit_starts=starts, weights=TABLE[IDS])
    assert_equal(masked, by_position)


def test_64_bit_mode_changes_nothing():
    kind = "ngram"
    narrow = mask(kind, IDS, copies=2, weights=TABLE, prediction_rate=0.1)
    with jax.enable_x64(True):
        wide = mask(
            kind, IDS, copies=2, weights=TABLE.astype(np.float64), prediction_rate=np.float64(0.1)
        )
    assert [x.dtype for x in wide] == [x.dtype for x in narrow]
    assert_equal(narrow, wide)


def test_vmap_over_rates_splits_and_weights():
    kind = "span"
    ids, spec = IDS[:16], make_spec(kind)
    arms = {
        "rate": np.array([0.15, 0.4, 0.15], np.float32),
        "mask_token_rate": np.array([0.8, 0.5, 0.0], np.float32),
        "weights": np.stack([TABLE, np.ones_like(TABLE), 1 / TABLE]),
    }
    keys = row_keys(ROOT, 0, jnp.arange(16))
    starts = starts_of(kind, keys, ids, spec)
    several = jax.vmap(lambda arm: mask_tokens(keys, ids, spec, unit_starts=starts, **arm))(arms)
    for i in range(3):
        arm = {name: values[i] for name, values in arms.items()}
        alone = mask_tokens(keys, ids, spec, unit_starts=starts, **arm)
        assert_equal(alone, [x[i] for x in several])


def test_vmap_over_unit_starts():
    ids, spec = IDS[:16], make_spec("bitmap")
    keys = row_keys(ROOT, 0, jnp.arange(16))
    starts = np.stack([ids % 3 == 0, ids % 5 < 2])
    several = jax.vmap(lambda s: mask_tokens(keys, ids, spec, rate=0.3, unit_starts=s))(starts)
    for i in range(2):
        alone = mask_tokens(keys, ids, spec, rate=0.3, unit_starts=starts[i])
        assert_equal(alone, [x[i] for x in several])


def test_rates_splits_and_tables_of_one_shape_share_a_compilation():
    kind = "span"
    traces, spec = [], make_spec(kind)
    r = len(spec.replacement_ids)

    @jax.jit
    def masked(rate, arrays):
        traces.append(kind)
        keys = row_keys(ROOT, 0, jnp.arange(16))
        starts = starts_of(kind, keys, IDS[:16], spec)
        return mask_tokens(keys, IDS[:16], spec, rate=rate, unit_starts=starts, **arrays)

    seen = set()
    for i in range(4):
        table, law = TABLE ** (i - 1), np.linspace(0, 2**32 - 1, r) * 0.9**i
        shares = {"mask_token_rate": 0.2 * i, "prediction_rate": 0.05 * (i + 1)}
        arrays = {"weights": table, "random_cdf": law.astype(np.uint32), **shares}
        seen.add(np.asarray(masked(0.1 * (i + 1), arrays).token_ids).tobytes())
    assert len(traces) == 1 and len(seen) == 4


def test_eager_calls_compile_once_for_all_rates():
    keys = row_keys(ROOT, 0, jnp.arange(5))
    given = {"unit_starts": IDS[:5] % 3 == 0}
    before = transform._mask._cache_size()
    for rate in (0.1, 0.2, np.float32(0.3), jnp.float32(0.4)):
        for table in (TABLE, 1 / TABLE):
            mask_tokens(keys, IDS[:5], make_spec(), rate=rate, weights=table, **given)
    assert transform._mask._cache_size() - before == 1


def test_a_table_of_another_type_makes_the_same_masks():
    table = (TABLE * 8).round() / 8  # the same in half precision
    expected = mask("word", IDS, weights=table)
    assert_equal(expected, mask("word", IDS, weights=table.astype(np.float16)))


@pytest.mark.parametrize("kind", ["token", "word"])
def test_no_weight_at_all_selects_nothing_and_bad_traced_ones_count_as_none(kind):
    for table in (np.zeros(V), np.full(V, np.nan), -TABLE):
        masked = mask(kind, IDS, weights=jnp.asarray(table, jnp.float32))
        assert not where(masked).any() and not masked.overflow.any()
        np.testing.assert_array_equal(masked.token_ids, IDS)
    # Half of the ids weigh nothing: the rate is still one of all tokens.
    half = np.where(np.arange(V) % 2, 1, 0).astype(np.float32)
    masked = mask("token", IDS, 0.3, weights=half)
    assert (masked.mask_ids[masked.mask_weights > 0] % 2 == 1).all()
    n = selectable(IDS).sum(axis=1)
    short = (IDS % 2 == 1) & selectable(IDS)
    assert (where(masked).sum(axis=1) >= np.minimum(np.floor(0.3 * n), short.sum(axis=1))).all()


def test_continuations_alone_are_one_word():
    ids = np.full((4, 10), np.flatnonzero(CONTINUES)[0], np.int32)
    for rate, hidden in ((0.9, 0), (1.0, 40)):
        assert where(mask("word", ids, rate), 10).sum() == hidden
    cut = mask("word", ids, 0.5, spec=make_spec("word", fit="truncate"))
    assert where(cut, 10).sum(axis=1).tolist() == [5] * 4
