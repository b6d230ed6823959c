"""Networks of leaky integrate-and-fire units, step by step, as autograd sees them.

    V[t] = decay * (1 - s[t-1]) * V[t-1] + W x[t] + b;    s[t] = 1 where V[t] > threshold

A topology is written as `CONV_32_5_1_2_FC_1000_FC_10`: layers joined by `_`, each one of

    CONV_{channels}_{kernel}_{stride}_{padding}    2-D convolution, then pooling by 2
    C_{channels}_{kernel}_{stride}_{padding}       1-D convolution, then pooling by its kernel size
    FC_{units}                                     fully connected

Spiking layers are pooled by the average, continuous ones by the maximum. The last layer is fully
connected and its mean number of spikes per step is the readout. The programs
here are the plain form, which `layerwise` is checked against; it computes the same faster.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, NamedTuple, get_args

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from brp_snn.function import MODES, OF_READOUT, ActFun, Mode
from brp_snn.module import FA_wrapper, TrainingHook
from shared import parallel
from shared.errors import UserError, check_word

GRAMMAR = (
    "a topology joins layers by _: CONV_{channels}_{kernel}_{stride}_{padding} (2-D, then pooled "
    "by 2), C_{channels}_{kernel}_{stride}_{padding} (1-D, pooled by its kernel size) and "
    "FC_{units}, the last of them FC, "
    "such as CONV_32_5_1_2_FC_1000_FC_10"
)

Act = Literal["tanh", "sigmoid", "relu", "none"]

ACTIVATIONS: dict[Act, Callable[[Tensor], Tensor]] = {
    "tanh": torch.tanh,
    "sigmoid": torch.sigmoid,
    "relu": torch.relu,
    "none": nn.Identity(),
}


class Activation(nn.Module):
    """The activation of continuous units, by its name in `ACTIVATIONS`.

    Raises:
        ValueError: there is no such name.
    """

    def __init__(self, activation: Act) -> None:
        super().__init__()
        check_word("activation", activation, ACTIVATIONS)
        self.act = ACTIVATIONS[activation]

    def forward(self, x: Tensor) -> Tensor:
        """The units' activity from their input, element by element."""
        return self.act(x)


Init = Literal["torch", "he"]
"""Initial weights of a unit with n inputs: "torch" for what torch's layers draw by themselves,
U(-1/sqrt n, 1/sqrt n), as published; "he" for U(-sqrt(6/n), sqrt(6/n)). Biases are torch's in
both."""

INITS: tuple[Init, ...] = get_args(Init)


class TopologyError(UserError):
    """A topology does not parse, or does not fit the input."""


@dataclass(frozen=True)
class Neuron:
    """Constants of the leaky integrate-and-fire unit.

    Attributes:
        threshold: membrane potential above which it spikes.
        lens: half the width of the surrogate derivative around the threshold.
        decay: share of the membrane potential that is left a step later, in [0, 1).
    """

    threshold: float = 0.5
    lens: float = 0.5
    decay: float = 0.2

    def __post_init__(self) -> None:
        if not 0 <= self.decay < 1:
            raise UserError(f"--decay {self.decay} must be at least 0 and below 1")
        if not self.lens > 0:
            raise UserError(f"--lens {self.lens} must be above 0")
        if not math.isfinite(self.threshold):
            raise UserError(f"--thresh {self.threshold} must be a finite number")


class Layer(NamedTuple):
    """A layer of a topology; kernel, stride and padding are 1, 1, 0 where it is FC."""

    kind: Literal["CONV", "C", "FC"]
    units: int
    kernel: int = 1
    stride: int = 1
    padding: int = 0


_NUMBERS = {"CONV": 4, "C": 4, "FC": 1}


def parse_topology(topology: str) -> list[Layer]:
    """The layers of a topology.

    Raises:
        TopologyError: it does not parse; the token is named.
    """
    tokens = topology.split("_")
    layers: list[Layer] = []
    at = 0
    while at < len(tokens):
        kind = tokens[at]
        if kind not in _NUMBERS:
            raise TopologyError(f"--topology {topology}: {kind!r} is no layer; {GRAMMAR}")
        words = tokens[at + 1 : at + 1 + _NUMBERS[kind]]
        for word in words:
            if not (word.isascii() and word.isdigit()):
                raise TopologyError(
                    f"--topology {topology}: {word!r} after {kind} is no number; {GRAMMAR}"
                )
        if len(words) < _NUMBERS[kind]:
            raise TopologyError(
                f"--topology {topology}: {kind} at its end lacks numbers; {GRAMMAR}"
            )
        layer = Layer(kind, *map(int, words))  # type: ignore[arg-type]
        if min(layer.units, layer.kernel, layer.stride) < 1:
            raise TopologyError(
                f"--topology {topology}: {'_'.join([kind, *words])} must have units, kernel and "
                "stride above 0"
            )
        if kind != "FC" and layers and layers[-1].kind != kind:
            raise TopologyError(
                f"--topology {topology}: {kind} cannot follow {layers[-1].kind}; {GRAMMAR}"
            )
        layers.append(layer)
        at += 1 + len(words)
    if layers[-1].kind != "FC":
        raise TopologyError(f"--topology {topology} must end with FC_{{units}}; {GRAMMAR}")
    return layers


act_fun = ActFun.apply
"""Spikes from potential, threshold and lens."""


def mem_update(
    ops: Callable[[Tensor], Tensor],
    x: Tensor,
    mem: Float[Tensor, "batch *units"],
    spike: Float[Tensor, "batch *units"],
    lateral: Callable[[Tensor], Tensor] | None = None,
    neuron: Neuron = Neuron(),
) -> tuple[Float[Tensor, "batch *units"], Float[Tensor, "batch *units"]]:
    """One step of the membrane; the reset takes part in the gradient.

    Args:
        ops: gives the synaptic current for the layer's input.
        x: that input.
        mem: potential of the step before.
        spike: spikes of the step before.
        lateral: gives a current for those spikes; None for none.
        neuron: constants of the units.

    Returns:
        Potential and spikes.
    """
    mem = mem * neuron.decay * (1 - spike) + ops(x)
    if lateral is not None:
        mem = mem + lateral(spike)
    return mem, act_fun(mem, neuron.threshold, neuron.lens)


def own_precision(x: Tensor) -> AbstractContextManager[Any]:
    """Computes in the weights' own precision within: autocast does not reach in.

    Whether a unit spikes is a comparison of a sum over inputs and steps with a threshold, and half
    of the digits decide it otherwise.

    Args:
        x: on the device that is computed on.
    """
    kind = x.device.type
    is_on = torch.is_autocast_enabled(kind)
    return torch.autocast(kind, enabled=False) if is_on else nullcontext()


def compared(
    intensities: Float[Tensor, "*shape"], steps: int, dtype: torch.dtype
) -> Float[Tensor, "time *shape"]:
    """Spikes where intensities exceed new random numbers in [0, 1) at every step.

    Args:
        intensities: in [0, 1]; one that is NaN, which no comparison would tell from 0, makes NaN of
            the last step's spike, and so of the readout.
        steps: number of steps.
        dtype: of the spikes.
    """
    draws = torch.rand(steps, *intensities.shape, device=intensities.device)
    spikes = (intensities > draws).to(dtype)
    spikes[-1] += 0 * intensities
    return spikes


def told_by(
    output: Float[Tensor, "batch classes"], potentials: Iterable[Float[Tensor, "..."]]
) -> Float[Tensor, "batch classes"]:
    """The readout, NaN for samples with a unit whose potential is no finite number.

    Such a unit never spikes, so that a readout of spikes would look like any other. Whatever made
    it so, an input or a weight, its potential stays NaN: those of the last step tell of all steps.

    Args:
        output: the readout.
        potentials: of each layer at the last step, the samples being the slowest axis.
    """
    for potential in potentials:
        of_sample = (len(output), potential.numel() // max(1, len(output)))
        output = output + (0 * potential.detach()).reshape(of_sample).sum(1, keepdim=True)
    return output


@dataclass(frozen=True, eq=False)
class Teaching:
    """What the layers of a network have in common.

    Attributes:
        mode: the learning mode.
        n_classes: size of the network's output.
        dropout: share of hidden fully connected units that are silent in a presentation.
        feedback_stream: of the fixed feedback weights.
    """

    mode: Mode
    n_classes: int
    dropout: float
    feedback_stream: torch.Generator


class Block(nn.Module):
    """A layer of units with its weights, its teaching signal and its pooling.

    Args:
        layer: its entry in the topology.
        shape: shape of one sample's input at one step.
        pool: size of the pooling along each axis of space.
        teaching: what the layers have in common.
        is_output: the last layer, which always takes its true gradient.

    Attributes:
        unit_shape: shape of the layer's units, for one sample.
        out_shape: shape of what it passes on, after pooling.
    """

    operator: nn.Module

    def __init__(
        self,
        layer: Layer,
        shape: tuple[int, ...],
        pool: tuple[int, ...],
        teaching: Teaching,
        is_output: bool,
    ) -> None:
        super().__init__()
        self.layer, self.pool, self.is_output = layer, pool, is_output
        self.unit_shape = self._unit_shape(shape)
        self.out_shape = (
            *self.unit_shape[:1],
            *(n // size for n, size in zip(self.unit_shape[1:], pool, strict=True)),
        )
        if min(self.out_shape) < 1:
            raise TopologyError(
                f"--topology: the input of {'_'.join(map(str, layer))} is {shape}, too small for "
                "its kernel and the pooling after it; drop a layer or add padding"
            )
        if not is_output:
            dim_hook = (teaching.n_classes, *self.unit_shape)
            self.hook = TrainingHook(
                teaching.n_classes, dim_hook, teaching.mode, teaching.feedback_stream
            )
        self.fed_back = teaching.mode == "FA"

    def _unit_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        kernel, stride, padding = self.layer.kernel, self.layer.stride, self.layer.padding
        space = ((n + 2 * padding - kernel) // stride + 1 for n in shape[1:])
        return (self.layer.units, *space)

    def _wrapped(
        self, operator: nn.Linear | nn.Conv1d | nn.Conv2d, teaching: Teaching
    ) -> nn.Module:
        return (
            FA_wrapper(operator, feedback_stream=teaching.feedback_stream)
            if self.fed_back
            else operator
        )

    @property
    def weight(self) -> nn.Parameter:
        """The trained weights, [units, inputs] or [units, channels, *kernel]."""
        parameter = self._inner.weight
        assert isinstance(parameter, nn.Parameter)
        return parameter

    @property
    def bias(self) -> nn.Parameter:
        """The trained bias, [units]."""
        parameter = self._inner.bias
        assert isinstance(parameter, nn.Parameter)
        return parameter

    @property
    def backward_weight(self) -> Tensor:
        """The weights that a gradient goes back through: fixed random ones in FA."""
        fixed = getattr(self.operator, "fixed_fb_weights", None)
        return self.weight if fixed is None else fixed

    @property
    def _inner(self) -> nn.Module:
        inner = self.operator.module if self.fed_back else self.operator
        assert isinstance(inner, nn.Module)
        return inner

    def current(self, x: Float[Tensor, "n *inputs"]) -> Float[Tensor, "n *units"]:
        """The synaptic current of all units."""
        current: Tensor = self.operator(x)
        return current

    def mask(self, batch: int) -> Float[Tensor, "batch *out"] | None:
        """What dropout multiplies the outputs by, the same at all steps of a presentation."""
        return None

    def taught(
        self,
        activity: Float[Tensor, "batch *units"],
        targets: Float[Tensor, "batch classes"] | None,
        y: Float[Tensor, "batch classes"] | None,
    ) -> Float[Tensor, "batch *units"]:
        """The units' activity, whose gradient is what the mode has; see `TrainingHook`."""
        found: Tensor = activity if self.is_output else self.hook(activity, targets, y)
        return found


class FC_block(Block):
    """Fully connected units; arguments as in `Block`."""

    def __init__(
        self, layer: Layer, shape: tuple[int, ...], teaching: Teaching, is_output: bool
    ) -> None:
        super().__init__(layer, shape, (), teaching, is_output)
        self.dropout = teaching.dropout
        n_in = int(torch.tensor(shape).prod())
        self.fc = self._wrapped(nn.Linear(n_in, layer.units), teaching)

    @property
    def operator(self) -> nn.Module:  # type: ignore[override]
        """The linear map."""
        return self.fc

    def _unit_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        return (self.layer.units,)

    def current(self, x: Float[Tensor, "n *inputs"]) -> Float[Tensor, "n units"]:
        """The synaptic current of all units."""
        return super().current(x.flatten(1))

    def mask(self, batch: int) -> Float[Tensor, "batch units"] | None:
        """As in `Block`; the output layer drops no unit."""
        if self.is_output or not (self.training and self.dropout):
            return None
        return parallel.dropout(self.weight.new_ones(batch, *self.out_shape), self.dropout)


class CNN_block(Block):
    """2-D convolution, pooled by 2; arguments as in `Block`."""

    def __init__(self, layer: Layer, shape: tuple[int, ...], teaching: Teaching) -> None:
        if len(shape) != 3:
            raise TopologyError(
                f"--topology: CONV needs input of shape (channels, height, width), not {shape}; "
                "use FC or C layers for this data set"
            )
        super().__init__(layer, shape, (2, 2), teaching, False)
        self.conv = self._wrapped(nn.Conv2d(shape[0], *layer[1:]), teaching)

    @property
    def operator(self) -> nn.Module:  # type: ignore[override]
        """The convolution."""
        return self.conv


class C_block(Block):
    """1-D convolution, pooled by its kernel size; arguments as in `Block`."""

    def __init__(self, layer: Layer, shape: tuple[int, ...], teaching: Teaching) -> None:
        if len(shape) != 2:
            raise TopologyError(
                f"--topology: C needs input of shape (channels, length), not {shape}; use FC or "
                "CONV layers for this data set"
            )
        super().__init__(layer, shape, (layer.kernel,), teaching, False)
        self.conv = self._wrapped(nn.Conv1d(shape[0], *layer[1:]), teaching)

    @property
    def operator(self) -> nn.Module:  # type: ignore[override]
        """The convolution."""
        return self.conv


class Network(nn.Module):
    """The layers of a topology, without the units' dynamics.

    Args:
        topology: see the top of this file.
        shape: shape of one sample at one step: (channels, height, width), (channels, length) or
            (features,).
        mode: the learning mode.
        neuron: constants of the units.
        dropout: share of hidden fully connected units that are silent in a presentation of
            training.
        freeze_conv_layers: convolutions keep their random weights.
        fc_zero_init: fully connected layers start from zero weights.
        init: how the initial weights are drawn.

    Weights come from torch's random stream, feedback from one of its own: one seed gives all modes
    the same initial weights.

    Attributes:
        POOLINGS: the pooling of activity by a size, by the number of axes of space.

    Raises:
        TopologyError: the topology does not parse or does not fit the shape.
        ValueError: there is no such mode, or no such way to draw weights.
    """

    POOLINGS: ClassVar[dict[int, Callable[[Tensor, tuple[int, ...]], Tensor]]] = {
        1: functional.avg_pool1d,
        2: functional.avg_pool2d,
    }

    def __init__(
        self,
        topology: str,
        shape: Sequence[int],
        mode: Mode = "BRP",
        neuron: Neuron = Neuron(),
        *,
        dropout: float = 0.0,
        freeze_conv_layers: bool = False,
        fc_zero_init: bool = False,
        init: Init = "torch",
    ) -> None:
        super().__init__()
        check_word("mode", mode, MODES)
        check_word("way to draw weights", init, INITS)
        self.mode, self.neuron, self.shape = mode, neuron, tuple(shape)
        feedback_stream = torch.Generator().manual_seed(int(torch.randint(2**62, ())))
        layers = parse_topology(topology)
        self.n_classes, self.dropout = layers[-1].units, dropout
        teaching = Teaching(mode, self.n_classes, dropout, feedback_stream)
        blocks: list[Block] = []
        size = self.shape
        for layer in layers:
            blocks.append(self._block(layer, size, teaching, layer is layers[-1]))
            size = blocks[-1].out_shape
        self.layers = nn.ModuleList(blocks)
        for block in blocks:
            if init == "he":
                nn.init.kaiming_uniform_(block.weight)
            if freeze_conv_layers and not isinstance(block, FC_block):
                block.weight.requires_grad_(False)
                block.bias.requires_grad_(False)
            if fc_zero_init and isinstance(block, FC_block):
                nn.init.zeros_(block.weight)

    def _block(
        self, layer: Layer, shape: tuple[int, ...], teaching: Teaching, is_output: bool
    ) -> Block:
        if layer.kind == "FC":
            return FC_block(layer, shape, teaching, is_output)
        return (CNN_block if layer.kind == "CONV" else C_block)(layer, shape, teaching)

    @property
    def blocks(self) -> list[Block]:
        """The layers, from the input on."""
        return [block for block in self.layers if isinstance(block, Block)]

    def check(self, shape: tuple[int, ...]) -> None:
        """Refuse samples of another shape than the network takes at every step.

        Raises:
            ValueError: they have.
        """
        if shape != self.shape:
            raise ValueError(
                f"this network takes samples of shape {self.shape} at every step, not {shape}"
            )

    def pooled(self, block: Block, activity: Float[Tensor, "n *units"]) -> Float[Tensor, "n *out"]:
        """A layer's activity, pooled along the axes of space."""
        if not block.pool:
            return activity
        return self.POOLINGS[len(block.pool)](activity, block.pool)

    def unfilled(self, x: Float[Tensor, "batch *shape"]) -> Float[Tensor, "batch classes"] | None:
        """Room for the readout, in the modes whose hidden layers wait for it."""
        if self.mode not in OF_READOUT:
            return None
        return x.new_full((len(x), self.n_classes), math.nan)


class NetworkBuilder(Network):
    """A spiking network, step by step; arguments as in `Network`."""

    def forward(
        self,
        spikes: Float[Tensor, "batch channels time *space"],
        targets: Float[Tensor, "batch classes"],
    ) -> Float[Tensor, "batch classes"]:
        """The readout: the mean number of output spikes per step; see `told_by` for NaN.

        Args:
            spikes: the input at every step, in any type.
            targets: what the hidden layers may be taught by.

        Raises:
            ValueError: the samples have another shape than the network takes.
        """
        with own_precision(spikes):
            return self._presented(spikes.movedim(2, 0).to(self.blocks[0].weight.dtype), targets)

    def _presented(
        self,
        steps: Float[Tensor, "time batch *shape"],
        targets: Float[Tensor, "batch classes"],
    ) -> Float[Tensor, "batch classes"]:
        self.check(tuple(steps.shape[2:]))
        y = self.unfilled(steps[0])
        batch = steps.shape[1]
        masks = [block.mask(batch) for block in self.blocks]
        states = [
            (steps.new_zeros(batch, *block.unit_shape),) * 2 for block in self.blocks
        ]  # potential and spikes
        total = steps.new_zeros(batch, self.n_classes)
        for x in steps:
            for i, block in enumerate(self.blocks):
                states[i] = mem_update(block.current, x, *states[i], neuron=self.neuron)
                x = self.pooled(block, block.taught(states[i][1], targets, y))
                if (mask := masks[i]) is not None:
                    x = x * mask
            total = total + x
        output = told_by(total / len(steps), [potential for potential, _ in states])
        if y is not None:
            y.copy_(output.detach())
        return output


class RateNetwork(Network):
    """The same layers with continuous units: the networks in which DRTP was published.

    Convolutions are pooled by their maximum.

    Args:
        topology: as in `Network`.
        shape: as in `Network`.
        mode: as in `Network`.
        conv_act: activation of convolutions.
        hidden_act: activation of hidden fully connected layers.
        output_act: activation of the output.
        dropout: share of the inputs of every fully connected layer that are silent in training.
        freeze_conv_layers: as in `Network`.
        fc_zero_init: as in `Network`.
        init: as in `Network`.
        softmax_error: DFA and sDFA project softmax(y) - targets, the error of a linear output under
            cross-entropy, in place of y - targets.

    Source: Frenkel, Lefebvre and Bol, Frontiers in Neuroscience 15:629892 (2021).
    """

    POOLINGS: ClassVar[dict[int, Callable[[Tensor, tuple[int, ...]], Tensor]]] = {
        1: functional.max_pool1d,
        2: functional.max_pool2d,
    }

    def __init__(
        self,
        topology: str,
        shape: Sequence[int],
        mode: Mode = "DRTP",
        *,
        conv_act: Act = "tanh",
        hidden_act: Act = "tanh",
        output_act: Act = "sigmoid",
        dropout: float = 0.0,
        freeze_conv_layers: bool = False,
        fc_zero_init: bool = False,
        init: Init = "torch",
        softmax_error: bool = False,
    ) -> None:
        super().__init__(
            topology,
            shape,
            mode,
            dropout=dropout,
            freeze_conv_layers=freeze_conv_layers,
            fc_zero_init=fc_zero_init,
            init=init,
        )
        self.conv_act, self.hidden_act, self.output_act = (
            Activation(name) for name in (conv_act, hidden_act, output_act)
        )
        self.softmax_error = softmax_error

    def _activation(self, block: Block) -> Activation:
        if block.is_output:
            return self.output_act
        return self.hidden_act if isinstance(block, FC_block) else self.conv_act

    def forward(
        self,
        images: Float[Tensor, "batch *shape"],
        targets: Float[Tensor, "batch classes"] | None = None,
    ) -> Float[Tensor, "batch classes"]:
        """The output units' activity; targets are what hidden layers may be taught by.

        Raises:
            ValueError: the samples have another shape than the network takes.
        """
        self.check(tuple(images.shape[1:]))
        y, x = self.unfilled(images), images
        for block in self.blocks:
            if isinstance(block, FC_block):
                x = parallel.dropout(x, self.dropout) if self.training else x
            activity = self._activation(block)(block.current(x))
            x = self.pooled(block, block.taught(activity, targets, y))
        if y is not None:
            y.copy_(x.detach().softmax(1) if self.softmax_error else x.detach())
        return x
