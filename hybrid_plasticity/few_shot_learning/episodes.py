"""Episodes of few-shot learning, drawn from characters that lie in memory at the network's size."""

from typing import Literal, NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, UInt8
from PIL import Image
from torch import Tensor

from shared.errors import UserError, check_word

HELD_OUT = 100  # characters that no training sees
MIRRORED = 0.2  # share of the training images that are mirrored
MEAN, DEVIATION = 0.9195, 0.2721  # of Omniglot's pixels, where paper is 1

Draw = Literal["independent", "distinct"]


class Plan(NamedTuple):
    """What n episodes ask, without the drawings that show it.

    Attributes:
        character: of each labeled sample in its random order, then of the query [steps, n].
        way: their labels [steps, n]; the last row is the answers.
        shot: which of a character's samples each is; the query's is `shots` [steps, n].
    """

    character: Int[Tensor, "steps n"]
    way: Int[Tensor, "steps n"]
    shot: Int[Tensor, "steps n"]

    def part(self, start: int, stop: int) -> "Plan":
        """The episodes from start up to, but not with, stop."""
        return Plan(*(value[:, start:stop] for value in self))


class Episodes(NamedTuple):
    """n episodes: in each, ways * shots labeled samples in random order, then the query.

    Attributes:
        images: standardized [steps, n, 1, height, width]: ink is -3.38, paper 0.30; steps = ways *
            shots + 1.
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


def shrunk(drawing: UInt8[np.ndarray, "height width"], size: int) -> UInt8[np.ndarray, "size size"]:
    """A drawing of gray values at another size: bilinear, over the area that a pixel covers.

    That is torchvision's `Resize` of a PIL image, rounded to 256 gray values after each axis.
    """
    small = Image.fromarray(drawing).resize((size, size), Image.Resampling.BILINEAR)
    return np.asarray(small, np.uint8)


def resized(
    ink: UInt8[np.ndarray, "characters drawings height width"], size: int
) -> UInt8[np.ndarray, "characters drawings size size"]:
    """Drawings of 0 and 1, 1 for ink, as gray values of that size; paper is 255."""
    small = np.empty((*ink.shape[:2], size, size), np.uint8)
    for place in np.ndindex(ink.shape[:2]):
        small[place] = shrunk(np.where(ink[place], 0, 255).astype(np.uint8), size)
    return small


def standardized(
    pixels: UInt8[Tensor, "..."], dtype: torch.dtype = torch.float32
) -> Float[Tensor, "..."]:
    """Gray values as the network sees them: (pixel / 255 - 0.9195) / 0.2721."""
    return pixels.to(dtype).div_(255).sub_(MEAN).div_(DEVIATION)


class Characters:
    """Characters to draw episodes from.

    Args:
        pixels: uint8 [characters, drawings, height, width], on the device; paper is 255.
        ways: characters per episode.
        shots: labeled samples of each of them.
        draw: "independent" draws every image of a character from all its drawings, so that the
            query may be one of the samples, once in as many episodes as there are drawings at one
            shot; "distinct" shows no drawing twice in an episode.
        mirrored: share of the images that are mirrored left to right.

    Raises:
        UserError: there are fewer characters than ways, or fewer drawings than shots and a query.
        ValueError: draw is neither word.
    """

    def __init__(
        self,
        pixels: UInt8[Tensor, "characters drawings height width"],
        ways: int,
        shots: int,
        draw: Draw = "independent",
        mirrored: float = 0.0,
    ) -> None:
        check_word("draw", draw, Draw)
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
        self.draw_rule, self.mirrored = draw, mirrored

    def plan(self, n: int, generator: torch.Generator) -> Plan:
        """What n random episodes ask; the generator is the CPU's."""
        characters = torch.rand(n, len(self.pixels), generator=generator).topk(self.ways).indices
        order = torch.rand(n, self.ways * self.shots, generator=generator).argsort(1)
        asked = torch.randint(self.ways, (n, 1), generator=generator)
        way = torch.cat([order % self.ways, asked], dim=1)
        shot = torch.cat([order // self.ways, torch.full_like(asked, self.shots)], dim=1)
        return Plan(characters.gather(1, way).T, way.T, shot.T)

    def show(self, plan: Plan, generator: torch.Generator) -> Episodes:
        """Random drawings for what a plan asks, float32."""
        drawing = self._drawings(plan, generator)
        mirror = torch.rand(drawing.shape, generator=generator) < self.mirrored
        images = standardized(self._images(plan.character, drawing, mirror))
        labels = torch.eye(self.ways, device=images.device)[plan.way.to(images.device)]
        target = labels[-1].clone()
        labels[-1] = 0
        return Episodes(images, labels, target)

    def draw(self, n: int, generator: torch.Generator) -> Episodes:
        """Random episodes, n of them, float32; the generator is the CPU's."""
        return self.show(self.plan(n, generator), generator)

    def _drawings(self, plan: Plan, generator: torch.Generator) -> Int[Tensor, "steps n"]:
        drawings, n = self.pixels.shape[1], plan.way.shape[1]
        if self.draw_rule == "independent":
            return torch.randint(drawings, plan.way.shape, generator=generator)
        drawn = torch.rand(n, self.ways, drawings, generator=generator).topk(self.shots + 1).indices
        return drawn[torch.arange(n), plan.way, plan.shot]

    def _images(
        self,
        character: Int[Tensor, "steps n"],
        drawing: Int[Tensor, "steps n"],
        mirror: Bool[Tensor, "steps n"],
    ) -> UInt8[Tensor, "steps n 1 height width"]:
        device = self.pixels.device
        images = self.pixels[character.to(device), drawing.to(device), None]
        if mirror.any():
            chosen = mirror.to(device)
            images[chosen] = images[chosen].flip(-1)
        return images


def split_characters(
    pixels: UInt8[Tensor, "characters drawings height width"],
    ways: int,
    shots: int,
    generator: torch.Generator,
    draw: Draw = "independent",
) -> tuple[Characters, Characters]:
    """Characters to train on, some images mirrored, and the last 100 of a random order to test on.

    Raises:
        UserError: as `Characters` raises it, for either part.
    """
    order = torch.randperm(len(pixels), generator=generator)
    held_out = Characters(pixels[order[-HELD_OUT:]], ways, shots, draw)
    return Characters(pixels[order[:-HELD_OUT]], ways, shots, draw, MIRRORED), held_out
