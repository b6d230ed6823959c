"""Training and testing a classifier by the times of first spikes."""

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple, get_args

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Int, Shaped

from shared.errors import UserError, check_word
from shared.run import progress
from smooth_gd.experiments.belief import adabelief
from smooth_gd.experiments.jax_runtime import Dtype
from smooth_gd.experiments.mnist.network import Network, Parameters, clipped
from smooth_gd.experiments.trials import all_finite
from smooth_gd.spikegd.layered import Bounds, Levels, Response, Spikes
from smooth_gd.spikegd.utils.events import Sized, room_for
from smooth_gd.spikegd.utils.parallel import Chunks

EPOCHS_OF_DECAY = 100.0  # the step size falls by 1 / e in so many epochs
BETAS = (0.9, 0.999)


class Part(NamedTuple):
    """Inputs and their classes."""

    inputs: Shaped[np.ndarray, "n ..."]
    labels: Int[np.ndarray, " n"]


@dataclass(frozen=True)
class Classification:
    """What is classified.

    Attributes:
        name: of the data set.
        train, test: its parts.
        shown: makes of a chunk of inputs what the network is shown.
        disturbed: makes of a random key and a chunk of inputs one that it is trained with.
        n_classes: number of classes.
        fingerprint: name, number of samples and checksum; None where they are not told.
    """

    name: str
    train: Part
    test: Part
    shown: Callable[[Array], Levels | Spikes]
    disturbed: Callable[[Array, Array], Array]
    n_classes: int
    fingerprint: Mapping[str, Any] | None = None


class State(NamedTuple):
    """What a step of training changes."""

    parameters: Parameters
    optimizer: optax.OptState


def needed(bounds: Bounds, wanted_events: Array, wanted_slots: Array) -> Bounds | None:
    """Bounds with room for what trials wanted, or None where they had it."""
    events, slots = np.asarray(wanted_events), np.asarray(wanted_slots)
    if (events <= bounds.events).all() and (slots <= bounds.slots).all():
        return None
    return Bounds(
        tuple(max(old, room_for(int(n))) for old, n in zip(bounds.events, events, strict=True)),
        tuple(max(old, int(n)) for old, n in zip(bounds.slots, slots, strict=True)),
    )


class Trainer:
    """Trains a network in steps, with bounds that grow where a trial wants more events.

    Args:
        network: the network.
        data: what it learns to classify.
        batch_size: trials per step; an incomplete last batch of an epoch is left out.
        lr: step size of AdaBelief at the start.
        seed: of the order of samples and of their disturbance.
        device: where it runs.
        epochs_of_decay: in which the step size falls by 1 / e.
        betas: of AdaBelief.
    """

    def __init__(
        self,
        network: Network,
        data: Classification,
        batch_size: int,
        lr: float,
        seed: int,
        device: Any,
        epochs_of_decay: float = EPOCHS_OF_DECAY,
        betas: tuple[float, float] = BETAS,
    ) -> None:
        self.network, self.data, self.seed = network, data, seed
        n = len(data.train.labels)
        if not 0 < batch_size <= n:
            raise UserError(f"--batch-size {batch_size} must lie between 1 and {n} samples")
        self.steps = n // batch_size
        schedule = optax.exponential_decay(lr, int(epochs_of_decay * self.steps), 1 / math.e)
        self.optimizer = adabelief(schedule, *betas)
        self.chunks = Chunks(batch_size, device)
        hidden = network.sizes[1:-1]
        self.bounds = Bounds(tuple(room_for(n * 2 // 3) for n in hidden), (1,) * len(hidden))
        self._step: Sized[Bounds] = Sized(self._train_step, out_shardings=self.chunks.replicated)
        self._test: Sized[Bounds] = Sized(self._test_batch, out_shardings=self.chunks.replicated)

    @property
    def compile_seconds(self) -> float:
        """Time spent on compilation so far, in s."""
        return self._step.seconds + self._test.seconds

    def initial(self, dtype: str) -> State:
        """Where training starts, in float32 or float64.

        Raises:
            ValueError: the type is neither.
        """
        check_word("dtype", dtype, get_args(Dtype))
        return self.started(self.network.initial(jax.random.key(self.seed), jnp.dtype(dtype)))

    def started(self, parameters: Parameters) -> State:
        """Where training from given parameters starts."""
        return self.placed(State(parameters, self.optimizer.init(parameters)))

    def placed(self, state: State) -> State:
        """A state on the devices that steps run on."""
        found: State = jax.device_put(state, self.chunks.replicated)
        return found

    # -- training

    def _loss(
        self, parameters: Parameters, inputs: Array, labels: Array, key: Array, bounds: Bounds
    ) -> tuple[Array, tuple[Array, Array, Array]]:
        shown = self.data.shown(self.data.disturbed(key, inputs))
        response = self.network.respond_unmarked(parameters, shown, bounds)
        valid = labels >= 0
        losses = self.network.loss(response.first, jnp.maximum(labels, 0))
        right = jnp.sum(valid & (jnp.argmin(response.first, 1) == labels))
        return jnp.sum(jnp.where(valid, losses, 0)), (
            right,
            response.wanted_events,
            response.wanted_slots,
        )

    def gradient(
        self, bounds: Bounds, parameters: Parameters, inputs: Array, labels: Array, keys: Array
    ) -> tuple[tuple[Array, Array, Array, Array], Parameters]:
        """Mean loss, accuracy, wanted events and slots, and the loss's gradient, of a batch.

        Args:
            bounds: of events and slots.
            parameters: of the network.
            inputs: of the batch's chunks.
            labels: of the same; -1 is no trial.
            keys: a random key for each chunk.
        """

        def of_chunk(parameters: Parameters, inputs: Array, labels: Array, key: Array) -> Any:
            return jax.value_and_grad(self._loss, has_aux=True)(
                parameters, inputs, labels, key, bounds
            )

        (losses, (right, events, slots)), gradients = self.chunks.map(
            of_chunk, parameters, (inputs, labels, keys)
        )
        n = jnp.sum(labels >= 0)
        report = (losses.sum() / n, right.sum() / n, events.max(0), slots.max(0))
        return report, jax.tree.map(lambda g: g.sum(0) / n, gradients)

    def _train_step(
        self, bounds: Bounds, state: State, inputs: Array, labels: Array, key: Array
    ) -> tuple[State, tuple[Array, Array, Array, Array]]:
        keys = jax.random.split(key, self.chunks.n)
        report, gradient = self.gradient(bounds, state.parameters, inputs, labels, keys)
        updates, optimizer = self.optimizer.update(gradient, state.optimizer, state.parameters)
        parameters = optax.apply_updates(state.parameters, updates)
        return State(clipped(parameters, self.network.period), optimizer), report

    def step(
        self, state: State, inputs: np.ndarray, labels: np.ndarray, key: Array
    ) -> tuple[State, float, float]:
        """A step of training: the new state, loss and accuracy before it.

        Done again with more room where a trial wanted more events than there was room for.

        Raises:
            UserError: the loss is no number.
        """
        cut = self.chunks.cut(inputs), self.chunks.cut(labels + 1) - 1
        while True:
            new, (loss, accuracy, *wanted) = self._step(self.bounds, state, *cut, key)
            more = needed(self.bounds, *wanted)
            if more is None:
                break
            self.bounds = more
        if not math.isfinite(float(loss)):
            raise UserError(
                f"the loss became {float(loss)}: lower --lr; the last checkpoint is from before it"
            )
        return new, float(loss), float(accuracy)

    def train_epoch(self, state: State, epoch: int) -> tuple[State, dict[str, float]]:
        """One pass over the training set in the random order of that epoch.

        Returns:
            The new state; train_loss and train_accuracy as seen before each step.

        Raises:
            UserError: the loss or a parameter is no number.
        """
        key = jax.random.fold_in(jax.random.key(self.seed), epoch)
        part, size = self.data.train, self.chunks.size
        order = np.random.default_rng((self.seed, epoch)).permutation(len(part.labels))
        done = []
        for i in progress(range(self.steps), self.steps, "train"):
            chosen = order[i * size : (i + 1) * size]
            state, *found = self.step(
                state, part.inputs[chosen], part.labels[chosen], jax.random.fold_in(key, i)
            )
            done.append(found)
        if not all_finite(state.parameters):
            raise UserError(
                "a weight or phase is no number any more: lower --lr; the last checkpoint is from "
                "before it"
            )
        loss, accuracy = np.mean(done, axis=0)
        return state, {"train_loss": float(loss), "train_accuracy": float(accuracy)}

    # -- testing

    def _test_batch(
        self, bounds: Bounds, parameters: Parameters, inputs: Array, labels: Array
    ) -> tuple[dict[str, Array], Array, Array]:
        def of_chunk(parameters: Parameters, inputs: Array, labels: Array) -> Any:
            response = self.network.respond_unmarked(parameters, self.data.shown(inputs), bounds)
            found = seen(self.network, response, labels)
            return found, response.wanted_events, response.wanted_slots

        found, events, slots = self.chunks.map(of_chunk, parameters, (inputs, labels))
        return {name: x.sum(0) for name, x in found.items()}, events.max(0), slots.max(0)

    def _batches(self, part: Part) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        for start in range(0, len(part.labels), self.chunks.size):
            chosen = slice(start, start + self.chunks.size)
            yield (
                self.chunks.cut(part.inputs[chosen]),
                self.chunks.cut(part.labels[chosen] + 1) - 1,
            )

    def evaluate(self, parameters: Parameters, part: Part) -> dict[str, float]:
        """Accuracy, loss and activity on a part of the data set.

        Returns:
            By name, with pseudospikes and, marked "ordinary", without: accuracy, loss. Of hidden
            neurons "in_trial" and "until_first", the first ordinary output spike: silent, the share
            that spikes for no sample, and activity, the mean number of spikes per sample.
        """
        total: dict[str, np.ndarray] = {}
        for inputs, labels in self._batches(part):
            while True:
                found, *wanted = self._test(self.bounds, parameters, inputs, labels)
                more = needed(self.bounds, *wanted)
                if more is None:
                    break
                self.bounds = more
            for name, value in found.items():
                total[name] = total.get(name, 0) + np.asarray(value, np.float64)
        n = len(part.labels)
        result = {name: float(total[name]) / n for name in total if np.ndim(total[name]) == 0}
        for name in ("in_trial", "until_first"):
            result[f"silent_{name}"] = float(np.mean(total[name] == 0))
            result[f"activity_{name}"] = float(np.mean(total[name])) / n
        return result


def seen(network: Network, response: Response, labels: Array) -> dict[str, Array]:
    """Sums over a batch's trials; label -1 is no trial.

    Returns:
        With pseudospikes and, marked "_ordinary", without: accuracy, loss; and of each hidden
        neuron its spikes in_trial and until_first, the first output spike.
    """
    valid, known = labels >= 0, jnp.maximum(labels, 0)
    ordinary = jnp.where(response.ordinary, response.first, network.T)
    end = jnp.min(ordinary, axis=1)
    found = {}
    for name, first in (("", response.first), ("_ordinary", ordinary)):
        right = jnp.argmin(first, axis=1) == labels
        found[f"accuracy{name}"] = jnp.sum(valid & right)
        found[f"loss{name}"] = jnp.sum(jnp.where(valid, network.loss(first, known), 0))
    counts = [layer.counts for layer in response.hidden]
    until = [jnp.sum(layer.times <= end[:, None, None], axis=2) for layer in response.hidden]
    for name, spikes in (("in_trial", counts), ("until_first", until)):
        found[name] = jnp.sum(valid[:, None] * jnp.concatenate(spikes, axis=1), axis=0)
    return found
