"""All settings of STL-SNN, a frozen class per data set.

Only MNIST's are the authors' program; `params.py` has them under their published names. The other
networks are the standard skeletons of the field, trained with the settings of that program; batch
sizes beyond MNIST's are ours.
"""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

from shared.errors import UserError

DataName = Literal["mnist", "fashion_mnist", "cifar10", "nmnist", "dvsgesture", "cifar10dvs"]
"""Data sets that -data names."""

Learning = Literal["stl", "sl", "tl"]
"""What learns: synapses and thresholds, synapses only, thresholds only."""

Sharing = Literal["neuron", "channel", "layer"]
"""Who has a threshold of its own: each neuron (the paper), each feature map, or the layer."""

Precision = Literal["float32", "bfloat16"]
"""Of convolutions and products; all else is float32."""

Noise = Literal["gaussian", "s&p"]
"""Kind of noise: additive of variance 0.01 per level; a share of 0.02 per level white or black."""


@dataclass(frozen=True)
class MNIST:
    """128c5p2-MP2-128c5p2-MP2-FC2048-FC100-vote10, T = 4; base class of the other sets' settings.

    Attributes:
        session: name of the nox session.
        published: accuracies that the authors give for the test set, by name; None where they give
            none.
        augmented: training images are shifted by up to 4 pixels and mirrored at random.
        channels: feature maps of each convolution.
        kernel: side of the convolutions' kernels; the padding keeps the image's size.
        blocks: convolutions (each with batch normalization and neurons) in front of each max
            pooling by 2.
        hidden: neurons of the hidden fully connected layer.
        population: neurons that vote for a class.
        dropout: share of inputs of fully connected layers that are dropped, afresh at every step.
        steps: time steps of a presentation, T.
        batch_size: samples per step of the optimizer.
        epochs: passes over the training set.
        lr: step size of Adam.
        lr_decay: factor of the step size after every epoch.
        weight_decay: of Adam (L2), on thresholds too.
        tau: share of the potential that is left after a step.
        alpha: sharpness of the surrogate derivative.
        theta: mean initial threshold.
        spread: standard deviation of the initial thresholds.
    """

    session: ClassVar[str] = "stl_mnist"
    published: ClassVar[Mapping[str, float] | None] = None
    augmented: ClassVar[bool] = False

    channels: int = 128
    kernel: int = 5
    blocks: tuple[int, ...] = (1, 1)
    hidden: int = 2048
    population: int = 10
    dropout: float = 0.5
    steps: int = 4
    batch_size: int = 50
    epochs: int = 100
    lr: float = 1e-3
    lr_decay: float = 0.93
    weight_decay: float = 1e-6
    tau: float = 0.5
    alpha: float = 2.0
    theta: float = 2.0
    spread: float = 1e-4


@dataclass(frozen=True)
class FashionMNIST(MNIST):
    """The skeleton of MNIST; T = 4, and 8 by --steps 8."""

    session: ClassVar[str] = "stl_fashion"


@dataclass(frozen=True)
class CIFAR10(MNIST):
    """{256c3 x 3 - MP2} x 2 - FC2048-FC100-vote10, T = 8."""

    session: ClassVar[str] = "stl_cifar10"
    published: ClassVar[Mapping[str, float] | None] = {
        "test_accuracy_best_published_protocol": 0.9242,
    }
    augmented: ClassVar[bool] = True

    channels: int = 256
    kernel: int = 3
    blocks: tuple[int, ...] = (3, 3)
    steps: int = 8


@dataclass(frozen=True)
class NMNIST(MNIST):
    """The skeleton of MNIST with an input channel per polarity, T = 10."""

    session: ClassVar[str] = "stl_nmnist"

    steps: int = 10


@dataclass(frozen=True)
class DVSGesture(MNIST):
    """{128c3-MP2} x 5 - FC512-FC110-vote10, T = 20."""

    session: ClassVar[str] = "stl_dvsgesture"
    published: ClassVar[Mapping[str, float] | None] = {
        "test_accuracy_best_published_protocol": 0.9722,
    }

    kernel: int = 3
    blocks: tuple[int, ...] = (1, 1, 1, 1, 1)
    hidden: int = 512
    steps: int = 20
    batch_size: int = 16


@dataclass(frozen=True)
class CIFAR10DVS(DVSGesture):
    """{128c3-MP2} x 5 - FC512-FC100-vote10: seven layers, T = 20."""

    session: ClassVar[str] = "stl_cifar10dvs"
    published: ClassVar[Mapping[str, float] | None] = {
        "test_accuracy_best_published_protocol": 0.7850,
        "test_accuracy_best_published_protocol_later_table": 0.7730,
    }


SETTINGS: dict[DataName, type[MNIST]] = {
    "mnist": MNIST,
    "fashion_mnist": FashionMNIST,
    "cifar10": CIFAR10,
    "nmnist": NMNIST,
    "dvsgesture": DVSGesture,
    "cifar10dvs": CIFAR10DVS,
}
"""The settings of each data set that -data names."""


def scaled(setting: MNIST, width: float) -> MNIST:
    """The settings with every hidden layer that many times as wide; voters stay."""

    def wide(n: int) -> int:
        return max(1, round(width * n))

    return dataclasses.replace(
        setting, channels=wide(setting.channels), hidden=wide(setting.hidden)
    )


def smallest_depth(setting: MNIST) -> int:
    """The fewest convolutions of a network that differs in its last block only."""
    return sum(setting.blocks[:-1]) + 1


def deepened(setting: MNIST, depth: int) -> MNIST:
    """The settings with another number of convolutions; more of them stand in the last block.

    Raises:
        UserError: a block would be left without a convolution.
    """
    smallest = smallest_depth(setting)
    if depth < smallest:
        raise UserError(
            f"--depth {depth} leaves a pooling without a convolution in front of it: at least "
            f"{smallest} are needed"
        )
    return dataclasses.replace(setting, blocks=(*setting.blocks[:-1], depth - smallest + 1))
