"""The layers of `func` a step at a time, with gradients from autograd: the tests' oracle."""

import math
from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from stl_snn import func
from stl_snn.func import Vote

__all__ = [
    "LIF",
    "AdaptiveAvgPool2d",
    "AdaptiveMaxPool2d",
    "BatchNorm2d",
    "Conv2d",
    "Dropout",
    "Linear",
    "Vote",
    "lif",
]


class _Spike(torch.autograd.Function):
    """A step function of x with the derivative of a scaled arctangent."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, alpha: float) -> Tensor:
        ctx.save_for_backward(x)
        ctx.alpha = alpha
        return (x >= 0).to(x.dtype)

    @staticmethod
    def backward(ctx: Any, signal: Tensor) -> tuple[Tensor, None]:
        (x,) = ctx.saved_tensors
        return signal * (ctx.alpha / 2) / (1 + (math.pi * ctx.alpha * x / 2) ** 2), None


def lif(
    current: Float[Tensor, "batch time *shape"],
    theta: Float[Tensor, "*shape"],
    tau: float = 0.5,
    alpha: float = 2.0,
) -> Float[Tensor, "batch time *shape"]:
    """As `stl_snn.lif.lif`."""
    potential, spikes = torch.zeros_like(current[:, 0]), []
    for drive in current.unbind(1):
        potential = tau * potential + drive
        spike: Tensor = _Spike.apply(potential - theta, alpha)
        potential = (1 - spike) * potential
        spikes.append(spike)
    return torch.stack(spikes, 1)


def by_steps(layer: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """A layer's outputs [batch, time, ...] for inputs [batch, time, ...], in the order of time."""
    return torch.stack([layer(step) for step in x.unbind(1)], 1)


class Conv2d(func.Conv2d):
    """As `func.Conv2d`."""

    def forward(self, input: Tensor) -> Tensor:
        """A convolution a step."""
        return by_steps(super(func.Conv2d, self).forward, input)


class Linear(func.Linear):
    """As `func.Linear`."""

    def forward(self, input: Tensor) -> Tensor:
        """A product a step."""
        return by_steps(super(func.Linear, self).forward, input.flatten(2))


class BatchNorm2d(func.BatchNorm2d):
    """As `func.BatchNorm2d`."""

    def forward(self, input: Tensor) -> Tensor:
        """A normalisation a step."""
        return by_steps(super(func.BatchNorm2d, self).forward, input)


class AdaptiveMaxPool2d(nn.AdaptiveMaxPool2d):
    """As `func.AdaptiveMaxPool2d`."""

    def forward(self, input: Tensor) -> Tensor:
        """A pooling a step."""
        return by_steps(super().forward, input)


class AdaptiveAvgPool2d(nn.AdaptiveAvgPool2d):
    """As `func.AdaptiveAvgPool2d`."""

    def forward(self, input: Tensor) -> Tensor:
        """A pooling a step."""
        return by_steps(super().forward, input)


class Dropout(nn.Dropout):
    """As `func.Dropout`."""

    def forward(self, input: Tensor) -> Tensor:
        """A mask a step."""
        return by_steps(lambda step: functional.dropout(step, self.p, self.training), input)


class LIF(func.LIF):
    """As `func.LIF`."""

    def forward(self, input: Tensor) -> Tensor:
        """A step of the membrane at a time."""
        return lif(input, self.thresh.expand(self.shape), self.tau, self.alpha)
