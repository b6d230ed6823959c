"""Recordings of event cameras as frames: DVS Gesture, 32 x 32, and N-MNIST, 34 x 34."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from numpy.typing import NDArray

from shared.datasets import EventPart, EventSet, load_dvs_gesture, load_nmnist, to_frames
from shared.run import progress

# A gesture of 128 x 128 pixels is shown as 32 x 32.
CAMERAS: dict[str, tuple[Callable[[Path | None], EventSet], int]] = {
    "dvsgesture": (load_dvs_gesture, 4),
    "nmnist": (load_nmnist, 1),
}
"""How each set is loaded, and the side of the squares of its pixels that become one."""


def frames(
    part: EventPart, n_frames: int, side: int, *, factor: int = 1, border: int = 0
) -> UInt8[NDArray[np.uint8], "n 2 frames height width"]:
    """Every recording cut into equally long frames, a channel a polarity.

    Args:
        part: the recordings.
        n_frames: frames a recording.
        side: of the camera, pixels.
        factor: side of the squares of pixels that become one.
        border: width of an empty border, pixels.

    Raises:
        DatasetError: a recording is damaged.
    """
    size = -(-side // factor) + 2 * border
    made = np.zeros((len(part), 2, n_frames, size, size), np.uint8)
    recordings = progress(part.recordings, len(part), "frames")
    for one, events in zip(made, recordings, strict=True):
        one[:] = to_frames(events, n_frames, side, side, factor=factor, border=border)
    return made
