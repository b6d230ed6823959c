"""Learning trial by trial, of trials that are made up."""

import jax.numpy as jnp
import numpy as np
import optax
import pytest

from shared.errors import UserError
from shared.run import Run
from smooth_gd.experiments.trials import TRIALS, Learning, Trial, numbered, restored


def learning_with(n_events, optimizer=lambda K: optax.sgd(0.1)):
    """Learns x = 0 in trials with a number of events."""

    def loss(x, K):
        return x**2, Trial(jnp.asarray(n_events < K), {"K": jnp.asarray(K)})

    return Learning(loss, optimizer, jnp.ones(()), 16)


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


def test_the_optimizer_knows_the_number_of_events():
    seen = []

    def optimizer(K):
        seen.append(K)
        return optax.sgd(0.1)

    learning_with(20, optimizer).train_epoch()
    assert seen == [16, 16, 32]  # the start, and each try


def test_arrays_come_back_in_their_places():
    state = (np.ones((2, 3)), {"m": np.zeros(4)})
    saved = (np.full((2, 3), 2.0), {"m": np.full(4, -1.0)})
    again = restored(state, {"network": numbered(saved)})
    np.testing.assert_array_equal(again[0], saved[0])
    np.testing.assert_array_equal(again[1]["m"], saved[1]["m"])


@pytest.mark.parametrize(
    "content",
    [
        {},
        {"network": {}},
        {"network": numbered([np.ones(2)])},
        {"network": numbered([np.ones(2), np.ones(4)])},
        {"network": numbered([np.ones(2), np.ones(3), np.ones(3)])},
    ],
)
def test_a_checkpoint_of_another_network_is_refused(tmp_path, content):
    state = [np.ones(2), np.ones(3)]
    with pytest.raises(UserError, match="the checkpoint in --out is of another network"):
        restored(state, content)
    with Run(tmp_path, {"seed": 0}, "cpu") as run:
        run.save(1, {**content, "history": {}, "K": 16, "one": np.ones(1)})
        with pytest.raises(UserError, match="the checkpoint in --out is of another network"):
            learning_with(1, lambda K: optax.adam(0.1)).run(run, 2)
