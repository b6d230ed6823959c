"""Networks of leaky integrate-and-fire units, step by step, as autograd sees them.

    V[t] = decay * (1 - s[t-1]) * V[t-1] + W x[t] + b;    s[t] = 1 where V[t] > threshold

A topology is written as `CONV_32_5_1_2_FC_1000_FC_10`: layers joined by `_`, each one of

    CONV_{channels}_{kernel}_{stride}_{padding}    2-D convolution, then average pooling by 2
    C_{channels}_{kernel}_{stride}_{padding}       1-D convolution, then average pooling by kernel
    FC_{units}                                     fully connected

The last layer is fully connected and its mean number of spikes a step is the readout. The programs
here are the plain form, which `layerwise` is checked against; it computes the same faster.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from brp_snn.function import ActFun
from brp_snn.module import FA_wrapper, Mode, Teacher, TrainingHook
from shared.errors import UserError

GRAMMAR = (
    "a topology joins layers by _: CONV_{channels}_{kernel}_{stride}_{padding} (2-D, then pooled "
    "by 2), C_{channels}_{kernel}_{stride}_{padding} (1-D, pooled by its kernel size) and "
    "FC_{units}, the last of them FC, "
    "such as CONV_32_5_1_2_FC_1000_FC_10"
)

Activation = Literal["tanh", "sigmoid", "relu", "linear"]

ACTIVATIONS: dict[Activation, Callable[[Tensor], Tensor]] = {
    "tanh": torch.tanh,
    "sigmoid": torch.sigmoid,
    "relu": torch.relu,
    "linear": torch.nn.Identity(),
}


Init = Literal["torch", "he"]
"""Initial weights of a unit with n inputs: "torch" for what torch's layers draw by themselves,
U(-1/sqrt n, 1/sqrt n), as published; "he" for U(-sqrt(6/n), sqrt(6/n)). Biases are torch's in
both."""


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
                    f"--topology {topology}: {word!r} behind {kind} is no number; {GRAMMAR}"
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


def mem_update(
    current: Tensor, potential: Tensor, spikes: Tensor, neuron: Neuron
) -> tuple[Tensor, Tensor]:
    """One step of the membrane: potential and spikes from the current and those of the step before.

    The reset takes part in the gradient.
    """
    potential = potential * neuron.decay * (1 - spikes) + current
    return potential, ActFun.apply(potential, neuron.threshold, neuron.lens)


class Block(nn.Module):
    """A layer of units with its weights, its teaching signal and its pooling.

    Args:
        layer: its entry in the topology.
        shape: shape of one sample's input at one step.
        pool: size of the average pooling along each axis of space.
        teacher: holds mode, targets and readout.
        n_classes: size of the network's output.
        dropout: share of the outputs that are silent in a presentation of training.
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
        teacher: Teacher,
        n_classes: int,
        dropout: float,
        is_output: bool,
    ) -> None:
        super().__init__()
        self.layer, self.pool, self.dropout = layer, pool, dropout
        self.unit_shape = self._unit_shape(shape)
        self.out_shape = (
            *self.unit_shape[:1],
            *(n // size for n, size in zip(self.unit_shape[1:], pool, strict=True)),
        )
        if min(self.out_shape) < 1:
            raise TopologyError(
                f"--topology: the input of {'_'.join(map(str, layer))} is {shape}, too small for "
                "its kernel and the pooling behind it; drop a layer or add padding"
            )
        self.is_output = is_output
        if not is_output:
            self.hook = TrainingHook(teacher, n_classes, self.unit_shape)
        self.fed_back, self.feedback_stream = teacher.mode == "FA", teacher.feedback_stream

    def _unit_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        kernel, stride, padding = self.layer.kernel, self.layer.stride, self.layer.padding
        space = ((n + 2 * padding - kernel) // stride + 1 for n in shape[1:])
        return (self.layer.units, *space)

    def _wrapped(self, operator: nn.Linear | nn.Conv1d | nn.Conv2d) -> nn.Module:
        return FA_wrapper(operator, self.feedback_stream) if self.fed_back else operator

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
        if self.is_output or not (self.training and self.dropout):
            return None
        ones = self.weight.new_ones(batch, *self.out_shape)
        return nn.functional.dropout(ones, self.dropout)

    def pooled(self, activity: Float[Tensor, "n *units"]) -> Float[Tensor, "n *out"]:
        """The units' activity after the teaching signal's hook and the pooling."""
        if not self.is_output:
            activity = self.hook(activity)
        if len(self.pool) == 2:
            return nn.functional.avg_pool2d(activity, self.pool)
        if len(self.pool) == 1:
            return nn.functional.avg_pool1d(activity, self.pool)
        return activity


class FC_block(Block):
    """Fully connected units; arguments as in `Block`."""

    def __init__(
        self,
        layer: Layer,
        shape: tuple[int, ...],
        teacher: Teacher,
        n_classes: int,
        dropout: float,
        is_output: bool,
    ) -> None:
        super().__init__(layer, shape, (), teacher, n_classes, dropout, is_output)
        n_in = int(torch.tensor(shape).prod())
        self.fc = self._wrapped(nn.Linear(n_in, layer.units))

    @property
    def operator(self) -> nn.Module:  # type: ignore[override]
        """The linear map."""
        return self.fc

    def _unit_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        return (self.layer.units,)

    def current(self, x: Float[Tensor, "n *inputs"]) -> Float[Tensor, "n units"]:
        """The synaptic current of all units."""
        return super().current(x.flatten(1))


class CNN_block(Block):
    """2-D convolution with average pooling by 2; arguments as in `Block`."""

    def __init__(
        self, layer: Layer, shape: tuple[int, ...], teacher: Teacher, n_classes: int
    ) -> None:
        if len(shape) != 3:
            raise TopologyError(
                f"--topology: CONV needs input of shape (channels, height, width), not {shape}; "
                "use FC or C layers for this data set"
            )
        super().__init__(layer, shape, (2, 2), teacher, n_classes, 0.0, False)
        self.conv = self._wrapped(nn.Conv2d(shape[0], *layer[1:]))

    @property
    def operator(self) -> nn.Module:  # type: ignore[override]
        """The convolution."""
        return self.conv


class C_block(Block):
    """1-D convolution with average pooling by its kernel size; arguments as in `Block`."""

    def __init__(
        self, layer: Layer, shape: tuple[int, ...], teacher: Teacher, n_classes: int
    ) -> None:
        if len(shape) != 2:
            raise TopologyError(
                f"--topology: C needs input of shape (channels, length), not {shape}; use FC or "
                "CONV layers for this data set"
            )
        super().__init__(layer, shape, (layer.kernel,), teacher, n_classes, 0.0, False)
        self.conv = self._wrapped(nn.Conv1d(shape[0], *layer[1:]))

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
        dropout: share of hidden fully connected units that are silent in a presentation.
        freeze_conv_layers: convolutions keep their random weights.
        fc_zero_init: fully connected layers start from zero weights.
        init: how the initial weights are drawn.

    Weights come from torch's random stream, feedback from one of its own: one seed gives all modes
    the same initial weights.

    Raises:
        TopologyError: the topology does not parse or does not fit the shape.
    """

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
        self.mode, self.neuron, self.shape = mode, neuron, tuple(shape)
        self.teacher = Teacher(mode, torch.Generator().manual_seed(int(torch.randint(2**62, ()))))
        layers = parse_topology(topology)
        self.n_classes = layers[-1].units
        blocks: list[Block] = []
        size = self.shape
        for layer in layers:
            blocks.append(self._block(layer, size, dropout, layer is layers[-1]))
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
        self, layer: Layer, shape: tuple[int, ...], dropout: float, is_output: bool
    ) -> Block:
        if layer.kind == "FC":
            return FC_block(layer, shape, self.teacher, self.n_classes, dropout, is_output)
        make = CNN_block if layer.kind == "CONV" else C_block
        return make(layer, shape, self.teacher, self.n_classes)

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


class NetworkBuilder(Network):
    """A spiking network, a step at a time; arguments as in `Network`."""

    def forward(
        self,
        spikes: Float[Tensor, "batch channels time *space"],
        targets: Float[Tensor, "batch classes"],
    ) -> Float[Tensor, "batch classes"]:
        """The readout: the mean number of output spikes a step.

        Args:
            spikes: the input at every step.
            targets: what the hidden layers may be taught by.

        Raises:
            ValueError: the samples have another shape than the network takes.
        """
        steps = spikes.movedim(2, 0)
        self.check(tuple(steps.shape[2:]))
        self.teacher.present(targets)
        batch = steps.shape[1]
        masks = [block.mask(batch) for block in self.blocks]
        states = [
            (steps.new_zeros(batch, *block.unit_shape),) * 2 for block in self.blocks
        ]  # potential and spikes
        total = steps.new_zeros(batch, self.n_classes)
        for x in steps:
            for i, block in enumerate(self.blocks):
                states[i] = mem_update(block.current(x), *states[i], self.neuron)
                x = block.pooled(states[i][1])
                if (mask := masks[i]) is not None:
                    x = x * mask
            total = total + x
        output = total / len(steps)
        self.teacher.output = output
        return output


class RateNetwork(Network):
    """The same layers with continuous units: the networks in which DRTP was published.

    Args:
        topology, shape, mode, options: as in `Network`.
        conv_act, hidden_act, output_act: activations of convolutions, hidden fully connected
            layers and the output.
    """

    def __init__(
        self,
        topology: str,
        shape: Sequence[int],
        mode: Mode = "DRTP",
        *,
        conv_act: Activation = "tanh",
        hidden_act: Activation = "tanh",
        output_act: Activation = "sigmoid",
        dropout: float = 0.0,
        freeze_conv_layers: bool = False,
        fc_zero_init: bool = False,
        init: Init = "torch",
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
        self.conv_act, self.hidden_act, self.output_act = conv_act, hidden_act, output_act

    def _activation(self, block: Block) -> Callable[[Tensor], Tensor]:
        if block.is_output:
            return ACTIVATIONS[self.output_act]
        return ACTIVATIONS[self.hidden_act if isinstance(block, FC_block) else self.conv_act]

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
        self.teacher.present(targets)
        x = images
        for block in self.blocks:
            mask = block.mask(len(x))
            x = block.pooled(self._activation(block)(block.current(x)))
            if mask is not None:
                x = x * mask
        self.teacher.output = x
        return x
