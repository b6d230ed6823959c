"""N-MNIST as frames for LISNN: 36 x 36 pixels, a channel a polarity, a frame a time step.

A recording of 34 x 34 pixels gets a border of one pixel, so that its frames can be pooled by 2
twice.
"""

from pathlib import Path

from brp_snn.gesture import frames
from shared import datasets

BORDER = 1


def load(root: Path | None, steps: int, first: int | None = None) -> datasets.Dataset:
    """The recordings of `shared.datasets.load_nmnist` as frames.

    Args:
        root: the data root, as in `shared.datasets.load_nmnist`.
        steps: frames a recording.
        first: read only so many recordings of each part; None reads all.

    Returns:
        Inputs uint8 [n, steps, 2, 36, 36] of 0 and 1, labels int64 [n].

    Raises:
        DatasetMissingError: the set is not there.
        DatasetError: it is damaged.
    """
    found = datasets.load_nmnist(root)
    train, validation, test = (
        datasets.Split(
            frames(part.first(first), steps, found.height, border=BORDER).swapaxes(1, 2),
            part.labels[:first],
        )
        for part in (found.train, found.validation, found.test)
    )
    return datasets.Dataset(found.name, train, validation, test, found.n_classes)
