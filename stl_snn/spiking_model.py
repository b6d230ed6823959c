"""The networks of STL-SNN, and what of them learns."""

from collections import OrderedDict
from itertools import pairwise
from types import ModuleType
from typing import Literal

from jaxtyping import Float
from torch import Tensor, nn

from shared.errors import UserError
from stl_snn import func
from stl_snn.func import LIF, Sharing
from stl_snn.param import MNIST

Learning = Literal["stl", "sl", "tl"]
"""What learns: synapses and thresholds, synapses only, thresholds only."""


class SpikingNetwork(nn.Module):
    """Blocks of convolutions and max pooling, a hidden layer, and neurons that vote for classes.

    Each convolution is followed by batch normalisation and LIF neurons, each fully connected layer
    by LIF neurons; dropout stands in front of the fully connected layers.

    Args:
        setting: sizes and constants.
        shape: channels, height and width of a step's input.
        n_classes: number of classes.
        sharing: who has a threshold of its own.
        floor: thresholds are kept at it or above after every step of the optimiser; None: free.
        layers: module with the layers, `func` or, a step at a time, `reference`.

    Raises:
        UserError: the input is too small for so many poolings.
    """

    def __init__(
        self,
        setting: MNIST,
        shape: tuple[int, int, int],
        n_classes: int,
        *,
        sharing: Sharing = "neuron",
        floor: float | None = None,
        layers: ModuleType = func,
    ) -> None:
        super().__init__()
        parts: OrderedDict[str, nn.Module] = OrderedDict()
        n_neurons = 0

        def neurons(*of_shape: int) -> None:
            nonlocal n_neurons
            n_neurons += 1
            parts[f"lif{n_neurons}"] = layers.LIF(
                of_shape,
                theta=setting.theta,
                spread=setting.spread,
                tau=setting.tau,
                alpha=setting.alpha,
                sharing=sharing,
                floor=floor,
            )

        channels, height, width = shape
        for block, n_convolutions in enumerate(setting.blocks, 1):
            for _ in range(n_convolutions):
                number = n_neurons + 1
                parts[f"conv{number}"] = layers.Conv2d(
                    channels, setting.channels, setting.kernel, padding=setting.kernel // 2
                )
                channels = setting.channels
                parts[f"norm{number}"] = layers.BatchNorm2d(channels)
                neurons(channels, height, width)
            height, width = height // 2, width // 2
            if height != width or not height:
                raise UserError(
                    f"inputs of {shape[1]} x {shape[2]} cannot be pooled {len(setting.blocks)} "
                    "times: they must be square, and not so small"
                )
            parts[f"pool{block}"] = layers.AdaptiveMaxPool2d(height)
        sizes = (channels * height * width, setting.hidden, setting.population * n_classes)
        for i, (n_in, n_out) in enumerate(pairwise(sizes), 1):
            parts[f"drop{i}"] = layers.Dropout(setting.dropout)
            parts[f"fc{i}"] = layers.Linear(n_in, n_out)
            neurons(n_out)
        parts["vote"] = layers.Vote(setting.population)
        self.layers = nn.Sequential(parts)

    def forward(self, spikes: Float[Tensor, "b t c h w"]) -> Float[Tensor, "b classes"]:
        """Shares of the votes for each class, mean over time, in [0, 1]."""
        votes: Tensor = self.layers(spikes)
        return votes

    def neurons(self) -> dict[str, LIF]:
        """The layers of neurons by name, from the input on."""
        return {
            name: layer for name, layer in self.layers.named_children() if isinstance(layer, LIF)
        }

    def synapses(self) -> dict[str, nn.Conv2d | nn.Linear]:
        """The layers of synapses by name, from the input on."""
        return {
            name: layer
            for name, layer in self.layers.named_children()
            if isinstance(layer, nn.Conv2d | nn.Linear)
        }

    def learn(self, mode: Learning, norm: bool) -> list[nn.Parameter]:
        """Let the mode's parameters learn and freeze the others.

        Args:
            mode: what learns.
            norm: scale and shift of batch normalisation learn too.

        Returns:
            The parameters that learn.
        """
        for layer in self.layers.children():
            if isinstance(layer, LIF):
                learns = mode in ("stl", "tl")
            elif isinstance(layer, nn.BatchNorm2d):
                learns = norm
            else:
                learns = mode in ("stl", "sl")
            layer.requires_grad_(learns)
        return [parameter for parameter in self.parameters() if parameter.requires_grad]

    def keep_above_floor(self) -> None:
        """Lift thresholds below the floor to it, where there is one."""
        for layer in self.neurons().values():
            layer.keep_above_floor()

    def non_positive(self) -> dict[str, int]:
        """Number of thresholds at 0 or below, by layer: such neurons fire without any input."""
        return {name: int((layer.thresh <= 0).sum()) for name, layer in self.neurons().items()}
