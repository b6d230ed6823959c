"""Noise on images and on frames of events.

    gaussian       images: normal noise of standard deviation `level` is added, and the sum clipped
                   to [0, 1]
    salt_pepper    images: a share `level` of the pixels becomes white or black, each with
                   probability 1/2; frames of events: a share `level` of the pixels flips

A frame pixel holds one of two values: a white or black one in its place would leave half of the
share as it was, a flipped one is always wrong. Colours and polarities are hit one by one.
"""

import math
from typing import Literal, get_args

import torch
from jaxtyping import Float
from torch import Tensor

from shared.errors import UserError

Noise = Literal["gaussian", "salt_pepper"]
KINDS: tuple[Noise, ...] = get_args(Noise)


def check_level(kind: str, level: float) -> None:
    """Refuse a kind or strength of noise that there is not.

    Raises:
        UserError: the kind is unknown, a standard deviation is negative or infinite, or a share
            does not lie in [0, 1].
    """
    if kind not in KINDS:
        raise UserError(f"no noise is called {kind!r}: choose from {', '.join(KINDS)}")
    if kind == "gaussian" and not (level >= 0 and math.isfinite(level)):
        raise UserError(
            f"--noise-level {level}: a standard deviation of gaussian noise must be 0 or above"
        )
    if kind == "salt_pepper" and not 0 <= level <= 1:
        raise UserError(f"--noise-level {level}: a share of salt and pepper must lie in [0, 1]")


def gaussian(
    images: Float[Tensor, "*shape"], deviation: float, generator: torch.Generator
) -> Float[Tensor, "*shape"]:
    """Images with normal noise of that standard deviation added, clipped to [0, 1].

    Args:
        images: intensities in [0, 1].
        deviation: standard deviation, in units of full intensity; 0 or above.
        generator: what the noise is drawn from, on the images' device.

    Raises:
        UserError: the deviation is negative or infinite.
    """
    check_level("gaussian", deviation)
    noise = torch.randn(images.shape, generator=generator, device=images.device, dtype=images.dtype)
    return noise.mul_(deviation).add_(images).clamp_(0, 1)


def salt_and_pepper(
    images: Float[Tensor, "*shape"], share: float, generator: torch.Generator
) -> Float[Tensor, "*shape"]:
    """Images with a share of the pixels, drawn one by one, white or black instead.

    Args:
        images: intensities in [0, 1].
        share: probability of a pixel to be replaced, in [0, 1].
        generator: as in `gaussian`.

    Raises:
        UserError: the share does not lie in [0, 1].
    """
    check_level("salt_pepper", share)
    drawn = torch.rand(images.shape, generator=generator, device=images.device)
    replaced = (drawn < share / 2).to(images.dtype)  # half of them white
    return torch.where(drawn < share, replaced, images)


def flipped(
    frames: Float[Tensor, "*shape"], share: float, generator: torch.Generator
) -> Float[Tensor, "*shape"]:
    """Frames of events with a share of the pixels, drawn one by one, 1 for 0 and 0 for 1.

    Args:
        frames: 0 or 1.
        share: probability of a pixel to flip, in [0, 1].
        generator: as in `gaussian`.

    Raises:
        UserError: the share does not lie in [0, 1].
    """
    check_level("salt_pepper", share)
    drawn = torch.rand(frames.shape, generator=generator, device=frames.device)
    return torch.where(drawn < share, 1 - frames, frames)


def noisy(
    images: Float[Tensor, "*shape"],
    kind: str,
    level: float,
    generator: torch.Generator,
    frames: bool = False,
) -> Float[Tensor, "*shape"]:
    """Images or frames of events under a kind of noise; see the top of this file.

    Args:
        images: values in [0, 1].
        kind: one of `KINDS`.
        level: standard deviation or share; 0 gives the images back and draws nothing.
        generator: as in `gaussian`.
        frames: they are frames of events, 0 or 1.

    Raises:
        UserError: the kind is unknown or its level out of range.
    """
    check_level(kind, level)
    if level == 0:
        return images
    if kind == "gaussian":
        return gaussian(images, level, generator)
    return (flipped if frames else salt_and_pepper)(images, level, generator)
