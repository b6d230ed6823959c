"""Recordings of event cameras: their types, decoding, checks and frames."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, overload

import numpy as np
from numpy.typing import NDArray

from shared.datasets._tables import held_out
from shared.datasets._types import DatasetError

EVENT_BYTES = 5
TIME_RANGE = 1 << 23  # microseconds that an event's 23 bits of time can tell
OVERFLOW_ROW, OVERFLOW_TIME = 240, 1 << 13  # an event that only says that so much time has passed
# A camera's buffers can mix events up by as much; a clock that was set back goes further.
JITTER = 10_000  # microseconds


class Events(NamedTuple):
    """Events of a recording in order of time.

    Attributes:
        x, y: column and row of each event, int16 [k].
        polarity: 1 where it became brighter, 0 where darker, uint8 [k].
        times: int64 [k], microseconds, ascending.
    """

    x: NDArray[np.int16]
    y: NDArray[np.int16]
    polarity: NDArray[np.uint8]
    times: NDArray[np.int64]


class Recordings(Sequence[Events]):
    """Recordings that are decoded when they are asked for: a whole set would not fit in memory.

    Args:
        items: what `read` takes for each recording.
        read: decodes one.
    """

    def __init__(self, items: Sequence[Any], read: Callable[[Any], Events]) -> None:
        self._items, self._read = list(items), read

    def __len__(self) -> int:
        return len(self._items)

    def __iter__(self) -> Iterator[Events]:
        # Python's own way ends at the first IndexError, wherever it comes from.
        return map(self._decoded, self._items)

    @overload
    def __getitem__(self, index: int) -> Events: ...

    @overload
    def __getitem__(self, index: slice) -> Recordings: ...

    def __getitem__(self, index: int | slice) -> Events | Recordings:
        if isinstance(index, slice):
            return Recordings(self._items[index], self._read)
        return self._decoded(self._items[index])

    def chosen(self, indices: Sequence[int]) -> Recordings:
        """Those of these numbers."""
        return Recordings([self._items[index] for index in indices], self._read)

    def _decoded(self, item: Any) -> Events:
        """A recording.

        Raises:
            DatasetError: it is damaged; an IndexError of the reader would say "no more recordings".
        """
        try:
            return self._read(item)
        except IndexError as error:
            raise DatasetError(
                f"{item} is damaged ({error}): put a good copy in its place."
            ) from error


@dataclass(frozen=True, eq=False)
class EventPart:
    """One part of a set of recordings.

    Attributes:
        recordings: the events of each recording.
        labels: class of each, int64 [n].

    """

    recordings: Recordings
    labels: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.recordings)

    def first(self, n: int | None) -> EventPart:
        """The first n recordings; None means all."""
        return EventPart(self.recordings[:n], self.labels[:n])


@dataclass(frozen=True, eq=False)
class EventSet:
    """Recordings in three parts, each in random but fixed order.

    Attributes:
        name: what was really loaded, for every record.
        train, validation, test: the parts.
        height, width: of the camera, pixels.
        n_classes: number of classes.

    """

    name: str
    train: EventPart
    validation: EventPart
    test: EventPart
    height: int
    width: int
    n_classes: int


class File(NamedTuple):
    """A recording: its part ("Train" or "Test"), its class, and what its reader takes for it."""

    part: str
    label: int
    item: Any


def part_of(files: Sequence[File], read: Callable[[Any], Events]) -> EventPart:
    """A part of these recordings, in random but fixed order."""
    # The files are sorted by class; whoever takes the first few must get some of each.
    order = np.random.default_rng(0).permutation(len(files))
    labels = np.array([files[i].label for i in order], np.int64)
    return EventPart(Recordings([files[i].item for i in order], read), labels)


def cut(train: EventPart, share: float, seed: int) -> tuple[EventPart, EventPart]:
    """What is left to train on, and the validation part."""
    chosen = held_out(len(train), share, seed)
    rest, apart = (
        EventPart(train.recordings.chosen(np.flatnonzero(mask).tolist()), train.labels[mask])
        for mask in (~chosen, chosen)
    )
    return rest, apart


# ------------------------------------------------------------------------------ decoding and checks


def decode_events(content: bytes, height: int, width: int, name: str) -> Events:
    """Decodes events of 5 bytes, as N-MNIST and the .bs2 files of DVS Gesture have them.

    x; y; polarity (1 bit) and time (23 bits, big-endian, microseconds). Time that runs backwards by
    more than half of what 23 bits can tell has begun anew; an event of row 240 says that 8,192
    microseconds have passed and is none itself.

    Args:
        content: of the file.
        height: of the camera, pixels.
        width: of the camera, pixels.
        name: of the file, for messages.

    Raises:
        DatasetError: there are no events, a part of one, or one that `checked` refuses.

    """
    if not content or len(content) % EVENT_BYTES:
        raise DatasetError(
            f"{name} is no recording of events of {EVENT_BYTES} bytes (it has {len(content)} "
            "bytes): put a good copy in its place."
        )
    x, y, high, middle, low = (
        np.frombuffer(content, np.uint8).reshape(-1, EVENT_BYTES).T.astype(np.int64)
    )
    times = (high & 0x7F) << 16 | middle << 8 | low
    numbers = np.arange(len(x))
    overflows = y == OVERFLOW_ROW
    if overflows.any() and height <= OVERFLOW_ROW:
        times = times + OVERFLOW_TIME * np.cumsum(overflows)
        x, y, high, times, numbers = (column[~overflows] for column in (x, y, high, times, numbers))
    times = unwrapped(times, TIME_RANGE)
    return checked(x, y, high >> 7, times, height, width, name, numbers)


def unwrapped(times: NDArray[np.int64], span: int) -> NDArray[np.int64]:
    """Times of a clock that begins anew after `span`, which go on instead.

    A step back by more than half of the span is such a beginning.
    """
    return times + span * np.cumsum(np.diff(times, prepend=times[:1]) < -span // 2)


def checked(
    x: NDArray[Any],
    y: NDArray[Any],
    polarity: NDArray[Any],
    times: NDArray[Any],
    height: int,
    width: int,
    name: str,
    numbers: NDArray[np.intp] | None = None,
) -> Events:
    """Events in order of time, made of columns of any type, narrow and unsigned integers too.

    Events that are out of order by at most 10 ms are put in order: simultaneous ones keep theirs.

    Args:
        x: column of each event, [k].
        y: row.
        polarity: 1 where it became brighter, 0 where darker.
        times: microseconds.
        height: of the camera, pixels.
        width: of the camera, pixels.
        name: of the file, for messages.
        numbers: of the events in the file, counted from 0; None where they are all there.

    Raises:
        DatasetError: there are no events or columns differ in length, or an event lies outside of
            the camera, has another polarity, a negative time or none, or a time more than 10 ms
            before that of an earlier event; it is named by its number.

    """
    columns = [np.asarray(column) for column in (x, y, polarity, times)]
    if len({column.shape for column in columns}) > 1 or columns[0].ndim != 1:
        shapes = ", ".join(str(column.shape) for column in columns)
        raise DatasetError(f"{name} has events whose columns differ in length: {shapes}.")
    if not len(columns[0]):
        raise DatasetError(f"{name} has no events: put a good copy in its place.")

    def refuse(bad: NDArray[np.bool_], words: Callable[[int], str]) -> None:
        if bad.any():
            k = int(bad.argmax())
            number = k if numbers is None else int(numbers[k])
            raise DatasetError(
                f"event {number} (counted from 0) of {name} {words(k)}: put a good copy in its "
                "place."
            )

    for column in columns:
        if np.issubdtype(column.dtype, np.floating):
            refuse(~np.isfinite(column), lambda k: "has a value that is no number")
    x, y, polarity, times = (column.astype(np.int64) for column in columns)
    refuse(
        (x < 0) | (x >= width) | (y < 0) | (y >= height),
        lambda k: f"lies at x {x[k]}, y {y[k]}, outside of the camera's {width} x {height} pixels",
    )
    refuse((polarity < 0) | (polarity > 1), lambda k: f"has the polarity {polarity[k]}, not 0 or 1")
    refuse(times < 0, lambda k: f"has the negative time {times[k]} us")
    latest = np.maximum.accumulate(times)
    refuse(
        times < latest - JITTER,
        lambda k: f"jumps back in time, from {latest[k]} to {times[k]} us",
    )
    if (times < latest).any():
        order = np.argsort(times, kind="stable")
        x, y, polarity, times = (column[order] for column in (x, y, polarity, times))
    return Events(x.astype(np.int16), y.astype(np.int16), polarity.astype(np.uint8), times)


def to_frames(
    events: Events,
    n_frames: int,
    height: int,
    width: int,
    *,
    factor: int = 1,
    border: int = 0,
    name: str = "these events",
) -> NDArray[np.uint8]:
    """Cuts a recording into equally long frames, from its first event to its last.

    Args:
        events: the recording.
        n_frames: number of frames.
        height: of the camera, pixels.
        width: of the camera, pixels.
        factor: side of the squares of pixels that become one.
        border: width of an empty border, in pixels of the frame.
        name: of the recording, for messages.

    Returns:
        [2, n_frames, height / factor + 2 border, width / factor + 2 border], by polarity; 1 where
        there was any event. A channel, a step and two of space are what networks take.

    Raises:
        DatasetError: as in `checked`.

    """
    x, y, polarity, times = checked(*events, height, width, name)
    since = times - times[0]
    frame = since * n_frames // (since[-1] + 1)
    shape = (-(-height // factor) + 2 * border, -(-width // factor) + 2 * border)
    frames = np.zeros((2, n_frames, *shape), np.uint8)
    frames[polarity, frame, y // factor + border, x // factor + border] = 1
    return frames
