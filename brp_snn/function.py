"""Autograd functions behind the learning modes: what stands in for the chain rule."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function
from torch.nn.grad import conv1d_input, conv1d_weight, conv2d_input, conv2d_weight

_CONVOLUTIONS = {3: (conv1d_input, conv1d_weight), 4: (conv2d_input, conv2d_weight)}
_FORWARD = {3: torch.nn.functional.conv1d, 4: torch.nn.functional.conv2d}


class ActFun(Function):
    """Spike where the membrane potential exceeds the threshold.

    The derivative is 1 where they are less than `lens` apart and 0 elsewhere (the surrogate).
    """

    @staticmethod
    def forward(ctx: Any, potential: Tensor, threshold: float, lens: float) -> Tensor:
        """Spikes, 0 or 1 in the potential's dtype."""
        ctx.save_for_backward(potential)
        ctx.threshold, ctx.lens = threshold, lens
        return (potential > threshold).to(potential.dtype)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        """Gradient of the potential."""
        (potential,) = ctx.saved_tensors
        return gradients[0] * ((potential - ctx.threshold).abs() < ctx.lens), None, None


class ReplaceGradient(Function):
    """Identity whose gradient is not that of what follows but a teaching signal."""

    @staticmethod
    def forward(ctx: Any, activity: Tensor, signal: Callable[[], Tensor]) -> Tensor:
        """The activity itself; `signal` is asked for its gradient when the backward pass comes."""
        ctx.signal = signal
        return activity.view_as(activity)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        """The signal, in place of the gradient."""
        return ctx.signal().to(gradients[0]), None


class FeedbackAlignment(Function):
    """A linear map or convolution that sends gradients back through other, fixed weights."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, feedback: Tensor, stride: int, padding: int
    ) -> Tensor:
        """The map of `weight`; stride and padding act on convolutions only."""
        ctx.save_for_backward(x, weight, feedback)
        ctx.geometry = {"stride": stride, "padding": padding}
        if weight.dim() == 2:
            return torch.nn.functional.linear(x, weight)
        return _FORWARD[weight.dim()](x, weight, **ctx.geometry)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        """Gradient of the input by the feedback weights, that of the weights as it is."""
        x, weight, feedback = ctx.saved_tensors
        (g,) = gradients
        to_input = to_weight = None
        if weight.dim() == 2:
            if ctx.needs_input_grad[0]:
                to_input = g @ feedback
            if ctx.needs_input_grad[1]:
                to_weight = g.T @ x
        else:
            input_gradient, weight_gradient = _CONVOLUTIONS[weight.dim()]
            if ctx.needs_input_grad[0]:
                to_input = input_gradient(  # type: ignore[no-untyped-call]
                    x.shape, feedback, g, **ctx.geometry
                )
            if ctx.needs_input_grad[1]:
                to_weight = weight_gradient(  # type: ignore[no-untyped-call]
                    x, weight.shape, g, **ctx.geometry
                )
        return to_input, to_weight, None, None, None
