"""The network with lateral interactions, a layer at a time.

    V[t] = decay * (1 - s[t-1]) * V[t-1] + W x[t] + b + lateral(s[t-1])
    s[t] = 1 where V[t] > threshold

The lateral term, in the convolutional layers, is a depth-wise convolution of the layer's own spikes
of the step before. Two convolutions, each followed by average pooling by 2, then two fully
connected layers; the mean number of output spikes per step is the readout.

Source: Cheng, Hao, Xu and Xu, LISNN, IJCAI 2020, doi 10.24963/ijcai.2020/211.

No layer feeds back into an earlier one. Each therefore goes through all steps before the next one
starts: its convolution or product takes all steps at once, and only its membrane goes step by step.
On the CPU a convolution goes with its membrane, see `brp_snn._sparse`.
"""

import math
from typing import Any, Protocol

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.autograd import Function
from torch.autograd.function import once_differentiable
from torch.nn import functional

from brp_snn import _kernels as plain_kernels
from brp_snn import _sparse
from brp_snn.function import ActFun as ActFun
from brp_snn.lisnn import _steps as lateral_steps
from brp_snn.models import Neuron, compared, own_precision
from brp_snn.models import act_fun as act_fun
from brp_snn.models import mem_update as mem_update
from shared.errors import UserError
from shared.layers import is_heard

HIDDEN = 128
N_CLASSES = 10
POOL = (2, 2)

SIZES: dict[str, tuple[tuple[int, int, int], int]] = {
    "MNIST": ((1, 28, 28), 32),
    "Fashion-MNIST": ((1, 28, 28), 32),
    "NMNIST": ((2, 36, 36), 64),
}
"""Shape of a sample at one step and maps of each convolution, by the published name of a set."""


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
            lateral_steps.integrate(current, lateral, pooled, neuron, pool)
        # A potential that is no number never spikes, and stays none: the last step's spikes are
        # made none, too, so that the layers that follow, and the readout, tell of it.
        pooled[-1] += functional.avg_pool2d(0 * current[-1], pool)
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
        potential, signal = _given_up(ctx), signal.contiguous()
        if ctx.lateral is None:
            plain_kernels.chain(potential, signal, ctx.neuron, ctx.pool)
            return potential, None, None, None
        to_lateral = lateral_steps.chain(potential, signal, ctx.lateral, ctx.neuron, ctx.pool)
        return potential, to_lateral, None, None


class SparseConvolution(Function):
    """Pooled spikes of a convolutional layer from its input, over all steps, on the CPU.

    What `Membrane` of the convolution's output gives; inputs that are zero, and potentials without
    a gradient, cost nothing in the convolution: `brp_snn._sparse`.
    """

    @staticmethod
    def forward(
        ctx: Any,
        x: Float[Tensor, "time batch channels height width"],
        weight: Float[Tensor, "maps channels kernel kernel"],
        bias: Float[Tensor, " maps"],
        lateral: Float[Tensor, "maps side side"] | None,
        neuron: Neuron,
        padding: int,
    ) -> Float[Tensor, "time batch maps high wide"]:
        """Of a stride of 1."""
        (steps, batch), maps = x.shape[:2], len(weight)
        height, width = (n + 2 * padding + 1 - weight.shape[-1] for n in x.shape[3:])
        geometry = _sparse.Geometry(1, padding, POOL, (height, width))
        layer = _sparse.Convolution(weight, bias, geometry, neuron, lateral)
        potential = x.new_empty(steps, batch, 1, height * width * maps)
        pooled = x.new_empty(steps, batch, maps, height // POOL[0], width // POOL[1])
        layer.integrate(x, torch.zeros_like(potential[0]), potential, pooled)
        told = 0 * potential[-1]  # as in `Membrane`
        if told.any():
            maps_first = told.view(batch, height, width, maps).movedim(3, 1)
            pooled[-1] += functional.avg_pool2d(maps_first, POOL)
        if any(ctx.needs_input_grad):
            ctx.save_for_backward(x, weight, lateral)
            ctx.layer, ctx.potential = layer, potential
        return pooled

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, signal: Tensor) -> tuple[Tensor | None, ...]:
        """Gradients of input, weights, bias and lateral weights.

        Raises:
            RuntimeError: it is asked for a second time; the potentials are gone.
        """
        potential = _given_up(ctx)
        x, weight, _ = ctx.saved_tensors
        to_x = to_weight = to_bias = None
        to_lateral = ctx.layer.chain(potential, signal)
        if ctx.needs_input_grad[0]:
            to_x = ctx.layer.input_gradient(potential, weight, tuple(x.shape[2:]))
        if any(ctx.needs_input_grad[1:3]):
            to_weight, to_bias = ctx.layer.learn(x, potential)
        return to_x, to_weight, to_bias, to_lateral if ctx.needs_input_grad[3] else None, None, None


def _given_up(ctx: Any) -> Tensor:
    """The potentials of a forward pass, which the backward pass writes to."""
    if ctx.potential is None:
        raise RuntimeError("a membrane's gradient can be had once only")
    potential: Tensor = ctx.potential
    ctx.potential = None
    return potential


def _is_plain(conv: nn.Conv2d) -> bool:
    """Whether a convolution is square, with a bias and of stride 1, and called by nobody else."""
    padding, kernel = conv.padding, conv.kernel_size
    return (
        type(conv) is nn.Conv2d
        and not is_heard(conv)
        and conv.bias is not None
        and conv.stride == conv.dilation == (1, 1)
        and conv.groups == 1
        and not isinstance(padding, str)
        and (padding[0], kernel[0]) == (padding[1], kernel[1])
        and conv.padding_mode == "zeros"
    )


def convolved(
    spikes: Float[Tensor, "time batch channels height width"],
    conv: nn.Conv2d,
    lateral: nn.Conv2d | None,
    neuron: Neuron,
) -> Float[Tensor, "time batch maps high wide"]:
    """Spikes of a convolutional layer at every step, average-pooled by 2.

    Args:
        spikes: the layer's input.
        conv: its weights.
        lateral: depth-wise convolution of its own spikes of the step before, or None.
        neuron: constants of its units.

    A plain convolution, which nothing listens to, visits what is not zero where it is on the CPU:
    faster for spikes, slower for an input of which more than some two fifths are not zero.
    """
    taps = None if lateral is None else lateral.weight[:, 0]
    if _is_plain(conv):
        weight = conv.weight
        if _sparse.takes(weight) and (taps is None or _sparse.takes(taps)):
            padding = int(conv.padding[0])
            found: Tensor = SparseConvolution.apply(
                spikes, weight, conv.bias, taps, neuron, padding
            )
            return found
    steps, batch = spikes.shape[:2]
    current = conv(spikes.flatten(0, 1)).contiguous()
    rows = current.view(steps, batch * current.shape[1], *current.shape[2:])
    pooled: Tensor = Membrane.apply(rows, taps, neuron, POOL)
    return pooled.view(steps, batch, -1, *pooled.shape[2:])


def connected(
    activity: Float[Tensor, "time batch n_in"], fc: nn.Linear, neuron: Neuron
) -> Float[Tensor, "time batch n_out"]:
    """Spikes of a fully connected layer at every step.

    Args:
        activity: the layer's input.
        fc: its weights.
        neuron: constants of its units.
    """
    current = fc(activity.flatten(0, 1)).view(*activity.shape[:2], 1, -1)
    spikes: Tensor = Membrane.apply(current, None, neuron, (1, 1))
    return spikes.squeeze(2)


class LateralNetwork(nn.Module):
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
        self.shape, self.neuron = shape, neuron
        self.conv1 = nn.Conv2d(channels, maps, 3, padding=1)
        self.conv2 = nn.Conv2d(maps, maps, 3, padding=1)
        self.fc1 = nn.Linear(maps * math.prod(n // 2 // 2 for n in (height, width)), HIDDEN)
        self.fc2 = nn.Linear(HIDDEN, N_CLASSES)
        # From a fork of the stream: with and without them, what is drawn later is the same, and two
        # runs of one seed differ by them alone.
        with torch.random.fork_rng(devices=[]):
            self.lateral1, self.lateral2 = (
                nn.Conv2d(
                    maps, maps, lateral_kernel, padding=lateral_kernel // 2, groups=maps, bias=False
                )
                if lateral
                else None
                for _ in range(2)
            )

    def forward(
        self, spikes: Float[Tensor, "time batch channels height width"]
    ) -> Float[Tensor, "batch classes"]:
        """The readout: the mean number of output spikes per step, in [0, 1].

        It is NaN for samples that give a unit a potential that is no finite number.

        Raises:
            ValueError: the samples have another shape than the network takes.
        """
        if tuple(spikes.shape[2:]) != self.shape:
            raise ValueError(f"this network takes {self.shape} a step, not {spikes.shape[2:]}")
        with own_precision(spikes):
            maps = spikes.to(self.fc1.weight.dtype)
            for conv, lateral in ((self.conv1, self.lateral1), (self.conv2, self.lateral2)):
                maps = convolved(maps, conv, lateral, self.neuron)
            hidden = connected(maps.flatten(2), self.fc1, self.neuron)
            return connected(hidden, self.fc2, self.neuron).mean(0)


class Options(Protocol):
    """What the published class reads of the command line.

    Attributes:
        dts: a name in `SIZES`.
        if_lateral: with lateral interactions.
    """

    dts: str
    if_lateral: bool


class LISNN(LateralNetwork):
    """The network with the published sizes and call; batches of any size.

    Args:
        opt: says which data set it is for.

    Raises:
        UserError: no sizes are published for that data set.
    """

    def __init__(self, opt: Options) -> None:
        if opt.dts not in SIZES:
            raise UserError(f"-dts {opt.dts} is not one of {', '.join(SIZES)}")
        super().__init__(*SIZES[opt.dts], lateral=opt.if_lateral)
        self.dts = opt.dts

    def forward(
        self, input: Float[Tensor, "batch *inputs"], time_window: int = 20
    ) -> Float[Tensor, "batch classes"]:
        """The readout of images, compared with new random numbers at every step, or of frames.

        Args:
            input: [batch, 1, 28, 28], intensities in [0, 1], or of N-MNIST
                [batch, 2, 36, 36, frames].
            time_window: steps; of N-MNIST the first frames are shown.
        """
        if self.dts == "NMNIST":
            spikes = input[..., :time_window].movedim(-1, 0)
        else:
            spikes = compared(input, time_window, self.fc1.weight.dtype)
        return super().forward(spikes)
