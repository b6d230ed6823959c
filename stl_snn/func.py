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

from shared.layers import is_heard
from stl_snn import _block, _convolution, _pool
from stl_snn.lif import lif, surrogate

FEW_CHANNELS = 32  # of inputs or outputs: with fewer a spike has too little to add
FEW_SPIKES = 0.25  # up to this share of ones a convolution that visits them alone is faster


def _apart(joined: Tensor, like: Tensor) -> Tensor:
    """[batch x time, ...] as [batch, time, ...] of another tensor."""
    return joined.view(*like.shape[:2], *joined.shape[1:])


def _channels_last(images: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c h w"]:
    """Images with their channels last; told by strides where there is but one channel."""
    images = images.contiguous(memory_format=torch.channels_last)
    n_channels, height, width = images.shape[1:]
    if n_channels > 1 or torch.compiler.is_exporting():
        return images
    return images.as_strided(images.shape, (height * width, 1, width, 1))


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
        """Currents of all steps, one convolution of batch x time; on a CPU channels lie last."""
        images = input.flatten(0, 1)
        if images.device.type != "cpu":
            return _apart(super().forward(images).contiguous(), input)
        images = _channels_last(images)
        spikes = _convolution.listed(images) if self._visits_spikes(images) else None
        if spikes and spikes.share <= FEW_SPIKES:
            return _apart(_convolution.convolve(images, self.weight, spikes), input)
        return _apart(super().forward(images), input)

    def _visits_spikes(self, images: Float[Tensor, "n c h w"]) -> bool:
        """Whether the convolution is one that can visit spikes alone, if there are few."""
        return (
            images.dtype == self.weight.dtype
            and images.dtype in (torch.float32, torch.float64)
            and min(self.in_channels, self.out_channels) >= FEW_CHANNELS
            and self.kernel_size[0] == self.kernel_size[1]
            and self.kernel_size[0] % 2 == 1
            and self.padding == (self.kernel_size[0] // 2,) * 2
            and (self.stride, self.dilation, self.groups) == ((1, 1), (1, 1), 1)
            and self.padding_mode == "zeros"
            and self.bias is None
            and not torch.is_autocast_enabled("cpu")
            and not torch.compiler.is_exporting()
            # Nothing would come of a weight that is no number where no spike is.
            and bool(self.weight.sum().isfinite())
        )


class Linear(nn.Linear):
    """A fully connected layer; takes what `torch.nn.Linear` takes. Flattens what follows time."""

    def forward(self, input: Float[Tensor, "b t *shape"]) -> Float[Tensor, "b t o"]:
        """Currents of all steps, one product of batch x time."""
        currents: Tensor = super().forward(input.flatten(2))
        return currents


class BatchNorm2d(nn.BatchNorm2d):
    """Batch normalization of each step apart, with one scale, shift and running average for all.

    In training the running average takes in the statistics of every step, in the order of steps.
    Arguments are torch's.

    Raises:
        ValueError: there is no running average, or a cumulative one (momentum None).
    """

    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = True,
        track_running_stats: bool = True,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(num_features, eps, momentum, affine, track_running_stats, device, dtype)
        if momentum is None or not track_running_stats:
            raise ValueError(
                "this normalization keeps an exponential running average over steps: leave "
                "track_running_stats True and give momentum a number"
            )

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
        weight, bias = (
            None if of is None else of.repeat(n_steps) for of in (self.weight, self.bias)
        )
        found = functional.batch_norm(
            input.flatten(1, 2), mean, var, weight, bias, training=True, momentum=1, eps=self.eps
        )
        self._take_in(mean.view(n_steps, -1), var.view(n_steps, -1))
        return found.view(input.shape)

    def statistics(self, input: Float[Tensor, "b t c h w"]) -> _block.Statistics:
        """What inputs on a CPU are normalized by; in training the running average takes it in."""
        assert self.running_mean is not None
        assert self.running_var is not None
        if not self.training:
            mean, var = self.running_mean, self.running_var
            return _block.Statistics(*(of.double().repeat(input.shape[1], 1) for of in (mean, var)))
        found = _block.statistics(input)
        count = input[:, 0, 0].numel()
        if count == 1:
            raise ValueError(f"one value per channel cannot be normalized, of input {input.shape}")
        unbiased = found.variance * (count / (count - 1))
        self._take_in(found.mean.to(input.dtype), unbiased.to(input.dtype))
        return found

    @torch.no_grad()
    def _take_in(self, mean: Float[Tensor, "t c"], var: Float[Tensor, "t c"]) -> None:
        """Let the running average take in mean and unbiased variance of every step."""
        assert self.running_mean is not None
        assert self.running_var is not None
        assert self.num_batches_tracked is not None
        assert self.momentum is not None
        ages = torch.arange(len(mean) - 1, -1, -1, device=mean.device, dtype=mean.dtype)
        share = self.momentum * (1 - self.momentum) ** ages
        for running, of_steps in ((self.running_mean, mean), (self.running_var, var)):
            running.mul_((1 - self.momentum) ** len(mean))
            running.add_(share @ of_steps)
        self.num_batches_tracked.add_(1)  # passes, as published, not steps

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

    def forward(self, input: Float[Tensor, "b t *shape"]) -> Float[Tensor, "b t *shape"]:
        """A mask whose draws do not depend on how the input lies in memory."""
        return super().forward(input.contiguous())


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
        """Shares of the votes, in [0, 1].

        Raises:
            ValueError: the neurons cannot be shared out evenly.
        """
        n = spikes.shape[2]
        if n % self.population:
            raise ValueError(f"{n} neurons are no multiple of {self.population} votes for a class")
        return spikes.reshape(*spikes.shape[:2], n // self.population, self.population).mean((1, 3))


def fused(
    norm: nn.Module, neurons: nn.Module, pool: nn.Module | None, input: Float[Tensor, "b t c h w"]
) -> Float[Tensor, "b t c h2 w2"] | None:
    """What normalization, neurons and max pooling give one after the other, in one operation.

    Args:
        norm: batch normalization.
        neurons: the neurons behind it.
        pool: max pooling behind them, if any.
        input: currents of all steps.

    Returns:
        Spikes, as of the three layers but for rounding; None where the layers must be called: they
        are not those of this module, someone listens to them, or there is no such operation for the
        input's device or dtype, for an empty batch, or for a normalization without a scale.

    Raises:
        ValueError: the thresholds do not fit the neurons, or a channel has one value only.
    """
    layers = [layer for layer in (norm, neurons, pool) if layer is not None]
    if (
        type(norm) is not BatchNorm2d
        or type(neurons) is not LIF
        or (pool is not None and type(pool) is not AdaptiveMaxPool2d)
        or any(is_heard(layer) for layer in layers)
        or not norm.affine
        or input.device.type != "cpu"
        or not input.numel()
        or not input.dtype == neurons.thresh.dtype == norm.weight.dtype
        or input.dtype not in (torch.float32, torch.float64)
        or torch.compiler.is_exporting()
    ):
        return None
    halves = pool is not None and tuple(input.shape[-2:]) == (2 * pool.output_size,) * 2
    constants = _block.Constants(neurons.tau, neurons.alpha, norm.eps, halves, norm.training)
    theta = neurons.thresholds(input.shape[2:])
    found = _block.block(input, norm.weight, norm.bias, theta, norm.statistics(input), constants)
    if pool is None or halves:
        return found
    pooled: Tensor = pool(found)
    return pooled
