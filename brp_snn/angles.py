"""How far the direction in which a mode learns is from that of back-propagation.

The angle between two gradients of one layer's weights, at equal weights and on equal input, is
acos of their cosine: 0 degrees where the mode learns as BP does, 90 where it learns something
unrelated, above that where it undoes what BP would do.
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from jaxtyping import Float
from torch import Tensor

from brp_snn import layerwise
from brp_snn.function import Mode
from brp_snn.layerwise import Loss
from brp_snn.models import Network

CHUNK = 50  # samples of a part, the paper's batch: a look needs no more memory than a step of BP


def angle(one: Tensor, other: Tensor) -> float:
    """Angle in degrees, 0 to 180, between two tensors of one shape; nan where one of them is 0."""
    a, b = (x.detach().cpu().double().flatten() for x in (one, other))  # MPS has no float64
    norms = float(a.norm() * b.norm())
    if norms == 0:
        return math.nan
    cosine = float(a @ b) / norms
    return math.degrees(math.acos(min(1.0, max(-1.0, cosine))))


def shadow(network: Network, mode: Mode) -> Network:
    """A network of another mode on the same weights: what is written to one, the other sees.

    Its gradients and its teaching signals are its own. Random streams stay where they are.

    Args:
        network: the network; parameters may be frozen.
        mode: of the shadow, whose fixed feedback weights, if it has any, are drawn anew.
    """
    topology = "_".join("_".join(map(str, _written(block.layer))) for block in network.blocks)
    with torch.random.fork_rng(devices=[]):  # its own weights are drawn, to be replaced
        made = Network(topology, network.shape, mode, network.neuron)
    made.to(network.blocks[0].weight)
    for ours, theirs in zip(made.blocks, network.blocks, strict=True):
        for name in ("weight", "bias"):
            source: torch.nn.Parameter = getattr(theirs, name)
            parameter: torch.nn.Parameter = getattr(ours, name)
            parameter.data = source.data
            parameter.requires_grad_(source.requires_grad)
    return made.eval()


def _written(layer: tuple[str | int, ...]) -> tuple[str | int, ...]:
    """A layer's words in a topology: only convolutions have a kernel."""
    return layer[:2] if layer[0] == "FC" else layer


def angles(
    network: Network,
    spikes: Float[Tensor, "time batch *shape"],
    targets: Float[Tensor, "batch classes"],
    loss: Loss,
) -> list[float]:
    """Angle in degrees between the gradient by the network's mode and that by BP, layer by layer.

    Hidden units are not dropped. Weights, gradients and random streams are left as they were, so
    that a training goes on as if nobody had looked. With few samples the angles waver: some hundred
    are enough.

    Args:
        network: a spiking network (layers of `models.NetworkBuilder`).
        spikes: the input at every step, which both gradients are taken on.
        targets: one-hot labels or values.
        loss: mean loss of readout and targets.

    Returns:
        One angle per layer, from the input on; nan where a layer does not learn or a gradient is 0.

    Raises:
        ValueError: the samples have another shape than the network takes.
    """
    found: list[list[Tensor | None]] = []
    with _untouched(network):
        for taught in (network, shadow(network, "BP")):
            found.append(_gradients(taught, spikes, targets, loss))
    return [
        math.nan if own is None or true is None else angle(own, true)
        for own, true in zip(*found, strict=True)
    ]


def _gradients(
    network: Network, spikes: Tensor, targets: Tensor, loss: Loss
) -> list[Tensor | None]:
    """The sum of the weights' gradients over parts of the samples: BP keeps all steps of a part.

    Parts are equal, else all samples are one: some modes sum over samples, others take means.
    """
    n_parts = -(-len(targets) // CHUNK)
    if len(targets) % n_parts:
        n_parts = 1
    total: list[Tensor | None] = [None] * len(network.blocks)
    for x, wanted in zip(spikes.chunk(n_parts, 1), targets.chunk(n_parts), strict=True):
        layerwise.gradients(network, lambda a, b: x[a:b], len(x), wanted, loss)  # noqa: B023
        for i, block in enumerate(network.blocks):
            part, before = block.weight.grad, total[i]
            if part is not None:
                total[i] = part.clone() if before is None else before + part
    return total


@contextmanager
def _untouched(network: Network) -> Iterator[None]:
    """Evaluation mode without gradients for a while, then both as they were."""
    training, parameters = network.training, list(network.parameters())
    gradients = [parameter.grad for parameter in parameters]
    network.eval()
    try:
        for parameter in parameters:
            parameter.grad = None
        yield
    finally:
        for parameter, gradient in zip(parameters, gradients, strict=True):
            parameter.grad = gradient
        network.train(training)
