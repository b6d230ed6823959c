"""The neurons after a convolution, a step or all steps at a time, as one operation with gradient.

On the CPU the operations are the kernels of `_kernels_cpu`, each one pass over the arrays;
elsewhere they are made of torch's, with as few passes and new arrays as possible.
"""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional

from hybrid_plasticity.classification import _kernels_cpu
from hybrid_plasticity.neuron import Neuron
from shared.device import share_threads
from shared.layers import by_numba

kernels: Any = _kernels_cpu  # numba's types know nothing of their arguments


def _views(*tensors: Tensor) -> list[Any]:
    """NumPy's views of tensors with channels last, for kernels with as many threads as torch."""
    share_threads()
    return [tensor.detach().numpy() for tensor in tensors]


def _constants(neuron: Neuron, pooled: bool, like: Tensor) -> tuple[Any, ...]:
    """Arguments that all kernels end with."""
    kind, side = torch.empty(0, dtype=like.dtype).numpy().dtype.type, 2 if pooled else 1
    values = (
        neuron.theta, neuron.decay, neuron.decay * neuron.theta, neuron.theta - neuron.lens,
        neuron.theta + neuron.lens, 1 / side**2, 0,
    )  # fmt: skip
    return side, tuple(kind(value) for value in values), neuron.reset == "hard"


def _last(tensor: Tensor) -> Tensor:
    """A tensor of images with its channels last, in memory, too."""
    return tensor.movedim(-3, -1).contiguous()


def _first(tensor: Tensor) -> Tensor:
    """The same with its channels first again; memory stays as it is."""
    return tensor.movedim(-1, -3)


def _room(potential: Tensor, pooled: bool, *steps: int) -> Tensor:
    """Room for spikes of neurons [batch, height, width, channels], averaged where `pooled`."""
    batch, height, width, channels = potential.shape
    side = 2 if pooled else 1
    return potential.new_empty(*steps, batch, height // side, width // side, channels)


class _Fire(torch.autograd.Function):
    """A step.

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
        ctx.neuron, ctx.pooled, ctx.kernels = neuron, pooled, by_numba(current)
        if carried is not None:
            ctx.mark_dirty(carried)
        work = _step_by_kernel if ctx.kernels else _step_by_torch
        spikes, carried, potential = work(current, carried, scratch, neuron, pooled)
        ctx.save_for_backward(potential)
        return spikes, carried

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor | None, None, None, None]:
        (potential,) = ctx.saved_tensors
        work = _back_by_kernel if ctx.kernels else _back_by_torch
        inner = work(potential, grads[0], grads[1], ctx.neuron, ctx.pooled)
        return inner, inner if ctx.needs_input_grad[1] else None, None, None, None


def _step_by_kernel(
    current: Tensor, carried: Tensor | None, scratch: Tensor, neuron: Neuron, pooled: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """Spikes, what is carried on and, channels last, the potentials."""
    if carried is None:  # not a view, which autograd lets no step write over
        carried = torch.zeros_like(current, memory_format=torch.channels_last)
    current = _last(current)
    potential, spikes = torch.empty_like(current), _room(current, pooled)
    arrays = _views(current, carried.movedim(-3, -1), potential, spikes)
    kernels.step(*arrays, *_constants(neuron, pooled, current))
    return _first(spikes), carried, potential


def _back_by_kernel(
    potential: Tensor, spiked: Tensor, carried: Tensor, neuron: Neuron, pooled: bool
) -> Tensor:
    """Gradient of the current, of `_step_by_kernel`."""
    gradient = torch.empty_like(potential)
    arrays = _views(potential, _last(carried), _last(spiked), gradient)
    kernels.step_back(*arrays, *_constants(neuron, pooled, potential))
    return _first(gradient)


def _step_by_torch(
    current: Tensor, carried: Tensor | None, scratch: Tensor, neuron: Neuron, pooled: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """Spikes, what is carried on and the potentials."""
    potential = current if carried is None else current + carried
    room = scratch if pooled else torch.empty_like(potential)
    spikes = torch.gt(potential, neuron.theta, out=room)
    if carried is None:
        carried = torch.empty_like(potential)
    if neuron.reset == "hard":
        torch.addcmul(potential, potential, spikes, value=-1, out=carried)
    else:
        torch.sub(potential, spikes, alpha=neuron.theta, out=carried)
    carried.mul_(neuron.decay)
    return functional.avg_pool2d(spikes, 2) if pooled else spikes, carried, potential


def _back_by_torch(
    potential: Tensor, spiked: Tensor, carried: Tensor, neuron: Neuron, pooled: bool
) -> Tensor:
    """Gradient of the current, of `_step_by_torch`."""
    if neuron.reset == "hard":
        inner = (carried * potential).mul_(-neuron.decay)
    else:
        inner = carried * (-neuron.decay * neuron.theta)
    if pooled:
        height, width = spiked.shape[2:]
        square: Any = inner[:, :, : 2 * height, : 2 * width]
        square = square.unflatten(3, (width, 2)).unflatten(2, (height, 2))
        square.add_(spiked[:, :, :, None, :, None], alpha=0.25)
    else:
        inner.add_(spiked)
    # hardtanh has the derivative that the surrogate says: 1 inside the window, 0 outside.
    window = (neuron.theta - neuron.lens, neuron.theta + neuron.lens)
    torch.ops.aten.hardtanh_backward(inner, potential, *window, grad_input=inner)
    if neuron.reset == "hard":
        inner.addcmul_(carried, (potential <= neuron.theta).to(carried.dtype), value=neuron.decay)
    else:
        inner.add_(carried, alpha=neuron.decay)
    return inner


class _Scan(torch.autograd.Function):
    """Steps from `first` up to `last` under a current that stays, their spikes apart.

    Potentials are kept nowhere: both passes find them again from the current.
    """

    @staticmethod
    def forward(
        ctx: Any, current: Tensor, first: int, last: int, neuron: Neuron, pooled: bool
    ) -> tuple[Tensor, ...]:
        current = _last(current)
        spikes = _room(current, pooled, last - first)
        constants = _constants(neuron, pooled, current)
        kernels.scan(*_views(current, spikes), first, *constants)
        ctx.first, ctx.neuron, ctx.pooled = first, neuron, pooled
        ctx.save_for_backward(current)
        return tuple(_first(step) for step in spikes)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None, None, None]:
        (current,) = ctx.saved_tensors
        gradient = torch.zeros_like(current)  # what no window covers has none
        spiked = torch.stack([_last(grad) for grad in grads])
        constants = _constants(ctx.neuron, ctx.pooled, current)
        kernels.scan_back(*_views(current, spiked, gradient), ctx.first, *constants)
        return _first(gradient), None, None, None, None


class Membrane(NamedTuple):
    """State of a convolutional layer within a presentation.

    Attributes:
        carried: what reset and decay left of the potentials [batch, channels, height, width].
        scratch: room for the spikes of a step, of the same shape; empty where kernels work.
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
    if membrane is None:
        before = None
        scratch = current.new_empty(0 if by_numba(current) else current.shape)
    else:
        before, scratch = membrane
    spikes, carried = _Fire.apply(current, before, scratch, neuron, pooled)
    return spikes, Membrane(carried, scratch)


def fire_steadily(
    current: Float[Tensor, "batch channels height width"],
    ends: Sequence[int],
    neuron: Neuron,
    pooled: bool,
) -> Iterator[Float[Tensor, "batch channels h w"]]:
    """Spikes of each step under a current that stays, as `fire` gives them step by step.

    Args:
        current: what reaches the neurons at every step.
        ends: steps are computed together up to each of these, when the first of them is asked for.
        neuron: constants; its reset is "soft" or "hard".
        pooled: average the spikes over 2 x 2 neurons.
    """
    if by_numba(current):
        for first, last in zip((0, *ends), ends, strict=False):
            yield from _Scan.apply(current, first, last, neuron, pooled)
        return
    membrane = None
    for _ in range(ends[-1]):
        spikes, membrane = fire(current, membrane, neuron, pooled)
        yield spikes
