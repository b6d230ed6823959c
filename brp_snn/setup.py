"""The data sets of the published `setup.py`, by its names, for a program of one's own.

`data.py` holds them as the networks here take them.
"""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import TensorDataset

from brp_snn import gesture
from brp_snn.synth_dataset_gen import FOLDER, SIZES
from brp_snn.tidigits import PUBLISHED_FOLDER, SEED, SHARE, drawn, features
from shared import datasets
from shared.errors import UserError, check_word


class SynthDataset(TensorDataset):
    """A part of a synthetic set that `synth_dataset_gen.py` has written, by the published name.

    Args:
        select: "regression" or "classification".
        type: "train" or "test".
        folder: where it was written.

    Attributes:
        input_size: side of the square that the inputs make.
        input_channels: 1.
        label_features: outputs.

    Raises:
        UserError: it has not been written.
        ValueError: there is no such task or part.
    """

    def __init__(self, select: str, type: str, folder: Path = FOLDER) -> None:
        check_word("synthetic task", select, SIZES)
        check_word("part", type, ("train", "test"))
        path = folder / select / f"{type}.pt"
        if not path.is_file():
            raise UserError(f"{path} is not there: run synth_dataset_gen.py first")
        samples, self.input_size, self.input_channels, self.label_features = torch.load(
            path, weights_only=True
        )
        super().__init__(*samples)


class Gesture(gesture.Gesture):
    """The same part with its frames in a channel of their own, and classes as numbers."""

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        """Frames [1, frames, 32, 32] and class, int64, of a recording."""
        frames, labels = super().__getitem__(index)
        return frames[None], labels.argmax()


class Tidigits(TensorDataset):
    """A part of TIDigits, by the published name: features [1, frames, bands] with their labels.

    Args:
        train_or_test: "train", seven tenths of the recordings; "valid", the same again, as
            published; or "test", the others.
        input_channel: 1; accepted for the published call's sake.
        n_bands: number of bands.
        n_frames: number of frames.
        transform: accepted for the published call's sake; samples are tensors already.
        target_transform: likewise.
        folder: of the speakers' folders.

    Raises:
        DatasetError: the recordings are not there, or damaged.
        ValueError: there is no such part.
    """

    def __init__(
        self,
        train_or_test: str,
        input_channel: int,
        n_bands: int,
        n_frames: int,
        transform: Any = None,
        target_transform: Any = None,
        *,
        folder: Path = PUBLISHED_FOLDER,
    ) -> None:
        check_word("part", train_or_test, ("train", "valid", "test"))
        speech = datasets.load_tidigits(folder=folder)
        rest, test = drawn(speech.labels, SHARE, SEED)
        chosen = {"train": rest, "valid": rest, "test": test}[train_or_test]
        found = features(speech, bands=n_bands, frames=n_frames)[chosen].swapaxes(2, 3)
        self.x_values, self.y_values = (
            torch.from_numpy(np.ascontiguousarray(part)) for part in (found, speech.labels[chosen])
        )
        super().__init__(self.x_values, self.y_values)
