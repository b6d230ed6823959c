"""The data sets of `main.py`, as the networks take them.

Images and analog features become spikes step by step: x[t] = 1 where value > U(0, 1) * randKill,
with fresh draws U at every step. Event data come as frames, a frame a step.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float, Shaped
from torch import Tensor
from torch.nn import functional

from shared import datasets
from shared.errors import UserError

Kind = Literal["values", "frames"]

CIFAR10_MEAN = (125.3 / 255, 123.0 / 255, 113.9 / 255)
CIFAR10_SD = (63.0 / 255, 62.1 / 255, 66.7 / 255)

EVALUATION_SEED = 42  # the draws of evaluations are the same in every epoch and run


@dataclass(frozen=True, eq=False)
class Part:
    """Samples of one part of a data set, on the device.

    Attributes:
        inputs: [n, *shape] values or uint8 pixels, or [n, channels, time, *space] frames.
        targets: float32 [n, outputs], one-hot labels or values to regress.
    """

    inputs: Shaped[Tensor, "n *inputs"]
    targets: Float[Tensor, "n outputs"]

    def __len__(self) -> int:
        return len(self.targets)

    def first(self, n: int) -> "Part":
        """The first n samples."""
        return Part(self.inputs[:n], self.targets[:n])


@dataclass(frozen=True, eq=False)
class Data:
    """A data set with what the program must know of it.

    Attributes:
        name: what was really loaded, for the records.
        train, validation, test: its parts.
        kind: "values" are compared with random thresholds at every step, "frames" are shown one a
            step.
        shape: shape of one sample at one step.
        shown: makes float inputs of a batch of stored ones; `training` tells whether the batch may
            be changed at random.
        task: "classes", or "values" for regression.
    """

    name: str
    train: Part
    validation: Part
    test: Part
    kind: Kind
    shape: tuple[int, ...]
    shown: Callable[[Tensor, bool], Tensor]
    task: Literal["classes", "values"] = "classes"

    def first(self, n: int) -> "Data":
        """The same set with the first n samples of every part."""
        return replace(
            self,
            train=self.train.first(n),
            validation=self.validation.first(n),
            test=self.test.first(n),
        )


def _floats(inputs: Tensor, training: bool) -> Tensor:
    return inputs.float()


def _intensities(pixels: Tensor, training: bool) -> Tensor:
    return pixels.float() / 255


class _Standardised:
    """CIFAR-10's pixels, standardised a channel; mirrored at random in training where asked."""

    def __init__(self, device: torch.device, mirrored: bool) -> None:
        self.mean, self.sd = (
            torch.tensor(values, device=device).view(3, 1, 1)
            for values in (CIFAR10_MEAN, CIFAR10_SD)
        )
        self.mirrored = mirrored

    def __call__(self, pixels: Tensor, training: bool) -> Tensor:
        images = (_intensities(pixels, training) - self.mean) / self.sd
        if not (training and self.mirrored):
            return images
        chosen = torch.rand(len(images), device=images.device) < 0.5
        return torch.where(chosen.view(-1, 1, 1, 1), images.flip(3), images)


def _labelled(split: datasets.Split, n_classes: int, device: torch.device) -> Part:
    labels = torch.from_numpy(split.labels)
    targets = functional.one_hot(labels, n_classes).float().to(device)
    return Part(torch.from_numpy(np.ascontiguousarray(split.inputs)).to(device), targets)


def _images(name: str, mirrored: bool = False) -> Callable[[Path | None, torch.device], Data]:
    def load(root: Path | None, device: torch.device) -> Data:
        found = datasets.load(name, root, fallback=True)
        train, validation, test = (
            _labelled(split, found.n_classes, device)
            for split in (found.train, found.validation, found.test)
        )
        shown = _Standardised(device, mirrored) if name == "cifar10" else _intensities
        shape = tuple(found.train.inputs.shape[1:])
        return Data(found.name, train, validation, test, "values", shape, shown)

    return load


LOADERS: dict[str, Callable[[Path | None, torch.device], Data]] = {
    "MNIST": _images("mnist"),
    "FashionMNIST": _images("fashion_mnist"),
    "CIFAR10": _images("cifar10"),
    "CIFAR10aug": _images("cifar10", mirrored=True),
}
"""What --dataset knows."""


def load(name: str, root: Path | None, device: torch.device) -> Data:
    """A data set by its name on the command line.

    Raises:
        UserError: the name is unknown, or the set cannot be had.
    """
    if name not in LOADERS:
        raise UserError(f"--dataset {name} is not one of {', '.join(LOADERS)}")
    return LOADERS[name](root, device)


class Input:
    """The input of one presentation, a few steps at a time.

    Args:
        data: tells how inputs are shown.
        inputs: a batch of stored inputs.
        rand_kill: factor of the random thresholds.
        training: may be changed at random.
        generator: of the thresholds.
    """

    def __init__(
        self,
        data: Data,
        inputs: Shaped[Tensor, "batch *inputs"],
        rand_kill: float,
        training: bool,
        generator: torch.Generator,
    ) -> None:
        self.frames = data.kind == "frames"
        self.values = data.shown(inputs, training)
        self.rand_kill, self.generator = rand_kill, generator

    def steps(self, window: int) -> int:
        """Length of the presentation: that of the recording where there is one, else window."""
        return self.values.shape[2] if self.frames else window

    def __call__(self, start: int, stop: int) -> Float[Tensor, "time batch *shape"]:
        """The spikes of the steps from start to before stop; every step is drawn once."""
        if self.frames:
            return self.values[:, :, start:stop].movedim(2, 0)
        shape = (stop - start, *self.values.shape)
        draws = torch.rand(shape, generator=self.generator, device=self.values.device)
        return torch.gt(self.values, draws.mul_(self.rand_kill), out=draws)
