"""One training step under `jax.jit`: mask, predict, add up, divide once, update.

Everything random follows from two keys and what the batch and the state carry: masks from each
row's visit and example id, dropout from the step counter. So the step is a pure function, and a
restarted run repeats it bit for bit. B batch, L length, P mask slots.
"""

from collections.abc import Callable, Collection
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh

from mlm.training.adaptive import Adaptive, id_sums, init_table, no_sums, update_table
from mlm.training.freezing import merge, split
from mlm.training.loss import LossSums, SlotLoss, cross_entropy, slot_scores, sum_scores
from mlm.training.optimizer import Schedule
from mlm.training.parameter_rules import state_shardings
from mlm.training.sharding import by_row, replicated
from mlm.training.spikes import no_losses, watch

Batch = dict[str, jax.Array]
Params = dict
# apply(params, batch, key=None) -> float32[B, P, V]; no key means no dropout.
Apply = Callable[..., jax.Array]
# mask(batch, step int32[], table) -> the batch with mask slots, and MaskCounts. The step is for
# schedules, the table for weights that adapt. It may give each row several times, copies side by
# side and masked apart: then every field has the rows of the copies.
Mask = Callable[[Batch, jax.Array, Any], tuple[Batch, "MaskCounts"]]


class TrainState(NamedTuple):
    """All that a checkpoint holds."""

    step: jax.Array  # int32[], batches seen; it advances also when an update is skipped
    params: Params  # float32
    opt_state: optax.OptState  # of the params that are not frozen
    mask_table: Any = ()  # what masking follows, see `mlm.training.adaptive`; () if nothing
    recent_losses: Any = ()  # what a spike is told by, see `mlm.training.spikes`; () if none is


class MaskCounts(NamedTuple):
    """What masking met in a batch, `float32[]` each."""

    selectable: jax.Array  # tokens that could have been selected, before rows are copied
    overflow: jax.Array  # selected tokens that found no slot
    corrupted: jax.Array  # tokens selected for corruption, predicted or not; of copies the mean


class StepMetrics(NamedTuple):
    """Sums and scalars of one step, `float32[]` each; sums add across steps."""

    sums: LossSums
    counts: MaskCounts
    tokens: jax.Array  # slots that are not padding
    grad_norm: jax.Array  # before clipping, of the params that are not frozen
    learning_rate: jax.Array
    finite: jax.Array  # bool[]; False: the update was skipped
    spike: jax.Array | bool = False  # bool[]; whether the loss is far above those before


def new_state(
    params: Params,
    tx: optax.GradientTransformation,
    *,
    frozen: Collection[str] = (),
    adapt: Adaptive | None = None,
) -> TrainState:
    """The state of step 0; under `jax.eval_shape` its shapes, which `state_shardings` takes."""
    opt_state = tx.init(split(params, frozen)[0])
    table = () if adapt is None else init_table(adapt)
    return TrainState(jnp.zeros((), jnp.int32), params, opt_state, table, no_losses())


def make_init_state(
    init_params: Callable[[jax.Array], Params],
    tx: optax.GradientTransformation,
    mesh: Mesh,
    *,
    frozen: Collection[str] = (),
    given: Params | None = None,
    adapt: Adaptive | None = None,
) -> Callable[[jax.Array], TrainState]:
    """`init_state(key) -> TrainState`, made on the mesh without passing through one device.

    Args:
      init_params: random params from a key.
      tx: the optimizer, which gets a state for the params outside `frozen`.
      mesh: where the state lies as `state_shardings` says.
      frozen: paths, see `mlm.training.freezing`.
      given: NumPy arrays to start from in place of random ones; the key has no say then.
      adapt: what masking follows; the state gets its table.
    """

    def state_of(params: Params) -> TrainState:
        return new_state(params, tx, frozen=frozen, adapt=adapt)

    params = given
    if given is None:
        params = jax.eval_shape(init_params, jax.random.key(0))
    shardings = state_shardings(jax.eval_shape(state_of, params), mesh)
    if given is not None:
        # As an argument: arrays that a jitted function closes over are compiled into it.
        whole = jax.jit(state_of, out_shardings=shardings)
        return lambda key: whole(jax.device_put(given, shardings.params))
    return jax.jit(lambda key: state_of(init_params(key)), out_shardings=shardings)


def make_train_step(
    apply: Apply,
    mask: Mask,
    tx: optax.GradientTransformation,
    schedule: Schedule,
    *,
    dropout_key: jax.Array,
    mesh: Mesh,
    shardings: TrainState | None = None,
    accumulation: int = 1,
    frozen: Collection[str] = (),
    loss: SlotLoss = cross_entropy,
    adapt: Adaptive | None = None,
    skip_spikes: bool = False,
) -> Callable[[TrainState, Batch], tuple[TrainState, StepMetrics]]:
    """`step(state, batch) -> (state, metrics)`; the given state's buffers are reused.

    The loss is the sum of the masked tokens' losses over the sum of their weights, in the whole
    batch, on any number of devices and microbatches; 0 when nothing is masked. Where it or the
    gradient is not finite, params, optimizer and table stay as they are.

    Args:
      apply: the model.
      mask: the masking transform, called once on the whole batch with the step and the table.
      tx, schedule: optimizer; the schedule is only reported.
      dropout_key: folded with the step, and with the microbatch.
      mesh: where rows are split over `ROW_AXES`.
      shardings: of the state, from `state_shardings`; by default it is whole on each device. Where
        they split params, `apply` is one that `on_mesh` made.
      accumulation: microbatches; it must divide the rows of each device.
      frozen: paths of params that stay as they are, see `mlm.training.freezing`.
      loss: of each mask slot, see `slot_scores`.
      adapt: what the table of the state averages; None: there is none.
      skip_spikes: whether an update is skipped as well where the loss is a spike.
    """

    def loss_sum(trained, rest, batch, key):
        logits = apply(merge(trained, rest), batch, key=key)
        labels, weights = batch["mask_ids"], batch["mask_weights"]
        scores = slot_scores(logits, labels, loss=loss)
        sums = sum_scores(scores, weights)
        by_id = () if adapt is None else id_sums(adapt, scores, labels, weights)
        return sums.loss, (sums, by_id)

    value_and_grad = jax.value_and_grad(loss_sum, has_aux=True)

    def gradient_sums(trained, rest, batch, key):
        if accumulation == 1:
            (_, sums), grads = value_and_grad(trained, rest, batch, key)
            return grads, sums

        def add_microbatch(totals, indexed):
            i, microbatch = indexed
            (_, sums), grads = value_and_grad(trained, rest, microbatch, jax.random.fold_in(key, i))
            return jax.tree.map(jnp.add, totals, (grads, sums)), None

        nothing = LossSums(*[jnp.zeros(())] * 3), () if adapt is None else no_sums(adapt)
        zeros = jax.tree.map(jnp.zeros_like, (trained, nothing))
        microbatches = jax.tree.map(lambda x: _split(x, accumulation), batch)
        return jax.lax.scan(add_microbatch, zeros, (jnp.arange(accumulation), microbatches))[0]

    def train_step(state: TrainState, batch: Batch) -> tuple[TrainState, StepMetrics]:
        table = state.mask_table
        masked, counts = mask(batch, state.step, table)
        key = jax.random.fold_in(dropout_key, state.step)
        trained, rest = split(state.params, frozen)
        grads, (sums, by_id) = gradient_sums(trained, rest, masked, key)
        weight = jnp.where(sums.weight > 0, sums.weight, 1)
        grads = jax.tree.map(lambda g: g / weight, grads)
        grad_norm = optax.tree.norm(grads)
        finite = jnp.isfinite(sums.loss) & jnp.isfinite(grad_norm)
        recent, spike = state.recent_losses, jnp.bool_(False)
        if jax.tree.leaves(recent):
            met = finite & (sums.weight > 0)
            spike, recent = watch(recent, sums.loss / weight, counts=met)
        taken = finite & ~spike if skip_spikes else finite

        updates, opt_state = tx.update(grads, state.opt_state, trained)
        updated = optax.apply_updates(trained, updates)
        # A selection, not a product: 0 * NaN is NaN.
        keep = lambda new, old: jnp.where(taken, new, old)  # noqa: E731
        new_state = TrainState(
            state.step + 1,
            merge(jax.tree.map(keep, updated, trained), rest),
            jax.tree.map(keep, opt_state, state.opt_state),
            table if adapt is None else keep(update_table(adapt, table, by_id), table),
            recent,
        )
        # An integer as the counts are, so that XLA adds them up over devices at once: two sums at
        # the same time have made eight virtual devices on two cores wait for each other.
        tokens = jnp.sum(batch["padding_mask"], dtype=jnp.int32).astype(jnp.float32)
        rate = jnp.asarray(schedule(state.step), jnp.float32)
        return new_state, StepMetrics(sums, counts, tokens, grad_norm, rate, finite, spike)

    state_at = replicated(mesh) if shardings is None else shardings
    return jax.jit(
        train_step,
        in_shardings=(state_at, by_row(mesh)),
        out_shardings=(state_at, replicated(mesh)),
        donate_argnums=0,
    )


def _split(rows: jax.Array, parts: int) -> jax.Array:
    """`[B, ...]` to `[parts, B / parts, ...]` such that each device keeps its own rows."""
    return rows.reshape(-1, parts, *rows.shape[1:]).swapaxes(0, 1)
