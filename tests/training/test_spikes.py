"""The window of losses that spikes are told by: what enters it, and what does not."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mlm.training.spikes import DEVIATIONS, LEAST, WINDOW, no_losses, spike_limit, watch

step = jax.jit(watch)
NOISE = np.random.default_rng(0).normal(size=2000).astype(np.float32)


def feed(recent, losses, counts=True):
    """The window after some losses, and which of them were spikes."""
    spikes = []
    for loss in losses:
        spike, recent = step(recent, jnp.float32(loss), counts=jnp.bool_(counts))
        spikes.append(bool(spike))
    return recent, spikes


def test_the_limit_is_six_deviations_above_the_mean_of_the_last_losses():
    losses = 5 + 0.1 * NOISE[:300]
    recent, _ = feed(no_losses(), losses)
    np.testing.assert_array_equal(recent, losses[-WINDOW:])
    expected = losses[-WINDOW:].mean() + DEVIATIONS * losses[-WINDOW:].std(ddof=1)
    assert float(spike_limit(recent)) == pytest.approx(expected, rel=1e-5)
    assert feed(recent, [expected * 0.999])[1] == [False]
    assert feed(recent, [expected * 1.001])[1] == [True]


def test_nothing_is_a_spike_before_half_the_window_is_full():
    recent, spikes = feed(no_losses(), [5.0 + 0.1 * x for x in NOISE[: LEAST - 1]])
    assert not any(spikes) and np.isinf(spike_limit(recent))
    assert feed(recent, [1e6])[1] == [False]
    assert feed(feed(recent, [5.0])[0], [1e6])[1] == [True]


def test_what_is_not_finite_or_has_no_label_does_not_enter():
    recent, _ = feed(no_losses(), 5 + 0.1 * NOISE[:200])
    after, spikes = feed(recent, [np.nan, np.inf, 0.0], counts=False)
    np.testing.assert_array_equal(after, recent)
    assert spikes == [False] * 3
    assert not any(feed(after, 5 + 0.1 * NOISE[200:400])[1])  # the next step is no spike


def test_one_spike_does_not_hide_the_next():
    recent, _ = feed(no_losses(), 5 + 0.1 * NOISE[:200])
    before = float(spike_limit(recent))
    after, spikes = feed(recent, [500.0, 5.0, 500.0, 500.0])
    assert spikes == [True, False, True, True]
    assert float(spike_limit(after)) < before + 1


def test_losses_that_stay_high_are_ordinary_again():
    recent, _ = feed(no_losses(), 5 + 0.1 * NOISE[:200])
    _, spikes = feed(recent, 7 + 0.1 * NOISE[200:400])  # 20 deviations above
    assert 1 < sum(spikes) < 20 and not any(spikes[20:])


def test_losses_that_fall_as_in_training_are_none():
    steps = np.arange(700)
    losses = 5 + 2.6 * np.exp(-steps / 100) + 0.05 * NOISE[:700]
    assert not any(feed(no_losses(), losses)[1])


def test_equal_losses_are_none():
    assert not any(feed(no_losses(), np.full(400, np.float32(4.1)))[1])
