"""What rules of torch have in common."""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Generic, TypeVar

import numpy as np
import torch
from jaxtyping import Float, Int, Real, UInt8
from torch import Tensor, nn

from comparison.interface import Learner, Plan
from shared.errors import UserError
from shared.tensors import global_generators

NAMES = ("hidden", "output")
"""Of the weights of the two layers."""

Brightness = Float[Tensor, "batch *pixels"]
"""Of images, in [0, 1]."""

Spikes = Real[Tensor, "time batch *pixels"]
"""0 or 1; int8 on the CPU, see `brp_snn.layerwise.Draw`."""


def intensities(
    images: UInt8[np.ndarray, "batch pixels"], device: torch.device
) -> Float[Tensor, "batch pixels"]:
    """Brightness in [0, 1], float32."""
    return torch.from_numpy(images).to(device).float() / 255


def drawn_spikes(x: Brightness, steps: int, generator: torch.Generator | None) -> Spikes:
    """Spikes where brightness exceeds new random numbers in [0, 1) at every step.

    Args:
        x: the images.
        steps: time steps.
        generator: of the numbers; None for torch's own.
    """
    return (by_words if x.device.type == "cpu" else by_floats)(x, steps, generator)


def by_floats(x: Brightness, steps: int, generator: torch.Generator | None) -> Spikes:
    """`drawn_spikes` on any device."""
    draws = torch.rand(steps, *x.shape, generator=generator, device=x.device)
    return torch.gt(x, draws, out=draws)


def by_words(x: Brightness, steps: int, generator: torch.Generator | None) -> Spikes:
    """`by_floats` with 16 random bits a pixel, which a CPU draws in less time.

    Brightness is rounded to 1/65,536: black never spikes, and white is silent once in 65,536 times.
    """
    numbers = _words((steps, *x.shape), generator)
    levels = (2**16 * x.float() - 2**15).round().clamp(-(2**15), 2**15 - 1).short()
    return torch.lt(numbers, levels, out=torch.empty(numbers.shape, dtype=torch.int8))


def _words(shape: tuple[int, ...], generator: torch.Generator | None) -> Int[Tensor, "*shape"]:
    """Random int16 on the CPU."""
    n = math.prod(shape)
    drawn = torch.empty(-(-n // 4), dtype=torch.int64)
    drawn.random_(-(2**63), None, generator=generator)
    return drawn.view(torch.int16)[:n].view(shape)


class Dropout(nn.Dropout):
    """Torch's dropout; on the CPU by 16 random bits an entry, which takes less time.

    There the dropped share is rounded to 1/65,536, and what is left scaled by that.
    """

    def forward(self, input: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        """A new mask in training; the input in evaluation."""
        dropped = round(2**16 * self.p)
        if not self.training or input.device.type != "cpu" or not 0 < dropped < 2**16:
            return super().forward(input)
        numbers = _words(tuple(input.shape), None)
        kept = torch.empty(input.shape, dtype=input.dtype)
        torch.ge(numbers, dropped - 2**15, out=kept)
        return input * kept.mul_(2**16 / (2**16 - dropped))


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
