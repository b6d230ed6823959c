"""What training makes of the images of CIFAR-10."""

import torch
from torch import Tensor
from torch.nn import functional

PADDING = 4  # pixels around an image that a random crop may move into


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
