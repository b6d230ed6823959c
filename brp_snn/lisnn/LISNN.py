"""The network with lateral interactions, a layer at a time.

    V[t] = decay * (1 - s[t-1]) * V[t-1] + W x[t] + b + lateral(s[t-1])
    s[t] = 1 where V[t] > threshold

The lateral term, in the convolutional layers, is a depth-wise convolution of the layer's own spikes
of the step before. Two convolutions, each with average pooling by 2 behind it, then two fully
connected layers; the mean number of output spikes a step is the readout.

No layer feeds back into an earlier one. Each therefore goes through all steps before the next one
starts: its convolution or product takes all steps at once, and only its membrane goes step by step.
"""

import math
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from brp_snn import _kernels as plain_kernels
from brp_snn.lisnn import _kernels as lateral_kernels
from brp_snn.models import Neuron
from shared.errors import UserError

HIDDEN = 128
N_CLASSES = 10
POOL = (2, 2)


class Membrane(Function):
    """Pooled spikes of a layer from its currents, over all steps, with the surrogate's gradient.

    The currents are given up: potentials take their place, and in the backward pass gradients take
    that of the potentials. A layer's largest array is thus held once.
    """

    @staticmethod
    def forward(
        ctx: Any,
        current: Float[Tensor, "time rows height width"],
        lateral: Float[Tensor, "channels kernel kernel"] | None,
        neuron: Neuron,
        pool: tuple[int, int],
    ) -> Float[Tensor, "time rows high wide"]:
        """Rows are batch times channels; with lateral weights, channels run fastest."""
        steps, rows, height, width = current.shape
        pooled = current.new_empty(steps, rows, height // pool[0], width // pool[1])
        if lateral is None:
            plain_kernels.integrate(current, torch.zeros_like(current[0]), pooled, neuron, pool)
        else:
            lateral = lateral.detach()
            lateral_kernels.integrate(current, lateral, pooled, neuron, pool)
        if any(ctx.needs_input_grad):
            ctx.potential, ctx.lateral, ctx.neuron, ctx.pool = current, lateral, neuron, pool
        return pooled

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, signal: Tensor) -> tuple[Tensor | None, ...]:
        """Gradients of the currents and of the lateral weights.

        Raises:
            RuntimeError: it is asked for a second time; the potentials are gone.
        """
        if ctx.potential is None:
            raise RuntimeError("a membrane's gradient can be had once only")
        potential, ctx.potential = ctx.potential, None
        signal = signal.contiguous()
        if ctx.lateral is None:
            plain_kernels.chain(potential, signal, ctx.neuron, ctx.pool)
            return potential, None, None, None
        to_lateral = lateral_kernels.chain(potential, signal, ctx.lateral, ctx.neuron, ctx.pool)
        return potential, to_lateral, None, None


class ConvolutionLayer(nn.Module):
    """A convolution of 3 x 3 that keeps the maps' size, units, and average pooling by 2.

    Args:
        channels: maps of the input.
        maps: maps of units.
        lateral_kernel: side of the lateral convolution, odd; None leaves the lateral term out.
        neuron: constants of the units.
    """

    def __init__(
        self, channels: int, maps: int, lateral_kernel: int | None, neuron: Neuron
    ) -> None:
        super().__init__()
        self.neuron = neuron
        self.conv = nn.Conv2d(channels, maps, 3, padding=1)
        self.lateral: nn.Conv2d | None = None
        if lateral_kernel is not None:
            self.lateral = nn.Conv2d(
                maps, maps, lateral_kernel, padding=lateral_kernel // 2, groups=maps, bias=False
            )

    def forward(
        self, spikes: Float[Tensor, "time batch channels height width"]
    ) -> Float[Tensor, "time batch maps high wide"]:
        """Pooled spikes at every step."""
        steps, batch = spikes.shape[:2]
        current = self.conv(spikes.flatten(0, 1)).contiguous()
        rows = current.view(steps, batch * current.shape[1], *current.shape[2:])
        weight = None if self.lateral is None else self.lateral.weight[:, 0]
        pooled: Tensor = Membrane.apply(rows, weight, self.neuron, POOL)
        return pooled.view(steps, batch, -1, *pooled.shape[2:])


class ConnectedLayer(nn.Module):
    """Fully connected units.

    Args:
        n_in: inputs.
        n_out: units.
        neuron: constants of the units.
    """

    def __init__(self, n_in: int, n_out: int, neuron: Neuron) -> None:
        super().__init__()
        self.neuron = neuron
        self.fc = nn.Linear(n_in, n_out)

    def forward(self, activity: Float[Tensor, "time batch n_in"]) -> Float[Tensor, "time batch n"]:
        """Spikes at every step."""
        current = self.fc(activity.flatten(0, 1)).view(*activity.shape[:2], 1, -1)
        spikes: Tensor = Membrane.apply(current, None, self.neuron, (1, 1))
        return spikes.squeeze(2)


class LISNN(nn.Module):
    """The network; the weights start as torch's layers draw them.

    Args:
        shape: (channels, height, width) of one sample at one step.
        maps: maps of each convolution.
        lateral: with lateral interactions.
        lateral_kernel: side of the lateral convolutions, odd.
        neuron: constants of the units.

    Raises:
        UserError: the sample is too small to be pooled twice.
        ValueError: the lateral kernel is even.
    """

    def __init__(
        self,
        shape: tuple[int, int, int],
        maps: int = 32,
        lateral: bool = True,
        lateral_kernel: int = 5,
        neuron: Neuron = Neuron(),
    ) -> None:
        super().__init__()
        if lateral_kernel % 2 == 0:
            raise ValueError(
                f"a lateral kernel of {lateral_kernel} x {lateral_kernel} has no middle"
            )
        channels, height, width = shape
        if min(height, width) < 4:
            raise UserError(f"samples of {height} x {width} are too small to be pooled by 2 twice")
        kernel = lateral_kernel if lateral else None
        self.shape = shape
        self.convolutions = nn.Sequential(
            ConvolutionLayer(channels, maps, kernel, neuron),
            ConvolutionLayer(maps, maps, kernel, neuron),
        )
        n_in = maps * math.prod(n // 2 // 2 for n in (height, width))
        self.connected = nn.Sequential(
            ConnectedLayer(n_in, HIDDEN, neuron), ConnectedLayer(HIDDEN, N_CLASSES, neuron)
        )

    def forward(
        self, spikes: Float[Tensor, "time batch channels height width"]
    ) -> Float[Tensor, "batch classes"]:
        """The readout: the mean number of output spikes a step, in [0, 1].

        Raises:
            ValueError: the samples have another shape than the network takes.
        """
        if tuple(spikes.shape[2:]) != self.shape:
            raise ValueError(f"this network takes {self.shape} a step, not {spikes.shape[2:]}")
        maps = self.convolutions(spikes)
        output: Tensor = self.connected(maps.flatten(2)).mean(0)
        return output
