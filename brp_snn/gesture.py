"""Recordings of event cameras as frames: DVS Gesture, 32 x 32, and N-MNIST, 34 x 34.

    python brp_snn/gesture.py                 the first batch of DVS Gesture: shape and labels
    python brp_snn/gesture.py --mat FILE      of that DVS_gesture_100.mat

As published, a gesture is 100 frames in one channel; the network is shown the first 20. The frames
lie in DVS_gesture_100.mat where the data root has it; else they are made of the official archives.
"""

import shared.waiting

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
from jaxtyping import Int, Shaped, UInt8
from torch import Tensor
from torch.nn.functional import one_hot
from torch.utils.data import DataLoader, Dataset

from shared.datasets import (
    DatasetMissingError,
    EventPart,
    EventSet,
    GestureFrames,
    load_dvs_gesture,
    load_gesture_frames,
    load_nmnist,
    to_frames,
)
from shared.errors import check_word
from shared.experiment import Positive, paper, parse
from shared.options import script
from shared.run import progress

# A gesture of 128 x 128 pixels is shown as 32 x 32.
CAMERAS: dict[str, tuple[Callable[[Path | None], EventSet], int]] = {
    "dvsgesture": (load_dvs_gesture, 4),
    "nmnist": (load_nmnist, 1),
}
"""How each set is loaded, and the side of the squares of its pixels that become one."""

GESTURE_FRAMES, GESTURES = 100, 11


def frames(
    part: EventPart, n_frames: int, side: int, *, factor: int = 1
) -> UInt8[np.ndarray, "n 2 frames height width"]:
    """Every recording cut into equally long frames, one channel per polarity.

    Args:
        part: the recordings.
        n_frames: frames per recording.
        side: of the camera, pixels.
        factor: side of the squares of pixels that become one.

    Raises:
        DatasetError: a recording is damaged.
    """
    size = -(-side // factor)
    made = np.zeros((len(part), 2, n_frames, size, size), np.uint8)
    recordings = progress(part.recordings, len(part), "frames")
    for one, events in zip(made, recordings, strict=True):
        one[:] = to_frames(events, n_frames, side, side, factor=factor)
    return made


def gesture_frames(
    part: EventPart, shown: int, side: int, *, factor: int
) -> UInt8[np.ndarray, "n 1 frames height width"]:
    """The first of 100 frames of every recording, 1 where there was any event of either polarity.

    Args:
        part: the recordings.
        shown: frames of each.
        side: of the camera, pixels.
        factor: side of the squares of pixels that become one.

    Raises:
        DatasetError: a recording is damaged.
    """
    size = -(-side // factor)
    made = np.zeros((len(part), 1, shown, size, size), np.uint8)
    recordings = progress(part.recordings, len(part), "frames")
    for one, events in zip(made, recordings, strict=True):
        both = to_frames(events, GESTURE_FRAMES, side, side, factor=factor)
        one[0] = both.max(0)[:shown]
    return made


class Gesture(Dataset[tuple[Tensor, Tensor]]):
    """A part of DVS_gesture_100.mat, by the published name.

    Args:
        train_or_test: "train" or "test".
        transform: accepted for the published call's sake; samples are tensors already.
        target_transform: likewise.
        path: the file, else that of the data root.

    Attributes:
        x_values: [n, frames, 32, 32].
        y_values: 1 in the column of the gesture of each, int64 [n, 11].

    Raises:
        DatasetError: the file is not there, or in another format.
        ValueError: there is no such part.
    """

    def __init__(
        self,
        train_or_test: str,
        transform: Any = None,
        target_transform: Any = None,
        *,
        path: Path | None = None,
    ) -> None:
        check_word("part", train_or_test, ("train", "test"))
        found = load_gesture_frames(path)
        self.x_values = torch.from_numpy(getattr(found, f"{train_or_test}_frames"))
        labels = torch.from_numpy(getattr(found, f"{train_or_test}_labels"))
        self.y_values = one_hot(labels, GESTURES)

    def __getitem__(
        self, index: int
    ) -> tuple[Shaped[Tensor, "*frames 32 32"], Int[Tensor, "*classes"]]:
        """Frames [frames, 32, 32] and one-hot class [11] of a recording."""
        return self.x_values[index], self.y_values[index]

    def __len__(self) -> int:
        return len(self.x_values)


def stored_frames(root: Path | None) -> GestureFrames | None:
    """What DVS_gesture_100.mat of the data root holds; None where it is not there.

    Raises:
        DatasetError: it is in another format.
    """
    try:
        return load_gesture_frames(root=root)
    except DatasetMissingError:
        return None


@dataclass(frozen=True)
class Options:
    """The options."""

    mat: Path | None = None
    """DVS_gesture_100.mat; without it that of the data root."""
    batch_size: Annotated[Positive[int], paper(50)] = 50
    """Recordings at once."""


def main() -> None:
    """Show the first batch."""
    options = parse(Options, __doc__)
    batches = DataLoader(Gesture("train", path=options.mat), options.batch_size, shuffle=True)
    images, labels = next(iter(batches))
    print(tuple(images.shape))
    print(labels.tolist())


if __name__ == "__main__":
    script(main)
