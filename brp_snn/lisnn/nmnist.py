"""N-MNIST as frames for LISNN: 36 x 36 pixels, a channel per polarity, a frame every 15 ms.

An event at time t goes into frame round(t / 15 ms), counted from the recording's own zero. Frames
past the last step are not shown: of some 300 ms the published 20 steps leave out the last 10. A
recording of 34 x 34 pixels gets a border of one pixel, so that its frames can be pooled by 2 twice.
"""

from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, UInt8
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from shared import datasets
from shared.errors import UserError
from shared.run import progress

BIN = 15_000  # microseconds
SENSOR = 34
BORDER = 1
SIDE = SENSOR + 2 * BORDER


def load(
    root: Path | None, steps: int, first: int | None = None, validation: float = 0.1
) -> datasets.Dataset:
    """The recordings of `shared.datasets.load_nmnist` as frames.

    Args:
        root: the data root, as in `shared.datasets.load_nmnist`.
        steps: frames per recording.
        first: read only so many recordings of each part; None reads all.
        validation: share of the training recordings that is held out.

    Returns:
        Inputs uint8 [n, steps, 2, 36, 36] of 0 and 1, labels int64 [n].

    Raises:
        DatasetMissingError: the set is not there.
        DatasetError: it is damaged.
    """
    found = datasets.load_nmnist(root, validation=validation)
    train, validation_, test = (
        datasets.Split(_frames(part.first(first), steps), part.labels[:first])
        for part in (found.train, found.validation, found.test)
    )
    return datasets.Dataset(found.name, train, validation_, test, found.n_classes)


def _frames(part: datasets.EventPart, steps: int) -> UInt8[np.ndarray, "n time 2 36 36"]:
    made = np.zeros((len(part), steps, 2, SIDE, SIDE), np.uint8)
    for one, events in zip(made, progress(part.recordings, len(part), "frames"), strict=True):
        _event(events).toSpikeTensor(one.transpose(1, 2, 3, 0))
    return made


def _event(events: datasets.Events) -> "event":
    x, y = (place.astype(np.int64) + BORDER for place in (events.x, events.y))
    return event(x, y, events.polarity, events.times / BIN)


class event:
    """Events of a recording, by the published name.

    Args:
        xEvent, yEvent: column and row of each.
        pEvent: a number where it became brighter, a smaller one where darker; the smallest there is
            counts as 0.
        tEvent: time of each, in units of a bin.
    """

    def __init__(
        self, xEvent: ArrayLike, yEvent: ArrayLike, pEvent: ArrayLike, tEvent: ArrayLike
    ) -> None:
        self.x, self.y, self.p = (np.asarray(part, np.int64) for part in (xEvent, yEvent, pEvent))
        if self.p.size:
            self.p = self.p - self.p.min()
        self.t = np.asarray(tEvent, np.float64)

    def toSpikeTensor(
        self, emptyTensor: NDArray[np.uint8] | Tensor, samplingTime: float = 1
    ) -> NDArray[np.uint8] | Tensor:
        """Write 1 / samplingTime where there was any event.

        Args:
            emptyTensor: [polarity, height, width, time], which is changed; events outside of it
                are left out.
            samplingTime: length of a step, in bins.

        Returns:
            The same array.
        """
        steps = np.round(self.t / samplingTime).astype(np.int64)
        columns = (self.p, self.y, self.x, steps)
        inside = np.logical_and.reduce(
            [(part >= 0) & (part < n) for part, n in zip(columns, emptyTensor.shape, strict=True)]
        )
        emptyTensor[tuple(part[inside] for part in columns)] = 1 / samplingTime
        return emptyTensor

    def toSpikeArray(self, samplingTime: float = 1) -> NDArray[np.float64]:
        """As `toSpikeTensor`, in an array [polarity, height, width, time] that holds all events."""
        last = (self.p.max(), self.y.max(), self.x.max(), np.round(self.t.max() / samplingTime))
        made = np.zeros([int(n) + 1 for n in last])
        self.toSpikeTensor(made, samplingTime)  # type: ignore[arg-type]
        return made


def read2Dspikes(filename: str | Path) -> event:
    """Events of a recording, whose file's name may lack leading zeros (1.bin is 00001.bin).

    Raises:
        UserError: the file cannot be read, or is no recording of N-MNIST.
    """
    path = Path(filename)
    path = path.with_name(f"{path.stem:0>5}{path.suffix}")
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror or error}") from error
    return _event(datasets.decode_events(content, SENSOR, SENSOR, f"{path}"))


class nmnist(torch.utils.data.Dataset[tuple[Tensor, int]]):
    """Recordings that a table names, by the published name; the last axis is time.

    Args:
        datasetPath: folder of the recordings, `00001.bin` and so on.
        sampleFile: text with a row per recording: number of its file, class.
        samplingTime: length of a frame, in bins of 15 ms.
        sampleLength: length of a sample, in the same unit.

    Raises:
        UserError: the table cannot be read.
    """

    def __init__(
        self,
        datasetPath: str | Path,
        sampleFile: str | Path,
        samplingTime: float,
        sampleLength: float,
    ) -> None:
        self.path, self.samplingTime = Path(datasetPath), samplingTime
        self.nTimeBins = int(sampleLength / samplingTime)
        try:
            self.samples = np.loadtxt(sampleFile, ndmin=2).astype(np.int64)
        except (OSError, ValueError) as error:
            raise UserError(f"{sampleFile} is no table of numbers and classes: {error}") from error

    def __getitem__(self, index: int) -> tuple[Float[Tensor, "2 36 36 time"], int]:
        """Frames of a recording, and its class."""
        number, label = self.samples[index, :2].tolist()
        frames = torch.zeros(2, SIDE, SIDE, self.nTimeBins)
        read2Dspikes(self.path / f"{number}.bin").toSpikeTensor(frames, self.samplingTime)
        return frames, label

    def __len__(self) -> int:
        return len(self.samples)
