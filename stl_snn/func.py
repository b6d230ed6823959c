"""Layers of STL-SNN on tensors [batch, time, ...], all steps at once.

Weights are shared by all steps. Batch normalization and dropout act on each step apart: a step has
its own statistics and its own mask. Arguments are named as in the published program; where torch
has the layer, they are torch's. `reference.py` holds the same layers a step at a time.
"""

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from stl_snn import _pool
from stl_snn.lif import lif, surrogate


def _apart(joined: Tensor, like: Tensor) -> Tensor:
    """[batch x time, ...] as [batch, time, ...] of another tensor."""
    return joined.view(*like.shape[:2], *joined.shape[1:])


class atan(torch.autograd.Function):
    """The spike: 1 where x >= 0, with the derivative of a scaled arctangent.

    `atan.apply(x)` or `atan.apply(x, alpha)`: x any shape, potential above threshold; alpha the
    derivative's sharpness, 2 as published. The derivative is (alpha/2) / (1 + (pi alpha x / 2)^2).
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, alpha: float = 2.0) -> Tensor:
        """Spikes, 0 or 1, in the dtype of x."""
        ctx.save_for_backward(x)
        ctx.alpha = alpha
        return (x >= 0).to(x.dtype)

    @staticmethod
    def backward(ctx: Any, signal: Tensor) -> tuple[Tensor, None]:
        """The signal times the derivative."""
        (x,) = ctx.saved_tensors
        return signal * surrogate(x, ctx.alpha), None


class Conv2d(nn.Conv2d):
    """A convolution of every step; takes what `torch.nn.Conv2d` takes, bias included."""

    def forward(self, input: Float[Tensor, "b t c h w"]) -> Float[Tensor, "b t o h2 w2"]:
        """Currents of all steps, one convolution of batch x time."""
        images = input.flatten(0, 1)
        # With few channels the CPU's convolution is fast only where channels lie last.
        if images.device.type == "cpu" and self.in_channels < 8:
            images = images.contiguous(memory_format=torch.channels_last)
        return _apart(super().forward(images).contiguous(), input)


class Linear(nn.Linear):
    """A fully connected layer; takes what `torch.nn.Linear` takes. Flattens what follows time."""

    def forward(self, input: Float[Tensor, "b t *shape"]) -> Float[Tensor, "b t o"]:
        """Currents of all steps, one product of batch x time."""
        currents: Tensor = super().forward(input.flatten(2))
        return currents


class BatchNorm2d(nn.BatchNorm2d):
    """Batch normalization of each step apart, with one scale, shift and running average for all.

    In training the running average takes in the statistics of every step, in the order of steps.
    """

    def forward(self, input: Float[Tensor, "b t c h w"]) -> Float[Tensor, "b t c h w"]:
        """All steps in one pass: a step's channels are channels of their own."""
        n_steps = input.shape[1]
        assert self.running_mean is not None
        assert self.running_var is not None
        assert self.momentum is not None
        if not self.training:
            return _apart(super().forward(input.flatten(0, 1)), input)
        # With a momentum of 1 the running averages are the statistics of this pass.
        mean, var = (self.running_mean.new_zeros(n_steps * self.num_features) for _ in range(2))
        weight, bias = self.weight.repeat(n_steps), self.bias.repeat(n_steps)
        found = functional.batch_norm(
            input.flatten(1, 2), mean, var, weight, bias, training=True, momentum=1, eps=self.eps
        )
        ages = torch.arange(n_steps - 1, -1, -1, device=mean.device, dtype=mean.dtype)
        share = self.momentum * (1 - self.momentum) ** ages
        for running, of_steps in ((self.running_mean, mean), (self.running_var, var)):
            running.mul_((1 - self.momentum) ** n_steps)
            running.add_(share @ of_steps.view(n_steps, -1))
        assert self.num_batches_tracked is not None
        self.num_batches_tracked.add_(1)  # passes, as published, not steps
        return found.view(input.shape)

    def _check_input_dim(self, input: Tensor) -> None:
        if input.dim() != 4:  # batch x time has been joined
            raise ValueError(f"expected [batch, time, channels, height, width], got {input.shape}")


class AdaptiveMaxPool2d(nn.AdaptiveMaxPool2d):
    """The largest value of each of output_size x output_size windows, a step at a time."""

    output_size: int

    def forward(self, input: Float[Tensor, "b t c h w"]) -> Float[Tensor, "b t c h2 w2"]:
        """All steps in one pass."""
        size = self.output_size
        if tuple(input.shape[-2:]) == (2 * size, 2 * size):
            return _pool.max_pool(input)
        return _apart(super().forward(input.flatten(0, 1)), input)


class AdaptiveAvgPool2d(nn.AdaptiveAvgPool2d):
    """The mean of each of output_size x output_size windows, a step at a time."""

    def forward(self, input: Float[Tensor, "b t c h w"]) -> Float[Tensor, "b t c h2 w2"]:
        """All steps in one pass."""
        return _apart(super().forward(input.flatten(0, 1)), input)


class Dropout(nn.Dropout):
    """Dropout with a fresh mask at every step, which is torch's on all steps at once."""


class LIF(nn.Module):
    """Leaky integrate-and-fire neurons with thresholds that learn; equations in `lif.py`.

    Args:
        train: whether the thresholds learn.
        thresh: mean initial thresholds, of the neurons' shape, such as [channels, height, width] or
            [n]; an axis of 1 shares a threshold along it, as [channels, 1, 1] does in a map.
        tau: share of the potential that is left after a step.
        heterogeneity: standard deviation of the initial thresholds, in hundredths.
        alpha: sharpness of the surrogate derivative.
        floor: `keep_above_floor` lifts thresholds to it; None leaves them alone (the paper).

    Attributes:
        thresh: the thresholds, shaped and typed as given.
    """

    def __init__(
        self,
        train: bool,
        thresh: Float[Tensor, "*own"],
        tau: float = 0.5,
        heterogeneity: float = 0.01,
        *,
        alpha: float = 2.0,
        floor: float | None = None,
    ) -> None:
        super().__init__()
        self.tau, self.alpha, self.floor = tau, alpha, floor
        drawn = heterogeneity * torch.randn_like(thresh) / 100 + thresh
        self.thresh = nn.Parameter(drawn, requires_grad=train)

    def forward(self, input: Float[Tensor, "b t *shape"]) -> Float[Tensor, "b t *shape"]:
        """Spikes of all steps, from a membrane at rest.

        Raises:
            ValueError: the thresholds do not fit the neurons.
        """
        # Under autocast the layer before may give bfloat16; a membrane needs its thresholds' dtype.
        current = input.to(self.thresh.dtype)
        return lif(current, self.thresholds(input.shape[2:]), self.tau, self.alpha)

    def thresholds(self, shape: Sequence[int]) -> Float[Tensor, "*shape"]:
        """One threshold for each neuron of a layer of that shape.

        Raises:
            ValueError: they do not fit it.
        """
        try:
            return self.thresh.expand(*shape)
        except RuntimeError as error:
            own = tuple(self.thresh.shape)
            raise ValueError(f"thresholds {own} do not fit neurons {tuple(shape)}") from error

    @torch.no_grad()
    def keep_above_floor(self) -> None:
        """Lift thresholds below the floor to it, if there is one."""
        if self.floor is not None:
            self.thresh.clamp_(min=self.floor)

    def extra_repr(self) -> str:
        """The layer in a printed network."""
        return f"thresholds {tuple(self.thresh.shape)}, tau={self.tau}"


class Vote(nn.Module):
    """The mean of each class's neurons at every step, then over time.

    Args:
        population: neurons that vote for one class.
    """

    def __init__(self, population: int = 10) -> None:
        super().__init__()
        self.population = population

    def forward(self, spikes: Float[Tensor, "b t n"]) -> Float[Tensor, "b classes"]:
        """Shares of the votes, in [0, 1]."""
        return spikes.reshape(*spikes.shape[:2], -1, self.population).mean((1, 3))
