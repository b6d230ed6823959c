"""What rules of torch have in common."""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Generic, TypeVar

import numpy as np
import torch
from jaxtyping import Float, Real, UInt8
from torch import Tensor, nn

from comparison.interface import Learner, Plan
from shared.errors import UserError
from shared.tensors import global_generators

NAMES = ("hidden", "output")
"""Of the weights of the two layers."""


def intensities(
    images: UInt8[np.ndarray, "batch pixels"], device: torch.device
) -> Float[Tensor, "batch pixels"]:
    """Brightness in [0, 1], float32."""
    return torch.from_numpy(images).to(device).float() / 255


def after(share: float, steps: int) -> int:
    """Steps of a share of a trial, to the nearest step; at least one."""
    return max(1, round(share * steps))


def as_counts(spikes: Real[Tensor, "time batch n"]) -> Float[np.ndarray, "batch n"]:
    """Spikes of each neuron in a trial."""
    return spikes.sum(0, dtype=torch.float32).numpy(force=True)


@torch.no_grad()
def scaled(weights: Iterable[Tensor], factor: float) -> None:
    """Multiply initial weights."""
    for weight in weights:
        weight.mul_(factor)


def set_rate(optimizer: torch.optim.Optimizer, lr: float) -> None:
    """Set the step size of all parameters."""
    for group in optimizer.param_groups:
        group["lr"] = lr


def finite_loss(loss: Tensor) -> float:
    """The loss of a step as a number.

    Raises:
        UserError: it is none.
    """
    value = float(loss)
    if not math.isfinite(value):
        raise UserError(f"the loss became {value}: lower --lr; the last checkpoint is intact")
    return value


def matrices(weights: Iterable[Tensor]) -> dict[str, Float[np.ndarray, "..."]]:
    """Copies of the two layers' weights by `NAMES`."""
    return {
        name: weight.numpy(force=True).copy() for name, weight in zip(NAMES, weights, strict=True)
    }


@torch.no_grad()
def put(weights: Sequence[Tensor], values: Mapping[str, Float[np.ndarray, "..."]]) -> None:
    """Copy values into the two layers' weights."""
    for name, weight in zip(NAMES, weights, strict=True):
        weight.copy_(torch.from_numpy(values[name]))


Net = TypeVar("Net", bound=nn.Module)


class TorchLearner(Learner, Generic[Net]):
    """A network of torch's: its step size, weights and state.

    Attributes:
        plan: what it was built for.
        network: all that has parameters.
        weight: of the hidden and of the output layer.
        optimizer: of the parameters; with several, `begin`, `state` and `load` are the rule's own.
    """

    plan: Plan
    network: Net
    weight: Sequence[Tensor]
    optimizer: torch.optim.Optimizer

    def begin(self, epoch: int, epochs: int) -> None:
        """See `Learner.begin`."""
        set_rate(self.optimizer, self.plan.choice.rate(epoch, epochs))

    def weights(self) -> dict[str, Float[np.ndarray, "..."]]:
        """See `Learner.weights`."""
        return matrices(self.weight)

    def set_weights(self, weights: Mapping[str, Float[np.ndarray, "..."]]) -> None:
        """See `Learner.set_weights`."""
        put(self.weight, weights)

    def state(self) -> dict[str, Any]:
        """See `Learner.state`; with the random streams of torch, where layers draw."""
        drawing = global_generators(self.plan.device)
        return {
            "network": self.network.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            **{name: generator.get_state() for name, generator in drawing.items()},
        }

    def load(self, state: Mapping[str, Any]) -> None:
        """See `Learner.load`."""
        self.network.load_state_dict(state["network"])
        self.optimizer.load_state_dict(state["optimizer"])
        for name, generator in global_generators(self.plan.device).items():
            generator.set_state(state[name])
