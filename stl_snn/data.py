"""Data sets as tensors on the device, their spikes, and noise.

Images are drawn as spikes afresh at every presentation: x[t] = 1 where pixel >= U(0, 1). Recordings
of event cameras are cut into T equally long frames, a channel per polarity.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from shared import datasets
from shared.datasets import Dataset, EventPart, EventSet, Split, to_frames
from shared.errors import check_word
from shared.run import progress
from shared.tensors import Samples, moved_and_mirrored
from stl_snn.param import DataName, Noise

CAMERAS: dict[str, Callable[[Path | None], EventSet]] = {
    "nmnist": datasets.load_nmnist,
    "dvsgesture": datasets.load_dvs_gesture,
    "cifar10dvs": datasets.load_cifar10_dvs,
}

LOADED = {"dvsgesture": "dvs_gesture", "cifar10dvs": "cifar10_dvs"}
"""What sets are called when they are loaded, where -data names them otherwise."""

LEVELS = range(15)
NOISE: tuple[Noise, ...] = get_args(Noise)

SHIFT = 4  # pixels


@dataclass(frozen=True)
class Data:
    """A data set on a device.

    Attributes:
        name: what was really loaded.
        train, validation, test: its parts, uint8: images [n, channels, height, width] or frames
            [n, time, channels, height, width].
        n_classes: number of classes.
        augmented: training images are shifted and mirrored at random.
        fingerprint: see `shared.datasets.fingerprint`; None of what was made by hand.
    """

    name: str
    train: Samples
    validation: Samples
    test: Samples
    n_classes: int
    augmented: bool = False
    fingerprint: Mapping[str, Any] | None = None

    @property
    def recorded(self) -> bool:
        """Whether samples are frames, which have a time of their own."""
        return self.train.inputs.dim() == 5

    @property
    def shape(self) -> tuple[int, int, int]:
        """Channels, height and width of a step."""
        channels, height, width = self.train.inputs.shape[-3:]
        return channels, height, width


def load(
    name: DataName,
    root: Path | None,
    steps: int,
    device: torch.device,
    *,
    augmented: bool = False,
    limit: int | None = None,
) -> Data:
    """A data set on the device.

    Args:
        name: as -data names it.
        root: the data root, None for the default one.
        steps: frames that a recording is cut into.
        device: that holds it.
        augmented: training images are to be shifted and mirrored.
        limit: samples of each part that are wanted, None for all.

    Raises:
        DatasetError: it cannot be had.
        ValueError: the name is none of these.
    """
    check_word("data set", name, DataName)
    if name in CAMERAS:
        events = CAMERAS[name](root)
        train, validation, test = (
            _frames(part.first(limit), steps, events.height)
            for part in (events.train, events.validation, events.test)
        )
        found = Dataset(events.name, train, validation, test, events.n_classes)
    else:
        found = datasets.load(name, root, fallback=True)
        found = found if limit is None else found.first(limit)
    return Data(
        found.name,
        Samples.of(found.train, device),
        Samples.of(found.validation, device),
        Samples.of(found.test, device),
        found.n_classes,
        augmented,
        found.fingerprint,
    )


def _frames(part: EventPart, steps: int, side: int) -> Split:
    """Recordings as frames [n, steps, 2, side, side]."""
    made = np.zeros((len(part), steps, 2, side, side), np.uint8)
    recordings = progress(part.recordings, len(part), "frames")
    for frames, events in zip(made, recordings, strict=True):
        frames[:] = to_frames(events, steps, side, side).swapaxes(0, 1)
    return Split(made, part.labels)


def intensities(inputs: UInt8[Tensor, "n *shape"], recorded: bool) -> Float[Tensor, "n *shape"]:
    """Pixels in [0, 1], or frames as they are."""
    return inputs.float() if recorded else inputs.float() / 255


def spikes(
    values: Float[Tensor, "n *shape"], steps: int, generator: torch.Generator | None
) -> Float[Tensor, "n t c h w"]:
    """The input of a network.

    Args:
        values: images with pixels in [0, 1], which are drawn as spikes, or frames, which are these.
        steps: time steps of an image.
        generator: of the draws; None for torch's own.
    """
    if values.dim() == 5:
        return values
    thresholds = torch.rand(
        (len(values), steps, *values.shape[1:]), generator=generator, device=values.device
    )
    above = torch.ge(values.unsqueeze(1), thresholds)
    return above.to(values.dtype)


def augment(images: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c h w"]:
    """Every image shifted by up to 4 pixels each way, black moving in, and mirrored half the time.

    Draws come from torch's own generator.
    """
    return moved_and_mirrored(images, SHIFT)


def kinds_of_noise(recorded: bool) -> tuple[Noise, ...]:
    """Kinds that suit the data: frames of 0 and 1 have no use for additive noise."""
    return ("s&p",) if recorded else NOISE


def noisy(
    values: Float[Tensor, "n *shape"], kind: Noise, level: int, generator: torch.Generator
) -> Float[Tensor, "n *shape"]:
    """Pixels or frames under noise, in [0, 1].

    Args:
        values: pixels or frames.
        kind: one of `NOISE`.
        level: strength, 0 (none) to 14; the units are those of hybrid plasticity's figure 4.
        generator: of the draws.

    Raises:
        ValueError: the kind is another word.
    """
    check_word("kind", kind, Noise)
    if kind == "gaussian":
        noise = torch.randn(values.shape, generator=generator, device=values.device)
        return (values + math.sqrt(0.01 * level) * noise).clamp(0, 1)
    share = 0.02 * level
    drawn = torch.rand(values.shape, generator=generator, device=values.device)
    return values.masked_fill(drawn < share, 0).masked_fill(drawn < share / 2, 1)
