"""STL-SNN: input, forward, backward and Adam of the network of MNIST at its full width, T = 4."""

from functools import partialmethod

import torch
from torch import Tensor, nn
from torch.nn.functional import mse_loss

from against.common import Row, Side, Where, digits, gradients, imported, one_hot, theirs
from stl_snn.param import MNIST as SETTING
from stl_snn.spiking_model import MNIST
from stl_snn.training import squared_error

# Thresholds at which neurons of the fresh network spike as those of a trained one: 6, 12, 35 and
# 10 % of them at a step. At the initial thresholds hardly a spike comes through.
THETAS = (1.96, 1.23, 0.1, 0.6)


def make(where: Where) -> tuple[Side, Side]:
    """Both sides, without dropout, whose masks would differ.

    Pixels are black or white, so that the spikes which both sides draw of them are the same.
    """
    torch.manual_seed(0)
    pixels, labels = (part.to(where.device) for part in digits(where.batch))
    images = pixels.round().to(where.dtype)
    network = without_dropout(MNIST(heterogeneity=0))
    for theta, neurons in zip(THETAS, network.neurons().values(), strict=True):
        nn.init.constant_(neurons.thresh, theta)
    network.to(where.device, where.dtype).train()
    return published(where, network, images, labels), ours(network, images, labels)


def without_dropout(network: MNIST) -> MNIST:
    """The network, of either side, with layers of dropout that drop nothing."""
    for layer in (network.drop1, network.drop2):
        layer.p = 0.0
    return network


def published(where: Where, like: MNIST, images: Tensor, labels: Tensor) -> Side:
    """The published network with the weights and thresholds of ours."""
    model = imported("spiking_model", where.checkout)
    # It calls what torch's convolutions do their work by, which took no bias in the torch of then.
    model.Conv2d._conv_forward = partialmethod(nn.Conv2d._conv_forward, bias=None)
    network = without_dropout(model.MNIST()).to(where.device, where.dtype).train()
    network.load_state_dict(like.state_dict())
    adam = torch.optim.Adam(network.parameters(), SETTING.lr, weight_decay=SETTING.weight_decay)
    targets = one_hot(labels, where.dtype)

    def step() -> Tensor:
        with theirs(where.device, where.dtype):
            adam.zero_grad()
            votes: Tensor = network(images)
            mse_loss(votes, targets).backward()
            adam.step()
        return votes.detach()

    return Side(step, lambda: {"votes": step(), **gradients(network)})


def ours(network: MNIST, images: Tensor, labels: Tensor) -> Side:
    """Our network as `train.py` trains it."""
    adam = torch.optim.Adam(
        network.parameters(), SETTING.lr, weight_decay=SETTING.weight_decay, fused=True
    )

    def step() -> Tensor:
        votes: Tensor = network(images)
        adam.zero_grad(set_to_none=True)
        squared_error(votes, labels).backward()
        adam.step()
        return votes.detach()

    return Side(step, lambda: {"votes": step(), **gradients(network)})


ROWS = {"stl_snn": Row("MNIST's network at full width, 50 digits, T = 4", make, 50, 4, 1)}
