"""The learning modes and their autograd functions: what stands in for the chain rule."""

from collections.abc import Callable
from typing import Any, Literal, get_args

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd import Function
from torch.nn.grad import conv1d_input, conv1d_weight, conv2d_input, conv2d_weight

from shared.errors import check_word

_CONVOLUTIONS = {3: (conv1d_input, conv1d_weight), 4: (conv2d_input, conv2d_weight)}
_FORWARD = {3: torch.nn.functional.conv1d, 4: torch.nn.functional.conv2d}


Mode = Literal["BRP", "BP", "FA", "DFA", "DRTP", "sDFA", "shallow"]
"""Learning modes; BRP is direct random target projection (DRTP) in a spiking network."""

MODES: tuple[Mode, ...] = get_args(Mode)

OF_TARGETS: dict[Mode, Callable[[Tensor], Tensor]] = {
    "BRP": lambda targets: targets,
    "DRTP": lambda targets: targets,
}
"""What is projected to the hidden layers, from the targets alone, both [batch, classes]."""

OF_READOUT: dict[Mode, Callable[[Tensor, Tensor], Tensor]] = {
    "DFA": lambda output, targets: output - targets,
    "sDFA": lambda output, targets: (output - targets).sign(),
}
"""The same from readout and targets, which waits for the end of the presentation."""

PROJECTED: tuple[Mode, ...] = (*OF_TARGETS, *OF_READOUT)
"""Modes that project a signal of the output's size to every hidden layer."""

LOCAL: tuple[Mode, ...] = (*OF_TARGETS, "shallow")
"""Modes whose hidden layers need to know nothing of the network's output."""


class ActFun(Function):
    """Spike where the membrane potential exceeds the threshold.

    The derivative is 1 where they are less than `lens` apart and 0 elsewhere (the surrogate).
    """

    @staticmethod
    def forward(ctx: Any, potential: Tensor, threshold: float = 0.5, lens: float = 0.5) -> Tensor:
        """Spikes, 0 or 1 in the potential's dtype."""
        ctx.save_for_backward(potential)
        ctx.threshold, ctx.lens = threshold, lens
        return (potential > threshold).to(potential.dtype)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        """Gradient of the potential."""
        (potential,) = ctx.saved_tensors
        return gradients[0] * ((potential - ctx.threshold).abs() < ctx.lens), None, None


def teaching_signal(
    mode: Mode,
    labels: Float[Tensor, "batch classes"] | None,
    y: Float[Tensor, "batch classes"] | None,
    fixed_fb_weights: Float[Tensor, "classes *units"],
) -> Float[Tensor, "batch *units"]:
    """What stands for the gradient on a hidden layer's activity, in a mode that projects a signal.

    Args:
        mode: one of `PROJECTED`.
        labels: the targets.
        y: the readout, in the modes of `OF_READOUT`.
        fixed_fb_weights: the random feedback weights.

    Raises:
        RuntimeError: the mode needs what is None.
        ValueError: the mode projects no signal, or there is none of that name.
    """
    check_word("mode that projects a signal", mode, PROJECTED)
    if labels is None:
        raise RuntimeError(f"{mode} needs the targets: nothing is learned without them")
    if mode in OF_TARGETS:
        taught = OF_TARGETS[mode](labels)
    elif y is None:
        raise RuntimeError(f"{mode} needs the readout, which is not there yet")
    else:
        taught = OF_READOUT[mode](y, labels)
    units = fixed_fb_weights.shape[1:]
    return (taught.to(fixed_fb_weights) @ fixed_fb_weights.flatten(1)).view(len(taught), *units)


class HookFunction(Function):
    """Identity whose gradient is what the mode has in place of that of what follows.

    Its `apply` is `trainingHook(input, labels, y, fixed_fb_weights, train_mode)`. With a batch of
    n: input [n, *units], labels [n, classes], y [n, classes], fixed_fb_weights [classes, *units].
    y may be filled with the readout as late as the backward pass. What a mode does not need may be
    None. A train_mode that there is not is a ValueError.
    """

    @staticmethod
    def forward(
        ctx: Any,
        input: Tensor,
        labels: Tensor | None,
        y: Tensor | None,
        fixed_fb_weights: Tensor | None,
        train_mode: Mode,
    ) -> Tensor:
        """The input itself."""
        check_word("mode", train_mode, MODES)
        # Not saved for the backward pass: autograd would refuse a y that was filled since.
        ctx.taught = labels, y, fixed_fb_weights
        ctx.mode = train_mode
        return input.view_as(input)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        """Gradient of the input."""
        (gradient,) = gradients
        if ctx.mode in PROJECTED:
            gradient = teaching_signal(ctx.mode, *ctx.taught).to(gradient)
        elif ctx.mode == "shallow":
            gradient = torch.zeros_like(gradient)
        return gradient, None, None, None, None


trainingHook = HookFunction.apply


class FeedbackAlignment(Function):
    """A linear map or convolution that sends gradients back through other, fixed weights."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor,
        feedback: Tensor,
        stride: int | tuple[int, ...],
        padding: int | tuple[int, ...],
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
        g = gradients[0].to(feedback)  # under autocast the forward pass gave half of its digits
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
