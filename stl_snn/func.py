"""Layers of STL-SNN on tensors [batch, time, ...], all steps at once.

Weights are shared by all steps. Batch normalisation and dropout act on each step apart: a step has
its own statistics and its own mask. `reference.py` holds the same layers a step at a time.
"""

import math
from collections.abc import Sequence
from typing import Literal, get_args

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from stl_snn import _pool
from stl_snn.lif import lif

Sharing = Literal["neuron", "channel", "layer"]
"""Who has a threshold of its own: each neuron (the paper), each feature map, or the layer."""


def _apart(joined: Tensor, like: Tensor) -> Tensor:
    """[batch x time, ...] as [batch, time, ...] of another tensor."""
    return joined.view(*like.shape[:2], *joined.shape[1:])


class Conv2d(nn.Conv2d):
    """A convolution without bias.

    Args:
        n_in: channels that come in.
        n_out: channels that go out.
        kernel_size: side of the kernel.
        padding: zeros at each border.
    """

    def __init__(self, n_in: int, n_out: int, kernel_size: int, padding: int = 0) -> None:
        super().__init__(n_in, n_out, kernel_size, padding=padding, bias=False)

    def forward(self, input: Float[Tensor, "b t c h w"]) -> Float[Tensor, "b t o h2 w2"]:
        """Currents of all steps, one convolution of batch x time."""
        images = input.flatten(0, 1)
        # With few channels the CPU's convolution is fast only where channels lie last.
        if images.device.type == "cpu" and self.in_channels < 8:
            images = images.contiguous(memory_format=torch.channels_last)
        return _apart(super().forward(images).contiguous(), input)


class Linear(nn.Linear):
    """A fully connected layer without bias; what lies behind time is flattened."""

    def __init__(self, n_in: int, n_out: int) -> None:
        super().__init__(n_in, n_out, bias=False)

    def forward(self, input: Float[Tensor, "b t *shape"]) -> Float[Tensor, "b t o"]:
        """Currents of all steps, one product of batch x time."""
        currents: Tensor = super().forward(input.flatten(2))
        return currents


class BatchNorm2d(nn.BatchNorm2d):
    """Batch normalisation of each step apart, with one scale, shift and running average for all.

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
        self.num_batches_tracked.add_(n_steps)
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
        shape: of the neurons, such as (channels, height, width) or (n,).
        theta: mean initial threshold.
        spread: standard deviation of the initial thresholds.
        tau: share of the potential that is left after a step.
        alpha: sharpness of the surrogate derivative.
        sharing: who has a threshold of its own; in a flat layer a channel is a neuron.
        floor: `keep_above_floor` lifts thresholds to it; None leaves them alone (the paper).

    Attributes:
        thresh: thresholds, of the neurons' shape with 1 where it is shared.
    """

    def __init__(
        self,
        shape: Sequence[int],
        *,
        theta: float = 2.0,
        spread: float = 1e-4,
        tau: float = 0.5,
        alpha: float = 2.0,
        sharing: Sharing = "neuron",
        floor: float | None = None,
    ) -> None:
        super().__init__()
        if sharing not in get_args(Sharing):
            raise ValueError(f"sharing {sharing!r} is not one of {', '.join(get_args(Sharing))}")
        self.shape, self.tau, self.alpha, self.floor = tuple(shape), tau, alpha, floor
        ones = (1,) * len(self.shape)
        own = {"neuron": self.shape, "channel": (self.shape[0], *ones[1:]), "layer": ones}
        self.thresh = nn.Parameter(theta + spread * torch.randn(own[sharing]))

    def forward(self, input: Float[Tensor, "b t *shape"]) -> Float[Tensor, "b t *shape"]:
        """Spikes of all steps, from a membrane at rest."""
        # Under autocast the layer before may give bfloat16; a membrane needs its thresholds' dtype.
        return lif(
            input.to(self.thresh.dtype), self.thresh.expand(self.shape), self.tau, self.alpha
        )

    @torch.no_grad()
    def keep_above_floor(self) -> None:
        """Lift thresholds below the floor to it, where there is one."""
        if self.floor is not None:
            self.thresh.clamp_(min=self.floor)

    def extra_repr(self) -> str:
        """The layer in a printed network."""
        return f"{self.shape}, thresholds {tuple(self.thresh.shape)}, tau={self.tau}"


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


def n_neurons(layer: LIF) -> int:
    """Number of neurons of a layer, which may share thresholds."""
    return math.prod(layer.shape)
