"""Pixel-shuffled MNIST: a permutation of the pixels and a mask a layer for each task."""

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor

from hybrid_plasticity.multitask_learning.masks import Mask
from shared import datasets


class Task:
    """One task: the same permutation for every seed, and masks drawn from the seed.

    Args:
        seed: of the run.
        number: of the task, from 0.
        shapes: (n_out, n_in) of each weight matrix.
        share: of the weights that each mask keeps, each weight drawn on its own.
        device: where masks and permutation are needed.

    Attributes:
        permutation: where each pixel is taken from [pixels]; task 0 leaves them in place.
        masks: one for each weight matrix.
    """

    def __init__(
        self,
        seed: int,
        number: int,
        shapes: Sequence[tuple[int, int]],
        share: float,
        device: torch.device,
    ) -> None:
        order = np.arange(shapes[0][1])
        if number > 0:
            # Numpy's legacy generator, seeded by the task's number, gives the published orders.
            np.random.RandomState(number).shuffle(order)
        self.permutation = torch.from_numpy(order).to(device)
        rng = np.random.default_rng((seed, number))
        self.masks = [
            Mask(torch.from_numpy(rng.random(shape, np.float32) < share), device)
            for shape in shapes
        ]

    def inputs(self, pixels: UInt8[Tensor, "batch pixels"]) -> Float[Tensor, "pixels batch"]:
        """Intensities in [0, 1] in the task's order, a sample a column."""
        return pixels.T[self.permutation].float().div_(255)


class Images:
    """A split on the device.

    Attributes:
        pixels: intensities [n, pixels], uint8.
        labels: classes [n], int64.
    """

    pixels: UInt8[Tensor, "n pixels"]
    labels: Int[Tensor, " n"]

    def __init__(self, split: datasets.Split, device: torch.device) -> None:
        self.pixels = torch.from_numpy(split.inputs).flatten(1).to(device)
        self.labels = torch.from_numpy(split.labels).to(device)

    def batches(self, size: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Pixels and labels in order, `size` at a time, the last batch what is left."""
        return zip(torch.split(self.pixels, size), torch.split(self.labels, size), strict=True)

    def shuffled(self, size: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Pixels and labels in random order; an incomplete last batch is left out.

        The order is drawn from torch's global generator.
        """
        order = torch.randperm(len(self.labels)).to(self.labels.device)
        for batch in torch.split(order[: len(order) // size * size], size):
            yield self.pixels[batch], self.labels[batch]
