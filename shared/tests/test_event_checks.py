"""Events that cannot be: outside of the camera, out of order, of narrow types; all are named."""

import numpy as np
import pytest

from shared import datasets
from shared.datasets import DatasetError, Events, _cifar10dvs, _events
from shared.tests.made import assert_one_sentence, encoded

K = 5


def columns(**changes):
    """Five good events, with changed columns."""
    good = {
        "x": np.arange(K),
        "y": np.arange(K),
        "polarity": np.arange(K) % 2,
        "times": 100 * np.arange(K),
    }
    return {name: np.asarray(column) for name, column in (good | changes).items()}


def checked(**changes):
    return _events.checked(**columns(**changes), height=6, width=8, name="a.bin")


BAD = [
    ({"x": [0, 1, 8, 3, 9]}, "event 2 (counted from 0) of a.bin lies at x 8, y 2, outside of"),
    ({"x": [0, 1, 2, -1, 4]}, "event 3 (counted from 0) of a.bin lies at x -1, y 3"),
    ({"y": [0, 6, 2, 3, 4]}, "event 1 (counted from 0) of a.bin lies at x 1, y 6"),
    ({"y": [-6, 1, 2, 3, 4]}, "outside of the camera's 8 x 6 pixels"),
    ({"polarity": [1, 1, -1, 1, 1]}, "event 2 (counted from 0) of a.bin has the polarity -1"),
    ({"polarity": [1, 1, 1, 1, 2]}, "event 4 (counted from 0) of a.bin has the polarity 2"),
    ({"times": [-1, 0, 1, 2, 3]}, "event 0 (counted from 0) of a.bin has the negative time -1 us"),
    (
        {"times": [0, 50_000, 60_000, 49_999, 70_000]},
        "event 3 (counted from 0) of a.bin jumps back in time, from 60000 to 49999 us",
    ),
    ({"times": [0.0, 1.0, np.nan, 3.0, 4.0]}, "event 2 (counted from 0) of a.bin has a value that"),
    ({"x": [0.0, np.inf, 2.0, 3.0, 4.0]}, "event 1 (counted from 0) of a.bin has a value that"),
    ({"x": [0, 1, 2]}, "a.bin has events whose columns differ in length"),
    ({"times": np.zeros((K, 2), int)}, "a.bin has events whose columns differ in length"),
    (dict.fromkeys(("x", "y", "polarity", "times"), np.zeros(0, int)), "a.bin has no events"),
]


@pytest.mark.parametrize(("changes", "words"), BAD)
def test_an_event_that_cannot_be_is_named_by_file_and_number(changes, words):
    with pytest.raises(DatasetError) as refusal:
        checked(**changes)
    assert_one_sentence(refusal, words)


@pytest.mark.parametrize(("changes", "words"), BAD)
def test_frames_are_not_made_of_events_that_cannot_be(changes, words):
    events = Events(**columns(**changes))
    with pytest.raises(DatasetError) as refusal:
        datasets.to_frames(events, 3, 6, 8, name="a.bin")
    assert_one_sentence(refusal, words)


@pytest.mark.parametrize(
    "dtype", [np.int8, np.uint8, np.int16, np.uint16, np.int32, np.uint32, np.uint64, np.float32]
)
def test_columns_of_any_type_give_the_same_events(dtype):
    narrow = checked(times=np.arange(K).astype(dtype), x=np.arange(K).astype(dtype))
    wide = checked(times=np.arange(K), x=np.arange(K))
    for column, other in zip(narrow, wide, strict=True):
        assert column.dtype == other.dtype
        np.testing.assert_array_equal(column, other)


@pytest.mark.parametrize("dtype", [np.int32, np.uint32, np.int64])
def test_long_times_of_narrow_types_make_the_right_frames(dtype):
    """20 frames of 5e8 us: their product does not fit 32 bits."""
    times = np.array([0, 125_000_000, 250_000_000, 499_999_999, 500_000_000], dtype)
    events = Events(**columns(times=times))
    frames = datasets.to_frames(events, 20, 6, 8)
    polarity, frame, y, x = np.nonzero(frames)
    assert dict(zip(x.tolist(), frame.tolist(), strict=True)) == {0: 0, 1: 4, 2: 9, 3: 19, 4: 19}
    assert (x == y).all()
    assert (polarity == x % 2).all()


def test_a_time_that_only_an_unsigned_type_tells_is_refused_not_turned():
    with pytest.raises(DatasetError, match=r"event 4 .* has the negative time"):
        checked(times=np.array([0, 1, 2, 3, 2**64 - 5], np.uint64))


def test_events_mixed_up_by_a_buffer_are_put_in_order():
    events = checked(times=[0, 12_000, 2_000, 12_000, 13_000])
    assert events.times.tolist() == [0, 2_000, 12_000, 12_000, 13_000]
    assert events.x.tolist() == [0, 2, 1, 3, 4]  # simultaneous ones stay as they were


def test_the_number_of_an_event_is_that_in_the_file():
    """Events that tell time only count too, though they are none."""
    content = encoded((0, 0, 1, 5), (0, 240, 0, 0), (1, 0, 0, 7), (40, 0, 0, 9))
    with pytest.raises(DatasetError) as refusal:
        datasets.decode_events(content, 34, 34, "digit.bin")
    assert_one_sentence(refusal, "event 3 (counted from 0) of digit.bin lies at x 40, y 0")


def test_a_clock_that_was_set_back_is_named():
    content = encoded((0, 0, 1, 1000), (1, 0, 0, 200_000), (2, 0, 0, 300), (3, 0, 0, 400))
    with pytest.raises(DatasetError) as refusal:
        datasets.decode_events(content, 34, 34, "digit.bin")
    assert_one_sentence(refusal, "event 2 (counted from 0) of digit.bin jumps back in time")


def test_a_clock_of_32_bits_that_begins_anew_goes_on():
    words = np.array([[0, 2**32 - 3], [0, 5]], ">u4").tobytes()
    events = _cifar10dvs.decode_aedat(b"#!AER-DAT2.0\r\n" + words, "a.aedat")
    assert events.times.tolist() == [2**32 - 3, 2**32 + 5]
    words = np.array([[0, 90_000], [0, 5]], ">u4").tobytes()
    with pytest.raises(DatasetError, match=r"event 1 .* of a\.aedat jumps back in time"):
        _cifar10dvs.decode_aedat(b"#!AER-DAT2.0\r\n" + words, "a.aedat")
