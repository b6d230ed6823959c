"""Pixel-shuffled MNIST: a permutation of the pixels, and a mask per layer, for each task."""

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from hybrid_plasticity.multitask_learning.masks import Mask
from shared.tensors import on_device


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
        self.permutation = on_device(order, device)
        rng = np.random.default_rng((seed, number))
        self.masks = [
            Mask(torch.from_numpy(rng.random(shape, np.float32) < share), device)
            for shape in shapes
        ]

    def inputs(self, pixels: UInt8[Tensor, "batch pixels"]) -> Float[Tensor, "pixels batch"]:
        """Intensities in [0, 1] in the task's order, one sample per column."""
        return pixels.T[self.permutation].float().div_(255)
