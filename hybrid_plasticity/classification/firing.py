"""A step of the neurons after a convolution, as one operation with its gradient."""

from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from hybrid_plasticity.neuron import Neuron


class _Fire(torch.autograd.Function):
    """A step of a convolutional layer's neurons with as few passes and new arrays as possible.

    Between steps it carries what the reset leaves, decay (V - theta s) or decay V (1 - s), in one
    array that it writes over; for the gradient it keeps V alone.
    """

    @staticmethod
    def forward(
        ctx: Any,
        current: Tensor,
        carried: Tensor | None,
        scratch: Tensor,
        neuron: Neuron,
        pooled: bool,
    ) -> tuple[Tensor, Tensor]:
        potential = current if carried is None else current + carried
        room = scratch if pooled else torch.empty_like(potential)
        spikes = torch.gt(potential, neuron.theta, out=room)
        if carried is None:
            carried = torch.empty_like(potential)
        else:
            ctx.mark_dirty(carried)
        if neuron.reset == "hard":
            torch.addcmul(potential, potential, spikes, value=-1, out=carried)
        else:
            torch.sub(potential, spikes, alpha=neuron.theta, out=carried)
        carried.mul_(neuron.decay)
        ctx.neuron, ctx.pooled = neuron, pooled
        ctx.save_for_backward(potential)
        return functional.avg_pool2d(spikes, 2) if pooled else spikes, carried

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor | None, None, None, None]:
        neuron: Neuron = ctx.neuron
        (potential,) = ctx.saved_tensors
        carried = grads[1]
        if neuron.reset == "hard":
            inner = (carried * potential).mul_(-neuron.decay)
        else:
            inner = carried * (-neuron.decay * neuron.theta)
        if ctx.pooled:
            height, width = grads[0].shape[2:]
            square = inner[:, :, : 2 * height, : 2 * width]
            square = square.unflatten(3, (width, 2)).unflatten(2, (height, 2))
            square.add_(grads[0][:, :, :, None, :, None], alpha=0.25)
        else:
            inner.add_(grads[0])
        # hardtanh has the derivative that the surrogate says: 1 inside the window, 0 outside.
        window = (neuron.theta - neuron.lens, neuron.theta + neuron.lens)
        torch.ops.aten.hardtanh_backward(inner, potential, *window, grad_input=inner)
        if neuron.reset == "hard":
            inner.addcmul_(
                carried, (potential <= neuron.theta).to(carried.dtype), value=neuron.decay
            )
        else:
            inner.add_(carried, alpha=neuron.decay)
        return inner, inner if ctx.needs_input_grad[1] else None, None, None, None


class Membrane(NamedTuple):
    """State of a convolutional layer within a presentation.

    Attributes:
        carried: what reset and decay left of the potentials [batch, channels, height, width].
        scratch: room for the spikes of a step, of the same shape.
    """

    carried: Tensor
    scratch: Tensor


def fire(
    current: Float[Tensor, "batch channels height width"],
    membrane: Membrane | None,
    neuron: Neuron,
    pooled: bool,
) -> tuple[Float[Tensor, "batch channels h w"], Membrane]:
    """Spikes of a step, averaged over 2 x 2 neurons where `pooled`, and the new state.

    Args:
        current: what reaches the neurons.
        membrane: of the step before, which is written over; None before the first step.
        neuron: constants; its reset is "soft" or "hard".
        pooled: average the spikes.
    """
    before, scratch = membrane or (None, torch.empty_like(current))
    spikes, carried = _Fire.apply(current, before, scratch, neuron, pooled)
    return spikes, Membrane(carried, scratch)
