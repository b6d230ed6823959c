"""Episodes of few-shot learning, drawn from characters that lie in memory at the network's size."""

from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, UInt8
from numpy.typing import NDArray
from torch import Tensor

from shared.errors import UserError

HELD_OUT = 100  # characters that no training sees


class Episodes(NamedTuple):
    """n episodes: in each, ways * shots labelled samples in random order, then the query.

    Attributes:
        images: [steps, n, 1, height, width] in [0, 1], 1 where there is ink; steps = ways * shots
            + 1.
        labels: the samples' labels, one-hot; 0 for the query [steps, n, ways].
        target: the query's label, one-hot [n, ways].
    """

    images: Float[Tensor, "steps n 1 height width"]
    labels: Float[Tensor, "steps n ways"]
    target: Float[Tensor, "n ways"]

    def part(self, start: int, stop: int) -> "Episodes":
        """The episodes from start up to, but not with, stop."""
        return Episodes(
            self.images[:, start:stop], self.labels[:, start:stop], self.target[start:stop]
        )


def averaging(n_in: int, n_out: int) -> Float[NDArray[np.float32], "n_out n_in"]:
    """Matrix that shrinks a line of n_in pixels to n_out, each the mean of what it covers."""
    edges = np.linspace(0, n_in, n_out + 1)
    pixels = np.arange(n_in)
    start = np.maximum(edges[:-1, None], pixels)
    stop = np.minimum(edges[1:, None], pixels + 1)
    return np.asarray(np.maximum(stop - start, 0) * (n_out / n_in), np.float32)


def resized(
    images: UInt8[NDArray[np.uint8], "characters drawings height width"], size: int
) -> UInt8[NDArray[np.uint8], "characters drawings size size"]:
    """Images of 0 and 1 shrunk by averaging over areas; 255 where there is nothing but ink."""
    rows, columns = (averaging(n, size) for n in images.shape[2:])
    small = np.empty((*images.shape[:2], size, size), np.uint8)
    for character, drawings in enumerate(images):  # one at a time: all as floats would take 1.4 GB
        small[character] = np.rint(255 * (rows @ drawings.astype(np.float32) @ columns.T))
    return small


class Characters:
    """Characters to draw episodes from.

    Args:
        pixels: uint8 [characters, drawings, height, width], on the device.
        ways: characters an episode.
        shots: labelled samples of each of them.

    Raises:
        UserError: there are fewer characters than ways, or fewer drawings than shots and a query.
    """

    def __init__(
        self, pixels: UInt8[Tensor, "characters drawings height width"], ways: int, shots: int
    ) -> None:
        characters, drawings = pixels.shape[:2]
        if not 2 <= ways <= characters:
            raise UserError(
                f"--ways {ways} must lie between 2 and {characters}, the characters held out to "
                "test on"
            )
        if not 1 <= shots < drawings:
            raise UserError(
                f"--shots {shots} must lie between 1 and {drawings - 1}: a character has "
                f"{drawings} drawings, and one is the query"
            )
        self.pixels, self.ways, self.shots = pixels, ways, shots

    def draw(self, n: int, generator: torch.Generator) -> Episodes:
        """Random episodes, n of them, float32; the generator is the CPU's."""
        count, drawings = self.pixels.shape[:2]
        characters = torch.rand(n, count, generator=generator).topk(self.ways).indices
        shown = torch.rand(n, self.ways, drawings, generator=generator).topk(self.shots + 1).indices
        order = torch.rand(n, self.ways * self.shots, generator=generator).argsort(1)
        asked = torch.randint(self.ways, (n, 1), generator=generator)
        # Behind the labelled samples in their random order comes the query, a drawing of its own.
        way = torch.cat([order % self.ways, asked], dim=1)
        shot = torch.cat([order // self.ways, torch.full_like(asked, self.shots)], dim=1)
        device = self.pixels.device
        character = characters.gather(1, way).T.to(device)
        drawing = shown[torch.arange(n)[:, None], way, shot].T.to(device)
        images = self.pixels[character, drawing, None].float().div_(255)
        labels = torch.eye(self.ways, device=device)[way.T.to(device)]
        target = labels[-1].clone()
        labels[-1] = 0
        return Episodes(images, labels, target)


def split_characters(
    pixels: UInt8[Tensor, "characters drawings height width"],
    ways: int,
    shots: int,
    generator: torch.Generator,
) -> tuple[Characters, Characters]:
    """Characters to train on, and the last 100 of a random order to test on.

    Raises:
        UserError: as `Characters` raises it, for either part.
    """
    order = torch.randperm(len(pixels), generator=generator)
    held_out = Characters(pixels[order[-HELD_OUT:]], ways, shots)
    return Characters(pixels[order[:-HELD_OUT]], ways, shots), held_out
