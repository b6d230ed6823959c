"""The networks of STL-SNN, and what of them learns."""

from itertools import pairwise
from types import ModuleType

import torch
from jaxtyping import Float
from torch import Tensor, nn

from shared.errors import UserError, check_word
from stl_snn import func, param
from stl_snn.data import spikes
from stl_snn.func import LIF
from stl_snn.param import Learning, Sharing
from stl_snn.params import mnist_para


class SpikingNetwork(nn.Module):
    """Blocks of convolutions and max pooling, a hidden layer, and neurons that vote for classes.

    Each convolution is followed by batch normalization and LIF neurons, each fully connected layer
    by LIF neurons; dropout stands in front of the fully connected layers. Layers are named as in
    the published network: conv1, bn1, lif1, pool1, ..., drop1, fc1, ..., boost.

    Args:
        setting: sizes and constants.
        shape: channels, height and width of a step's input.
        n_classes: number of classes.
        sharing: who has a threshold of its own.
        floor: thresholds are kept at it or above after every step of the optimizer; None: free.
        layers: module with the layers, `func` or, a step at a time, `reference`.

    Raises:
        UserError: the input is too small for so many poolings.
        ValueError: sharing is another word.
    """

    def __init__(
        self,
        setting: param.MNIST,
        shape: tuple[int, int, int],
        n_classes: int,
        *,
        sharing: Sharing = "neuron",
        floor: float | None = None,
        layers: ModuleType = func,
    ) -> None:
        super().__init__()
        channels, height, width = shape
        number = 0
        for block, n_convolutions in enumerate(setting.blocks, 1):
            for _ in range(n_convolutions):
                number += 1
                convolution = layers.Conv2d(
                    channels,
                    setting.channels,
                    setting.kernel,
                    padding=setting.kernel // 2,
                    bias=False,
                )
                self.add_module(f"conv{number}", convolution)
                channels = setting.channels
                self.add_module(f"bn{number}", layers.BatchNorm2d(channels))
                thresholds = initial(setting.theta, (channels, height, width), sharing)
                self.add_module(f"lif{number}", _neurons(layers, setting, thresholds, floor))
            height, width = height // 2, width // 2
            if height != width or not height:
                raise UserError(
                    f"inputs of {shape[1]} x {shape[2]} cannot be pooled {len(setting.blocks)} "
                    "times: they must be square, and not so small"
                )
            self.add_module(f"pool{block}", layers.AdaptiveMaxPool2d(height))
        sizes = (channels * height * width, setting.hidden, setting.population * n_classes)
        for i, (n_in, n_out) in enumerate(pairwise(sizes), 1):
            self.add_module(f"drop{i}", layers.Dropout(setting.dropout))
            self.add_module(f"fc{i}", layers.Linear(n_in, n_out, bias=False))
            thresholds = initial(setting.theta, (n_out,), sharing)
            self.add_module(f"lif{number + i}", _neurons(layers, setting, thresholds, floor))
        self.add_module("boost", layers.Vote(setting.population))

    def forward(self, input: Float[Tensor, "b t c h w"]) -> Float[Tensor, "b classes"]:
        """Shares of the votes for each class, mean over time, in [0, 1], for spikes or frames."""
        layers = list(self.children())
        while layers:
            if isinstance(layers[0], nn.BatchNorm2d):
                pool = layers[2] if isinstance(layers[2], nn.AdaptiveMaxPool2d) else None
                found = func.fused(layers[0], layers[1], pool, input)
                if found is not None:
                    input, layers = found, layers[2 if pool is None else 3 :]
                    continue
            input = layers.pop(0)(input)
        return input

    def neurons(self) -> dict[str, LIF]:
        """The layers of neurons by name, from the input on."""
        return {name: layer for name, layer in self.named_children() if isinstance(layer, LIF)}

    def synapses(self) -> dict[str, nn.Conv2d | nn.Linear]:
        """The layers of synapses by name, from the input on."""
        return {
            name: layer
            for name, layer in self.named_children()
            if isinstance(layer, nn.Conv2d | nn.Linear)
        }

    def learn(self, mode: Learning, norm: bool) -> list[nn.Parameter]:
        """Let the mode's parameters learn and freeze the others.

        Args:
            mode: what learns.
            norm: scale and shift of batch normalization learn too.

        Returns:
            The parameters that learn.

        Raises:
            ValueError: the mode is another word.
        """
        check_word("mode", mode, Learning)
        for layer in self.children():
            if isinstance(layer, LIF):
                learns = mode in ("stl", "tl")
            elif isinstance(layer, nn.BatchNorm2d):
                learns = norm
            else:
                learns = mode in ("stl", "sl")
            layer.requires_grad_(learns)
        return [parameter for parameter in self.parameters() if parameter.requires_grad]

    def keep_above_floor(self) -> None:
        """Lift thresholds below the floor to it, if there is one."""
        for layer in self.neurons().values():
            layer.keep_above_floor()

    def non_positive(self) -> dict[str, int]:
        """Number of thresholds at 0 or below, by layer: such neurons fire without any input."""
        return {name: int((layer.thresh <= 0).sum()) for name, layer in self.neurons().items()}


def initial(theta: float, shape: tuple[int, ...], sharing: Sharing) -> Float[Tensor, "*own"]:
    """Mean initial thresholds of a layer, of its shape with 1 along axes that share them.

    Raises:
        ValueError: sharing is another word.
    """
    check_word("sharing", sharing, Sharing)
    ones = (1,) * len(shape)
    own = {"neuron": shape, "channel": (shape[0], *ones[1:]), "layer": ones}
    return torch.full(own[sharing], theta)


def _neurons(
    layers: ModuleType, setting: param.MNIST, thresholds: Tensor, floor: float | None
) -> LIF:
    neurons: LIF = layers.LIF(
        True, thresholds, setting.tau, 100 * setting.spread, alpha=setting.alpha, floor=floor
    )
    return neurons


class MNIST(SpikingNetwork):
    """The published network: images in, votes out; it draws the images' spikes itself.

    Args:
        train: the thresholds learn (STL); without, only synapses and normalization do (SL).
        thresh: mean initial threshold.
        heterogeneity: standard deviation of the initial thresholds, in hundredths.
        tau: share of the potential that is left after a step.
        P: neurons that vote for a class.
        time_step: time steps of a presentation.
    """

    def __init__(
        self,
        train: bool = mnist_para.train_thresh,
        thresh: float = mnist_para.init_thresh,
        heterogeneity: float = mnist_para.hete_thresh,
        tau: float = mnist_para.tau,
        P: int = 10,
        time_step: int = mnist_para.time_step,
    ) -> None:
        setting = param.MNIST(
            theta=thresh, spread=heterogeneity / 100, tau=tau, population=P, steps=time_step
        )
        super().__init__(setting, (1, 28, 28), mnist_para.num_classes)
        self.time_step = time_step
        self.learn("stl" if train else "sl", norm=True)

    def forward(self, input: Float[Tensor, "b 1 28 28"]) -> Float[Tensor, "b classes"]:
        """Shares of the votes in [0, 1] for pixels in [0, 1]; draws come from torch's generator."""
        return super().forward(spikes(input, self.time_step, None))
