"""Learning trial by trial in one program, with more room where a trial has more events."""

import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float

from shared.errors import UserError
from shared.run import Run
from smooth_gd.spikegd.utils.events import Sized, room_for

TRIALS = 100  # in an epoch: between two checkpoints
MOST_GROWTH = 64  # a trial with that many times the first number of events is of no use


class Trial(NamedTuple):
    """What is known of a trial.

    Attributes:
        complete: whether there was room for all its events; a trial that is NaN for another reason
            is complete, since more room would not help it.
        seen: what is kept of it, by name.
    """

    complete: Array
    seen: Mapping[str, Array]


Loss = Callable[[Any, int], tuple[Float[Array, ""], Trial]]
"""The loss and its trial from parameters and the number of events."""


def numbered(state: Any) -> dict[str, np.ndarray[Any, Any]]:
    """The arrays of a tree by number, for a checkpoint."""
    return {str(i): np.asarray(leaf) for i, leaf in enumerate(jax.tree.leaves(state))}


def restored(state: Any, content: Mapping[str, Any]) -> Any:
    """A checkpoint's arrays in the place of a tree's.

    Args:
        state: a tree of arrays, such as those that training starts from.
        content: of the checkpoint; "network" holds what `numbered` gave.

    Raises:
        UserError: the checkpoint has other arrays than the tree.
    """
    wanted, saved = numbered(state), content.get("network", {})
    shapes, found = ({name: np.shape(x) for name, x in of.items()} for of in (wanted, saved))
    if shapes != found:
        raise UserError(
            "the checkpoint in --out is of another network; choose another --out, or replace that "
            "run with --no-resume"
        )
    return jax.tree.unflatten(jax.tree.structure(state), [saved[name] for name in wanted])


def all_finite(parameters: Any) -> bool:
    """Whether all numbers of a tree are finite."""
    return all(bool(jnp.isfinite(x).all()) for x in jax.tree.leaves(parameters))


class Learning:
    """Gradient descent on a trial that is repeated.

    Args:
        loss: see `Loss`.
        optimizer: makes the optimizer of the parameters from the number of events; one that
            simulates trials needs it. Its state does not depend on that number.
        parameters: to start from.
        K: number of events to begin with.
        constrain: makes admissible parameters of those that the optimizer gives.
        of_gradient: what is kept of each trial's gradient, by name.
        trials: of an epoch.
    """

    def __init__(
        self,
        loss: Loss,
        optimizer: Callable[[int], optax.GradientTransformation],
        parameters: Any,
        K: int,
        constrain: Callable[[Any], Any] = lambda parameters: parameters,
        of_gradient: Callable[[Any], Mapping[str, Array]] = lambda gradient: {},
        trials: int = TRIALS,
    ) -> None:
        self._loss, self._optimizer, self._constrain = loss, optimizer, constrain
        self._of_gradient, self.trials = of_gradient, trials
        self.K = room_for(K)
        self._most = MOST_GROWTH * self.K
        self.parameters, self.state = parameters, optimizer(self.K).init(parameters)
        self.history: dict[str, np.ndarray[Any, Any]] = {}
        self.epoch: Sized[int] = Sized(self._epoch)

    def _epoch(self, K: int, parameters: Any, state: Any) -> Any:
        optimizer = self._optimizer(K)

        def step(carry: tuple[Any, Any], _: None) -> tuple[tuple[Any, Any], tuple[Array, Trial]]:
            parameters, state = carry
            (loss, trial), gradient = jax.value_and_grad(
                lambda parameters: self._loss(parameters, K), has_aux=True
            )(parameters)
            updates, state = optimizer.update(gradient, state, parameters)
            parameters = self._constrain(optax.apply_updates(parameters, updates))
            trial = trial._replace(seen={**trial.seen, **self._of_gradient(gradient)})
            return (parameters, state), (loss, trial)

        return jax.lax.scan(step, (parameters, state), None, length=self.trials)

    def train_epoch(self) -> dict[str, float]:
        """An epoch of trials; done again with more room if one of them was cut short.

        Returns:
            Loss of the last trial, and the mean of all.

        Raises:
            UserError: the loss or a parameter is no number, though all events were simulated, or
                there is no end of events.
        """
        while True:
            carry, (losses, trials) = self.epoch(self.K, self.parameters, self.state)
            if bool(jnp.all(trials.complete)):
                break
            self._make_room()
        if not (math.isfinite(float(losses[-1])) and all_finite(carry[0])):
            raise UserError("the loss or a weight is no number any more: lower --lr")
        self.parameters, self.state = carry
        for name, values in {"loss": losses, **trials.seen}.items():
            old = self.history.get(name)
            new = np.asarray(values)
            self.history[name] = new if old is None else np.concatenate([old, new])
        return {"loss": float(losses[-1]), "mean_loss": float(losses.mean())}

    def _make_room(self) -> None:
        """Double the number of events.

        Raises:
            UserError: it has been doubled too often.
        """
        room = room_for(2 * self.K)
        if room > self._most:
            raise UserError(
                f"the network runs away, a trial has more than {self.K} events: lower --lr"
            )
        print(f"a trial has more than {self.K} events: trying {room}", flush=True)
        self.K = room

    def learn(self, trials: int) -> dict[str, np.ndarray[Any, Any]]:
        """The history of so many trials.

        Raises:
            UserError: as in `train_epoch`.
        """
        while len(self.history.get("loss", ())) < trials:
            self.train_epoch()
        return {name: values[:trials] for name, values in self.history.items()}

    def run(self, run: Run, epochs: int) -> None:
        """Train, with a checkpoint per epoch; goes on where a run has stopped."""
        done = 0
        if saved := run.load():
            done, content = saved
            state = restored((self.parameters, self.state), content)
            self.parameters, self.state = jax.tree.map(jnp.asarray, state)
            self.history, self.K = content["history"], content["K"]
        for number in range(done + 1, epochs + 1):
            row = self.train_epoch()
            run.log(number, row | {"events_bound": self.K})
            network = numbered((self.parameters, self.state))
            run.save(number, {"network": network, "history": self.history, "K": self.K})
        print(f"compilation took {self.epoch.seconds:.1f} s")
