import jax.numpy as jnp
import numpy as np
import pytest

from mlm.training import masked_cross_entropy
from mlm.training.loss import masked_loss

RNG = np.random.default_rng(0)
LOGITS = RNG.normal(size=(3, 4, 7)).astype(np.float32)
LABELS = RNG.integers(0, 7, (3, 4)).astype(np.int32)
WEIGHTS = np.array([[1, 1, 0, 0], [0, 0, 0, 0], [1, 1, 1, 1]], np.float32)


def by_hand():
    log_probs = LOGITS - np.log(np.exp(LOGITS).sum(-1, keepdims=True))
    return -np.take_along_axis(log_probs, LABELS[..., None], -1)[..., 0]


def test_sums_over_filled_slots():
    sums = masked_cross_entropy(LOGITS, LABELS, WEIGHTS)
    np.testing.assert_allclose(sums.loss, (by_hand() * WEIGHTS).sum(), rtol=1e-6)
    assert sums.weight == 6
    assert sums.correct == ((LOGITS.argmax(-1) == LABELS) * WEIGHTS).sum()


def test_nothing_masked_gives_zero():
    sums = masked_cross_entropy(LOGITS, LABELS, jnp.zeros((3, 4)))
    assert [float(x) for x in sums] == [0, 0, 0]


def test_sums_over_devices_differ_from_a_mean_of_means():
    # Trap T10: run_mlm_flax averaged each device's mean, whatever the number of its masks.
    whole = masked_cross_entropy(LOGITS, LABELS, WEIGHTS)
    parts = [
        masked_cross_entropy(*(x[i : i + 1] for x in (LOGITS, LABELS, WEIGHTS))) for i in (0, 2)
    ]
    total = sum(p.loss for p in parts) / sum(p.weight for p in parts)
    np.testing.assert_allclose(total, whole.loss / whole.weight, rtol=1e-6)
    mean_of_means = np.mean([p.loss / p.weight for p in parts])
    assert abs(mean_of_means - total) > 0.01


def test_low_precision_logits_are_summed_in_float32():
    sums = masked_cross_entropy(jnp.asarray(LOGITS, jnp.bfloat16), LABELS, WEIGHTS)
    assert sums.loss.dtype == jnp.float32


def test_another_loss_is_summed_by_the_same_weights():
    squares = lambda logits, labels: jnp.square(jnp.sum(logits, -1) - labels)  # noqa: E731
    sums = masked_loss(LOGITS, LABELS, WEIGHTS, loss=squares)
    expected = ((LOGITS.sum(-1) - LABELS) ** 2 * WEIGHTS).sum()
    np.testing.assert_allclose(sums.loss, expected, rtol=1e-6)
    assert sums[1:] == masked_cross_entropy(LOGITS, LABELS, WEIGHTS)[1:]


def test_a_mean_is_no_loss_of_slots():
    with pytest.raises(ValueError, match=r"the loss has shape \(\) for labels \(3, 4\)"):
        masked_loss(LOGITS, LABELS, WEIGHTS, loss=lambda logits, labels: jnp.mean(logits))
