"""Images on the device: their codes, their shifts, and a network's answers to them."""

from collections.abc import Callable

import numpy as np
import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor

from shared import datasets
from shared.tensors import Samples
from shifting_learning.Dataset import Preprocess, code, cut_codes, image_intensities
from shifting_learning.network import Network, decide

EVALUATION_BATCH = 1000

Coding = Callable[[Tensor], Tensor]
"""From intensities in [0, 1] to spike codes."""


def shifted(
    images: UInt8[Tensor, "n height width"], reach: int, generator: torch.Generator
) -> UInt8[Tensor, "n height width"]:
    """Images moved by up to `reach` pixels in both directions; black comes in at the border."""
    n, height, width = images.shape
    padded = torch.nn.functional.pad(images, (reach,) * 4)
    dy, dx = torch.randint(2 * reach + 1, (2, n, 1), generator=generator).to(images.device)
    rows = torch.arange(height, device=images.device) + dy
    columns = torch.arange(width, device=images.device) + dx
    which = torch.arange(n, device=images.device)
    return padded[which[:, None, None], rows[:, :, None], columns[:, None, :]]


class Images:
    """A split on the device: images, labels and how the images are coded.

    Args:
        split: uint8 images [n, 1, height, width] and labels [n].
        preprocess: see `Dataset.image_intensities`.
        device: where they lie.
    """

    def __init__(self, split: datasets.Split, preprocess: Preprocess, device: torch.device) -> None:
        x = image_intensities(split.inputs, preprocess)
        pixels = (255 * x).round().astype(np.uint8).reshape(len(x), *split.inputs.shape[2:])
        self.samples = Samples.of(datasets.Split(pixels, split.labels), device)
        self.coding: Coding = cut_codes if preprocess == "cut" else code

    def __len__(self) -> int:
        return len(self.samples)

    @property
    def pixels(self) -> UInt8[Tensor, "n height width"]:
        """The images."""
        return self.samples.inputs

    @property
    def labels(self) -> Int[Tensor, " n"]:
        """Their classes."""
        return self.samples.labels


def codes_of(pixels: UInt8[Tensor, "n height width"], coding: Coding) -> Float[Tensor, "n pixels"]:
    """Input codes of images, float32, by a function from intensities to codes."""
    table = coding(torch.arange(256, dtype=torch.float64, device=pixels.device) / 255).float()
    return table[pixels.flatten(1).long()]


def evaluate(
    network: Network, images: Images, coding: Coding | None = None
) -> Float[Tensor, "n classes"]:
    """Output codes of all images of a split, coded as in training or as asked for."""
    chunks = images.samples.batches(EVALUATION_BATCH)
    return torch.cat([network(codes_of(chunk, coding or images.coding)) for chunk, _ in chunks])


def accuracy(z_out: Float[Tensor, "n classes"], labels: Int[Tensor, " n"]) -> float:
    """Share of right decisions."""
    return (decide(z_out) == labels).double().mean().item()
