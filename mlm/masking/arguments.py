"""What `mask_tokens` may be called with, as far as it is known outside of jit.

B batch, L length, P mask slots, V vocabulary, R ids that replacements are drawn from.
"""

import jax
import jax.numpy as jnp
import numpy as np

from mlm.masking.keys import check_keys
from mlm.masking.spec import MaskingSpec, as_integer, check_rate, check_split, required_slots

Rate = float | jax.Array


def check_arguments(
    keys, token_ids, spec, unit_starts, weights, random_cdf, *, copies: int
) -> None:
    """Raises ValueError unless types and shapes are those that `mask_tokens` names."""
    if not isinstance(spec, MaskingSpec):
        raise ValueError(f"spec is {spec!r}; give a MaskingSpec")
    check_keys(keys)
    if not _is_array(token_ids):
        raise ValueError(f"token_ids are {type(token_ids).__name__}; give an int32[B, L] array")
    if token_ids.ndim != 2 or keys.shape != token_ids.shape[:1]:
        raise ValueError(
            f"token_ids have shape {token_ids.shape} and keys {keys.shape}; give int32[B, L] ids "
            "and key[B], one key per row"
        )
    if not jnp.issubdtype(token_ids.dtype, jnp.integer):
        raise ValueError(f"token_ids are {token_ids.dtype}; give integers")
    shape, ids = token_ids.shape, (spec.vocabulary_size,)
    _check_array("unit_starts", unit_starts, (shape,), jnp.bool_)
    _check_array("weights", weights, (ids, shape), jnp.floating)
    if random_cdf is not None:  # to list the ids takes a millisecond
        _check_array("random_cdf", random_cdf, (spec.replacement_ids.shape,), jnp.uint32)
    if weights is not None and spec.count == "bernoulli":
        raise ValueError(
            "weights are given and count is 'bernoulli'; a coin per token knows no race: choose "
            "count 'stochastic' or 'exact'"
        )
    _check_weights(weights)
    if as_integer("copies", copies) < 1:
        raise ValueError(f"copies is {copies}; give the number of copies of each row, 1 or more")
    if copies > 1 and spec.count == "bernoulli":
        raise ValueError(
            f"copies is {copies} and count is 'bernoulli', whose coins fall alike in every copy; "
            "choose count 'stochastic' or 'exact'"
        )


def read_rates(
    spec: MaskingSpec,
    shape: tuple[int, int],
    *,
    rate: Rate,
    units: bool,
    copies: int,
    **others: Rate | None,
) -> dict[str, jax.Array | np.ndarray]:
    """The rates as `float32[]` or `float32[B]`, the split of `spec` where none is given.

    Raises:
      ValueError: where they are not traced, for values that `mask_tokens` refuses.
    """
    for name in ("mask_token_rate", "random_token_rate"):
        others[name] = getattr(spec, name) if others[name] is None else others[name]
    rates = {"rate": rate} | {n: r for n, r in others.items() if r is not None}
    rates = {name: _read_rate(name, r, rows=shape[0]) for name, r in rates.items()}
    _check_split(rates["mask_token_rate"], rates["random_token_rate"])
    selected, predicted = rates["rate"], rates.get("prediction_rate")
    _check_copies(selected, copies)
    if predicted is None:
        _check_slots(selected, spec, "mask_selection_length", shape[1], units)
        return rates
    larger = "mask_selection_length" if spec.corruption_length is None else "corruption_length"
    _check_slots(selected, spec, larger, shape[1], units)
    _check_slots(predicted, spec, "mask_selection_length", shape[1], units)
    _check_prediction(predicted, selected)
    return rates


def _is_array(value) -> bool:
    return isinstance(value, (jax.Array, np.ndarray))


def _check_array(name: str, value, shapes, dtype) -> None:
    if value is None:
        return
    if not _is_array(value) or not jnp.issubdtype(value.dtype, dtype) or value.shape not in shapes:
        found = f"{value.dtype}{list(value.shape)}" if _is_array(value) else type(value).__name__
        wanted = " or ".join(str(list(shape)) for shape in shapes)
        raise ValueError(f"{name} are {found}; give {dtype.__name__} of shape {wanted}")


def _check_weights(weights) -> None:
    if isinstance(weights, np.ndarray) and not (np.isfinite(weights) & (weights >= 0)).all():
        wrong = weights[~(np.isfinite(weights) & (weights >= 0))][0]
        raise ValueError(f"weights hold {wrong}; give finite numbers, 0 or more")


def _read_rate(name: str, rate: Rate, *, rows: int) -> jax.Array | np.ndarray:
    """`float32[]` or `float32[B]`; NumPy where it is not traced, checked there."""
    if _traced(rate):
        rates = rate.astype(jnp.float32)
    elif _is_array(rate):
        rates = np.asarray(rate, np.float32)
        for extreme in (rates.min(), rates.max()) if rates.size else ():
            check_rate(float(extreme), name)
    else:
        check_rate(rate, name)
        rates = np.float32(rate)
    if rates.shape not in ((), (rows,)):
        raise ValueError(f"{name} has shape {rates.shape}; give one share, or float32[{rows}]")
    return rates


def _check_split(mask_token_rate, random_token_rate) -> None:
    if not _traced(mask_token_rate) and not _traced(random_token_rate):
        pairs = np.broadcast_arrays(mask_token_rate, random_token_rate)
        if pairs[0].size:
            largest = np.argmax(np.add(*pairs))
            check_split(*(float(share.flat[largest]) for share in pairs))


def _check_copies(rate, copies: int) -> None:
    if not _traced(rate) and rate.size and rate.max() * copies > 1 + 1e-6:
        raise ValueError(
            f"copies is {copies} and rate {rate.max():g}: disjoint copies select {copies} times "
            f"that, more than there is; give {int(1 / rate.max() + 1e-6)} copies or a lower rate"
        )


def _check_prediction(predicted, selected) -> None:
    if _traced(predicted) or _traced(selected) or not np.any(predicted > selected):
        return
    pairs = np.broadcast_arrays(predicted, selected)
    low, high = (rates.flat[np.argmax(np.subtract(*pairs))] for rates in pairs)
    raise ValueError(
        f"prediction_rate {low:g} is above rate {high:g}; predict what is selected, or more by "
        "copies"
    )


def _check_slots(rate, spec: MaskingSpec, field: str, length: int, units: bool) -> None:
    if spec.overflow == "drop" or _traced(rate) or not rate.size:
        return
    largest, slots = float(rate.max()), getattr(spec, field)
    needed = required_slots(largest, length, spec.count, units=units)
    if needed > slots:
        raise ValueError(
            f"{field} {slots} is too small: rate {largest:g} of {length} tokens may select "
            f"{needed}; raise it, or say overflow='drop' to drop the rest at random"
        )


def _traced(value) -> bool:
    return isinstance(value, jax.core.Tracer)
