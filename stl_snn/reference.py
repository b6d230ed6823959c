"""The layers of `func` a step at a time, with gradients from autograd: the tests' oracle."""

from collections.abc import Callable

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
        spike: Tensor = func.atan.apply(potential - theta, alpha)
        potential = (1 - spike) * potential
        spikes.append(spike)
    return torch.stack(spikes, 1)


def by_steps(layer: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """A layer's outputs [batch, time, ...] for inputs [batch, time, ...], in the order of time."""
    return torch.stack([layer(step) for step in x.unbind(1)], 1)


class Conv2d(func.Conv2d):
    """As `func.Conv2d`."""

    def forward(self, input: Tensor) -> Tensor:
        """One convolution per step."""
        return by_steps(super(func.Conv2d, self).forward, input)


class Linear(func.Linear):
    """As `func.Linear`."""

    def forward(self, input: Tensor) -> Tensor:
        """One product per step."""
        return by_steps(super(func.Linear, self).forward, input.flatten(2))


class BatchNorm2d(func.BatchNorm2d):
    """As `func.BatchNorm2d`."""

    def forward(self, input: Tensor) -> Tensor:
        """One normalization per step."""
        assert self.num_batches_tracked is not None
        passes = self.num_batches_tracked + int(self.training)
        found = by_steps(super(func.BatchNorm2d, self).forward, input)
        self.num_batches_tracked.copy_(passes)
        return found


class AdaptiveMaxPool2d(nn.AdaptiveMaxPool2d):
    """As `func.AdaptiveMaxPool2d`."""

    def forward(self, input: Tensor) -> Tensor:
        """One pooling per step."""
        return by_steps(super().forward, input)


class AdaptiveAvgPool2d(nn.AdaptiveAvgPool2d):
    """As `func.AdaptiveAvgPool2d`."""

    def forward(self, input: Tensor) -> Tensor:
        """One pooling per step."""
        return by_steps(super().forward, input)


class Dropout(nn.Dropout):
    """As `func.Dropout`."""

    def forward(self, input: Tensor) -> Tensor:
        """One mask per step."""
        return by_steps(lambda step: functional.dropout(step, self.p, self.training), input)


class LIF(func.LIF):
    """As `func.LIF`."""

    def forward(self, input: Tensor) -> Tensor:
        """A step of the membrane at a time."""
        return lif(input, self.thresholds(input.shape[2:]), self.tau, self.alpha)
