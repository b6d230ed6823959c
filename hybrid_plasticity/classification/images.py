"""Images of a classifier on their device, and what training makes of them."""

from typing import NamedTuple

import torch
from jaxtyping import Int, UInt8
from torch import Tensor
from torch.nn import functional

from shared import datasets

PADDING = 4  # pixels around an image that a random crop may move into


class Images(NamedTuple):
    """Images and their classes.

    Attributes:
        pixels: intensities [n, channels, side, side], uint8.
        labels: classes [n], int64.
    """

    pixels: UInt8[Tensor, "n channels side side"]
    labels: Int[Tensor, " n"]

    def first(self, n: int) -> "Images":
        """The first n of them."""
        return Images(self.pixels[:n], self.labels[:n])


def on_device(split: datasets.Split, device: torch.device) -> Images:
    """A split of a data set as tensors."""
    arrays = (split.inputs, split.labels)
    return Images(*(torch.from_numpy(array).to(device) for array in arrays))


def cropped_and_flipped(pixels: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """Each image moved by up to `PADDING` pixels each way over black, half of them mirrored.

    Args:
        pixels: a batch [batch, channels, side, side].
        generator: of the images' device; None takes the default one.
    """
    n, _, side, _ = pixels.shape
    device = pixels.device
    padded = functional.pad(pixels, (PADDING,) * 4)
    start = torch.randint(2 * PADDING + 1, (2, n, 1), generator=generator, device=device)
    rows, columns = start + torch.arange(side, device=device)
    mirrored = torch.randint(2, (n, 1), generator=generator, device=device).bool()
    columns = torch.where(mirrored, columns.flip(1), columns)
    image = torch.arange(n, device=device)[:, None, None]
    return padded[image, :, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)
