"""The distortions of figure 4c, d: cropping and five kinds of noise, at levels 0 to 14.

    crop        the central square of side 2 i is blanked
    gaussian    additive noise of variance 0.01 i
    salt        a share of 0.01 i of the pixels is white
    pepper      a share of 0.06 i of the pixels is black
    s&p         a share of 0.02 i of the pixels is white or black
    speckle     multiplicative noise of variance 100 i

Noise is scikit-image's `random_noise`: clipped to [0, 1].
"""

from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from skimage.util import random_noise
from torch import Tensor

from shared.errors import UserError

LEVELS = range(15)

# The word for the strength of a kind of noise in `random_noise`, and its value per level.
_NOISE: dict[str, tuple[str, float]] = {
    "gaussian": ("var", 0.01),
    "salt": ("amount", 0.01),
    "pepper": ("amount", 0.06),
    "s&p": ("amount", 0.02),
    "speckle": ("var", 100.0),
}
NOISE_KINDS = tuple(_NOISE)
KINDS = ("crop", *NOISE_KINDS)


def distort(
    images: Float[Tensor, "n height width"], kind: str, level: int
) -> Float[Tensor, "n height width"]:
    """Images under a distortion; the same level always draws the same noise.

    Args:
        images: intensities in [0, 1].
        kind: one of `KINDS`.
        level: strength, 0 (none) to 14.

    Raises:
        UserError: the kind is unknown or the level is not one of the fifteen.
    """
    if kind not in KINDS:
        raise UserError(f"no distortion is called {kind!r}: choose from {', '.join(KINDS)}")
    if level not in LEVELS:
        raise UserError(f"level {level} of {kind}: levels go from {LEVELS[0]} to {LEVELS[-1]}")
    if level == 0:
        return images
    if kind == "crop":
        return cropped(images, level)
    word, unit = _NOISE[kind]
    strength: dict[str, Any] = {word: unit * level}
    rng = np.random.default_rng(level)
    noisy = random_noise(images.cpu().numpy(), kind, rng=rng, clip=True, **strength)
    return torch.from_numpy(noisy).to(images)


def cropped(images: Float[Tensor, "n height width"], level: int) -> Float[Tensor, "n height width"]:
    """Images whose central square of side 2 * level is black."""
    rows, columns = (side // 2 for side in images.shape[1:])
    blanked = images.clone()
    blanked[:, rows - level : rows + level, columns - level : columns + level] = 0
    return blanked
