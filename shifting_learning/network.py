"""Feed-forward networks of shifting-learning layers and the reward signals that teach them."""

import itertools
import math
from collections.abc import Callable, Sequence
from typing import Literal, cast

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from shared.errors import UserError, check_word
from shifting_learning.Dataset import target_codes
from shifting_learning.SL_Layer import ShiftingLayer, SNNLayer

Reward = Literal["published", "first_spike"]


class Network(nn.Module):
    """Layers in a row: each one's output codes are the next one's input codes.

    Args:
        *layers: the layers; all but the first take one spike per synapse.
        output_rate: step sizes of the last layer relative to those of the others.
    """

    def __init__(self, *layers: ShiftingLayer, output_rate: float = 1.0) -> None:
        super().__init__()
        self.output_rate = output_rate
        self.layers = cast("Sequence[ShiftingLayer]", nn.ModuleList(layers))
        self._codes: list[Tensor] = []

    def forward(self, *inputs: Tensor, **options: Tensor) -> Float[Tensor, "*networks batch out"]:
        """Output codes of the last layer; arguments are those of the first layer."""
        first, *others = self.layers
        codes: list[Tensor] = [first(*inputs, **options)]
        for layer in others:
            codes.append(layer(codes[-1]))
        if not torch.compiler.is_exporting():  # an exported network does not learn
            self._codes = codes
        return codes[-1]

    def learn(self, delta: Tensor, lr_ets: float, lr_etp: float) -> None:
        """Teach all layers from the last forward pass.

        Errors travel back through the timings as they were in that pass: a layer passes them on
        before it learns.

        Args:
            delta: errors of the output codes, in their shape.
            lr_ets: step size of the exponential shifting timings.
            lr_etp: step size of the exponential passing times.

        Raises:
            UserError: the error is NaN or infinite; nothing has been learned from it.
        """
        if not delta.isfinite().all():
            raise UserError(
                "the error at the output is not finite: the steps are too large, lower --lr-ets; "
                "the last checkpoint is intact"
            )
        for k in reversed(range(len(self.layers))):
            layer = self.layers[k]
            delta_in = layer.feedback(delta) if isinstance(layer, SNNLayer) and k else delta
            rate = self.output_rate if k == len(self.layers) - 1 else 1.0
            layer.learn(delta, self._codes[k], rate * lr_ets, rate * lr_etp)
            delta = delta_in

    def silent_share(self) -> Float[Tensor, ""]:
        """Share of hidden neurons that stayed silent in the last forward pass."""
        silent = [layer.is_silent.double().mean() for layer in self.layers[:-1]]
        return torch.stack(silent).mean()


def reward_error(
    z_out: Float[Tensor, "*batch classes"],
    labels: Int[Tensor, "*batch"],
    reward: Reward,
    sharpness: float = 1.0,
    smoothing: float = 0.0,
    neighbors: float = 0.0,
) -> Float[Tensor, "*batch classes"]:
    """Error d of the output codes: the global reward-punishment signal.

    Args:
        z_out: output codes, shape [..., classes].
        labels: right classes, int64, shape [...].
        reward: "published" is softmax(z) - softmax(z_target), with target codes exp(0.01) for the
            right class and exp(0.99) for the others. "first_spike" rewards the earliest spike:
            target - softmax(-sharpness * z), where the target gives 1 - smoothing to the right
            class and smoothing to all classes evenly.
        sharpness: of "first_spike"; a difference of 1/sharpness between codes counts fully.
        smoothing: of "first_spike", in [0, 1).
        neighbors: of "first_spike", where classes are counts: above 0, the right class shares its
            reward with its neighbors as a Gaussian of this standard deviation, in classes.

    Returns:
        Errors, positive where a spike should come earlier, shape [..., classes].

    Raises:
        ValueError: the word is none of these.
    """
    check_word("reward", reward, REWARDS)
    return REWARDS[reward](z_out, labels, sharpness, smoothing, neighbors)


def _towards_targets(
    z_out: Tensor, labels: Tensor, sharpness: float, smoothing: float, neighbors: float
) -> Tensor:
    target = target_codes(labels, z_out.shape[-1], z_out.dtype)
    return z_out.softmax(dim=-1) - target.softmax(dim=-1)


def _of_first_spike(
    z_out: Tensor, labels: Tensor, sharpness: float, smoothing: float, neighbors: float
) -> Tensor:
    n_classes = z_out.shape[-1]
    right = nn.functional.one_hot(labels, n_classes).to(z_out.dtype)
    if neighbors > 0:
        distance = torch.arange(n_classes, device=labels.device) - labels[..., None]
        right = (-0.5 * (distance / neighbors) ** 2).to(z_out.dtype).softmax(dim=-1)
    target = (1 - smoothing) * right + smoothing / n_classes
    return target - (-sharpness * z_out).softmax(dim=-1)


REWARDS: dict[Reward, Callable[[Tensor, Tensor, float, float, float], Tensor]] = {
    "published": _towards_targets,
    "first_spike": _of_first_spike,
}
"""The reward signals by their words; arguments as in `reward_error`."""


def decide(z_out: Float[Tensor, "*batch classes"]) -> Int[Tensor, "*batch"]:
    """The class whose neuron spikes first."""
    return z_out.argmin(dim=-1)


def lead(z_out: Float[Tensor, "*batch classes"]) -> Float[Tensor, "*batch classes"]:
    """How much earlier than the earliest of the others each output spikes, in codes.

    All of an image's output codes move with its brightness; what decides is their order.
    """
    first = z_out.sort(dim=-1).values[..., :2]
    is_first = z_out == first[..., :1]
    return torch.where(is_first, first[..., 1:], first[..., :1]) - z_out


def decide_latest(z_out: Float[Tensor, "*batch classes"]) -> Int[Tensor, "*batch"]:
    """The class whose neuron spikes last: how the published program decides in its test of MNIST.

    It takes the largest softmax of the codes.
    """
    return z_out.softmax(dim=-1).argmax(dim=-1)


def published_network(sizes: Sequence[int]) -> Network:
    """A network as the published program builds it, float32.

    Args:
        sizes: neurons of each layer, inputs first.
    """
    return Network(*(SNNLayer(*pair, ties="published") for pair in itertools.pairwise(sizes)))


def step_size(epoch: int, epochs: int, first: float, end: float, decay: str) -> float:
    """Step size of an epoch.

    Args:
        epoch: from 0.
        epochs: number of epochs.
        first: step size of the first epoch.
        end: that of one epoch after the last, which no epoch has.
        decay: a word of `DECAYS`.

    Raises:
        ValueError: the word is none of these.
    """
    check_word("decay", decay, DECAYS)
    return DECAYS[decay](epoch, epochs, first, end)


def _exponential(epoch: int, epochs: int, first: float, end: float) -> float:
    return float(first * (end / first) ** (epoch / epochs))


def _cosine(epoch: int, epochs: int, first: float, end: float) -> float:
    return end + (first - end) * (1 + math.cos(math.pi * epoch / epochs)) / 2


DECAYS: dict[str, Callable[[int, int, float, float], float]] = {
    "exponential": _exponential,
    "cosine": _cosine,
}
"""How a step size falls from epoch to epoch, by word; arguments as in `step_size`."""
