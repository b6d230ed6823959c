"""AdaBelief as the published program had it, against its equations one number at a time."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from smooth_gd.experiments.belief import EPS, adabelief
from smooth_gd.experiments.rnn import rnn

B1, B2 = 0.9, 0.99


def written_out(gradients, rates, b1, b2):
    """Steps of one parameter."""
    mean, spread, steps = 0.0, 0.0, []
    for t, (gradient, rate) in enumerate(zip(gradients, rates, strict=True), start=1):
        surprise = gradient - mean
        mean = b1 * mean + (1 - b1) * gradient
        spread = b2 * spread + (1 - b2) * surprise**2 + EPS
        size = np.sqrt(spread / (1 - b2**t)) + EPS
        steps.append(-rate * mean / (1 - b1**t) / size)
    return steps


@pytest.mark.parametrize("sizes", [1.0, 1e-9])
def test_steps_are_those_of_the_equations(sizes):
    gradients = sizes * np.random.default_rng(0).normal(size=(30, 4))
    gradients[10:] = gradients[10]  # no surprise any more: steps grow
    schedule = optax.exponential_decay(0.1, 20, 0.5)
    optimizer = adabelief(schedule, B1, B2)
    state, found = optimizer.init(jnp.zeros(4)), []
    for gradient in gradients:
        step, state = optimizer.update(jnp.asarray(gradient), state)
        found.append(step)
    rates = [float(schedule(jnp.asarray(t, jnp.int32))) for t in range(len(gradients))]
    expected = np.transpose([written_out(own, rates, B1, B2) for own in gradients.T])
    np.testing.assert_allclose(found, expected, rtol=1e-10)


def test_the_first_step_is_one_of_the_step_size():
    optimizer = rnn.optimizer(1e-2)
    parameters = {"w": jnp.asarray([0.3, -2.0]), "x": jnp.asarray(0.7)}
    steps, _ = optimizer.update(parameters, optimizer.init(parameters))
    for gradient, step in zip(jax.tree.leaves(parameters), jax.tree.leaves(steps), strict=True):
        np.testing.assert_allclose(step, np.float32(-1e-2) * np.sign(gradient), rtol=1e-9)
