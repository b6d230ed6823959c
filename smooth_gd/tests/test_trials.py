"""Learning trial by trial, of trials that are made up."""

import jax.numpy as jnp
import optax
import pytest

from shared.errors import UserError
from smooth_gd.experiments.trials import TRIALS, Learning, Trial


def learning_with(n_events, optimiser=lambda K: optax.sgd(0.1)):
    """Learns x = 0 in trials with a number of events."""

    def loss(x, K):
        return x**2, Trial(jnp.asarray(n_events < K), {"K": jnp.asarray(K)})

    return Learning(loss, optimiser, jnp.ones(()), 16)


def test_room_for_events_doubles(capsys):
    learning = learning_with(40)
    row = learning.train_epoch()
    assert learning.K == 64
    assert row["loss"] < 1e-9
    assert list(learning.history["K"]) == [64] * TRIALS  # trials that were cut short do not count
    assert capsys.readouterr().out.splitlines() == [
        "a trial has more than 16 events: trying 32",
        "a trial has more than 32 events: trying 64",
    ]


def test_a_network_that_runs_away_is_told():
    learning = learning_with(1024)
    with pytest.raises(UserError, match=r"the network runs away, .* 1024 events: lower --lr"):
        learning.train_epoch()
    learning_with(1023).train_epoch()


def test_the_optimiser_knows_the_number_of_events():
    seen = []

    def optimiser(K):
        seen.append(K)
        return optax.sgd(0.1)

    learning_with(20, optimiser).train_epoch()
    assert seen == [16, 16, 32]  # the start, and each try
