"""Recordings of event cameras: decoding, frames, N-MNIST, DVS Gesture, CIFAR10-DVS."""

import hashlib
import io
import shutil
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest

from shared import datasets
from shared.datasets import (
    DatasetError,
    DatasetMissingError,
    Events,
    _cifar10dvs,
    _gesture,
    _nmnist,
)
from shared.tests.made import REAL, assert_one_sentence, digit, encoded

# -------------------------------------------------------------------------------------- decoding


def test_every_field_of_an_event_is_decoded():
    content = encoded((3, 5, 1, 0), (33, 0, 0, 70_001), (0, 33, 1, 0x7FFFFF))
    events = datasets.decode_events(content, 34, 34, "a.bin")
    assert events.x.tolist() == [3, 33, 0]
    assert events.y.tolist() == [5, 0, 33]
    assert events.polarity.tolist() == [1, 0, 1]
    assert events.times.tolist() == [0, 70_001, 0x7FFFFF]
    assert [column.dtype for column in events] == [np.int16, np.int16, np.uint8, np.int64]


def test_time_that_begins_anew_goes_on():
    events = datasets.decode_events(
        encoded((0, 0, 0, 8_388_000), (1, 0, 0, 100), (2, 0, 0, 8_388_500), (3, 0, 0, 7)), 4, 4, "a"
    )
    assert events.times.tolist() == [8_388_000, 8_388_708, 16_777_108, 16_777_223]


def test_events_that_tell_time_only_are_none():
    content = encoded((0, 0, 1, 5), (0, 240, 0, 0), (1, 0, 0, 7), (9, 240, 0, 1), (2, 0, 1, 8))
    events = datasets.decode_events(content, 34, 34, "a")
    assert events.x.tolist() == [0, 1, 2]
    assert events.times.tolist() == [5, 8192 + 7, 2 * 8192 + 8]


def test_events_come_in_order_of_time():
    events = datasets.decode_events(encoded((0, 0, 0, 9), (1, 0, 0, 4), (2, 0, 0, 9)), 4, 4, "a")
    assert events.times.tolist() == [4, 9, 9]
    assert events.x.tolist() == [1, 0, 2]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "digit.bin is no recording of events of 5 bytes (it has 0 bytes)"),
        (b"1234567", "(it has 7 bytes)"),
        (encoded((34, 0, 0, 1)), "outside of the camera's 34 x 34 pixels"),
        (encoded((0, 34, 0, 1)), "outside of the camera's 34 x 34 pixels"),
        (encoded((0, 240, 0, 1)), "digit.bin has no events"),
    ],
)
def test_a_broken_file_is_one_sentence(content, words):
    with pytest.raises(DatasetError) as refusal:
        datasets.decode_events(content, 34, 34, "digit.bin")
    assert_one_sentence(refusal, words)


# ---------------------------------------------------------------------------------------- frames


def made(*events):
    x, y, polarity, times = np.array(events).T
    return Events(x.astype(np.int16), y.astype(np.int16), polarity.astype(np.uint8), times)


def test_frames_share_the_time_of_a_recording_equally():
    events = made(
        (0, 0, 0, 1000), (1, 2, 1, 1099), (1, 2, 1, 1099), (2, 3, 0, 1100), (3, 3, 1, 1199)
    )
    frames = datasets.to_frames(events, 2, 4, 5)
    assert frames.shape == (2, 2, 4, 5)
    assert frames.dtype == np.uint8
    # polarity, frame, row, column
    assert np.argwhere(frames).tolist() == [[0, 0, 0, 0], [0, 1, 3, 2], [1, 0, 2, 1], [1, 1, 3, 3]]
    assert frames.max() == 1


def test_frames_are_made_smaller_and_given_a_border():
    frames = datasets.to_frames(made((127, 126, 1, 0), (3, 4, 0, 9)), 1, 128, 128, factor=4)
    assert frames.shape == (2, 1, 32, 32)
    assert np.argwhere(frames).tolist() == [[0, 0, 1, 0], [1, 0, 31, 31]]
    frames = datasets.to_frames(made((33, 2, 1, 0)), 3, 34, 34, border=1)
    assert frames.shape == (2, 3, 36, 36)
    assert np.argwhere(frames).tolist() == [[1, 0, 3, 34]]


def test_events_of_another_camera_make_no_frames():
    with pytest.raises(DatasetError) as refusal:
        datasets.to_frames(made((3, 0, 0, 0), (34, 0, 0, 0)), 2, 34, 34)
    assert_one_sentence(
        refusal,
        "event 1 (counted from 0) of these events lies at x 34, y 0, outside of the camera's 34 x "
        "34 pixels",
    )


# --------------------------------------------------------------------------------------- N-MNIST


def names(n_train, n_test):
    return [
        (f"{part}/{number % 10}/{number:05}.bin", number)
        for part, n in (("Train", n_train), ("Test", n_test))
        for number in range(n)
    ]


@pytest.fixture
def tree(tmp_path, monkeypatch):
    """The official folders with 40 and 20 recordings."""
    monkeypatch.setattr(_nmnist, "COUNTS", {"Train": 40, "Test": 20})
    for name, number in names(40, 20):
        path = tmp_path / "NMNIST" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(digit(number % 10, number))
    return tmp_path


def assert_is_nmnist(found, name, sizes):
    assert (found.name, found.height, found.width, found.n_classes) == (name, 34, 34, 10)
    parts = (found.train, found.validation, found.test)
    assert tuple(map(len, parts)) == sizes
    for part in parts:
        assert [int(events.x[0]) for events in part.recordings] == part.labels.tolist()
        assert part.labels.dtype == np.int64


def test_the_official_folders_are_read(tree):
    found = datasets.load_nmnist(tree)
    assert_is_nmnist(found, "nmnist", (36, 4, 20))
    seen = {
        (int(events.x[0]), int(events.y[0]))
        for part in (found.train, found.validation)
        for events in part.recordings
    }
    assert len(seen) == 30  # numbers from 30 on look like those 30 below
    assert len(set(found.train.first(12).labels.tolist())) > 5  # not sorted by class
    again = datasets.load_nmnist(tree)
    assert again.train.labels.tolist() == found.train.labels.tolist()
    assert len(datasets.load_nmnist(tree, validation=0.5).validation) == 20


def test_a_folder_that_lacks_recordings_is_one_sentence(tree):
    next((tree / "NMNIST" / "Test" / "3").iterdir()).unlink()
    with pytest.raises(DatasetError) as refusal:
        datasets.load_nmnist(tree)
    assert_one_sentence(refusal, "has 19 recordings in Test, not 20")


def test_a_broken_recording_is_named_when_it_is_read(tree):
    path = tree / "NMNIST" / "Train" / "0" / "00000.bin"
    path.write_bytes(b"abc")
    found = datasets.load_nmnist(tree)
    with pytest.raises(DatasetError) as refusal:
        list(found.train.recordings) + list(found.validation.recordings)
    assert_one_sentence(refusal, f"{path} is no recording")


def zipped(path, files):
    with zipfile.ZipFile(path, "w") as archive:
        for name, number in files:
            archive.writestr(name, digit(number % 10, number))
    return path


def test_the_official_archives_are_read_as_they_are(tree, monkeypatch):
    folder = tree / "NMNIST"
    shutil.rmtree(folder / "Train")
    shutil.rmtree(folder / "Test")
    files = names(40, 20)
    sums = {}
    for file, part in (("train.zip", "Train"), ("test.zip", "Test")):
        path = zipped(folder / file, [one for one in files if one[0].startswith(part)])
        sums[file] = hashlib.md5(path.read_bytes()).hexdigest()
    monkeypatch.setattr(_nmnist, "ZIPS", sums)
    assert_is_nmnist(datasets.load_nmnist(tree), "nmnist", (36, 4, 20))
    (folder / "test.zip").write_bytes(b"something else")
    with pytest.raises(DatasetError) as refusal:
        datasets.load_nmnist(tree)
    assert_one_sentence(refusal, "test.zip is damaged (its MD5 is")


def test_the_subset_is_read_and_checked(tmp_path, monkeypatch):
    with pytest.raises(DatasetMissingError) as refusal:
        datasets.load_nmnist(tmp_path)
    assert_one_sentence(refusal, "N-MNIST was not found")
    path = zipped(tmp_path / "nmnist_small.zip", [(f"NMNIST/{n}", k) for n, k in names(20, 10)])
    with pytest.raises(DatasetError) as refusal:
        datasets.load_nmnist(tmp_path)
    assert_one_sentence(refusal, "is damaged (its SHA-256 is")
    monkeypatch.setattr(_nmnist, "read_checked", lambda archive, path, published: path.read_bytes())
    assert_is_nmnist(datasets.load_nmnist(tmp_path), "nmnist_small", (18, 2, 10))
    path.write_bytes(b"no zip")
    with pytest.raises(DatasetError) as refusal:
        datasets.load_nmnist(tmp_path)
    assert_one_sentence(refusal, "is damaged (File is not a zip file)")


def test_the_subset_is_read_from_folders(tmp_path, monkeypatch):
    folder = tmp_path / "nmnist_small"
    lines = []
    for name, number in sorted(names(20, 10)):
        path, content = folder / name, digit(number % 10, number)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        lines.append(f"{hashlib.sha256(content).hexdigest()}  {name}\n")
    (folder / "list.txt").write_text("left by others")
    with pytest.raises(DatasetError) as refusal:
        datasets.load_nmnist(tmp_path)
    assert_one_sentence(refusal, "holds 30 recordings, which are not those that are wanted")
    digest = hashlib.sha256("".join(lines).encode()).hexdigest()
    monkeypatch.setattr(_nmnist, "SMALL_DIGEST", digest)
    assert_is_nmnist(datasets.load_nmnist(tmp_path), "nmnist_small", (18, 2, 10))


def test_the_real_subset_is_the_same_from_folders(tmp_path):
    if not (REAL / "nmnist_small.zip").is_file():
        with pytest.raises(DatasetMissingError):
            datasets.load_nmnist(tmp_path)
        return
    with zipfile.ZipFile(REAL / "nmnist_small.zip") as archive:
        archive.extractall(tmp_path)
    (tmp_path / "NMNIST").rename(tmp_path / "nmnist_small")
    found, packed = datasets.load_nmnist(tmp_path), datasets.load_nmnist(REAL)
    for part in ("train", "validation", "test"):
        ours, theirs = getattr(found, part), getattr(packed, part)
        assert np.array_equal(ours.labels, theirs.labels)
        for events, others in zip(ours.recordings, theirs.recordings, strict=True):
            assert all(np.array_equal(a, b) for a, b in zip(events, others, strict=True))


def test_the_real_subset():
    if not (REAL / "nmnist_small.zip").is_file():
        with pytest.raises(DatasetMissingError):
            datasets.load_nmnist(REAL)
        return
    found = datasets.load_nmnist(REAL)
    assert (found.name, len(found.train), len(found.validation)) == ("nmnist_small", 900, 100)
    assert np.bincount(found.test.labels).tolist() == [8, 14, 8, 11, 14, 7, 10, 15, 2, 11]
    for events in found.test.recordings:
        assert 1000 < len(events.x) < 8000
        assert 0 < events.polarity.mean() < 1
        assert (np.diff(events.times) >= 0).all()
        assert 290_000 < events.times[-1] < 340_000
        assert datasets.to_frames(events, 20, 34, 34).any((0, 2, 3)).all()


# ----------------------------------------------------------------------------------- DVS Gesture


def gesture_archive(path, n):
    """An archive in tonic's format: unstructured arrays of x, y, polarity and milliseconds."""
    with tarfile.open(path, "w:gz") as archive:
        for number in range(n):
            label = number % 11
            events = np.array([[label, 100, 1, 3], [127, number % 128, 0, 40]], np.float64)
            file = io.BytesIO()
            np.save(file, events)
            folder = path.name.removesuffix(".tar.gz")
            info = tarfile.TarInfo(f"{folder}/user{number // 11 + 1:02}_led/{label}.npy")
            info.size = file.tell()
            file.seek(0)
            archive.addfile(info, file)


def test_tonics_archives_are_unpacked_and_read(tmp_path, monkeypatch):
    from tonic.datasets import DVSGesture

    folder = tmp_path / "DVSGesture"
    folder.mkdir()
    for part, n in (("train", 121), ("test", 110)):
        path = folder / getattr(DVSGesture, f"{part}_filename")
        gesture_archive(path, n)
        monkeypatch.setattr(DVSGesture, f"{part}_md5", hashlib.md5(path.read_bytes()).hexdigest())
    monkeypatch.setattr(_gesture, "COUNTS", {"Train": 121, "Test": 110})
    found = datasets.load_dvs_gesture(tmp_path)
    assert (found.name, found.height, found.width, found.n_classes) == ("dvs_gesture", 128, 128, 11)
    assert tuple(map(len, (found.train, found.validation, found.test))) == (109, 12, 110)
    for part in (found.train, found.validation, found.test):
        assert [int(events.x[0]) for events in part.recordings] == part.labels.tolist()
    first = found.test.recordings[0]
    assert first.times.tolist() == [3000, 40_000]
    assert first.polarity.tolist() == [1, 0]
    assert datasets.to_frames(first, 20, 128, 128, factor=4).sum() == 2


def test_missing_gestures_are_one_sentence(tmp_path, monkeypatch):
    with pytest.raises(DatasetMissingError) as refusal:
        datasets.load_dvs_gesture(tmp_path, download=False)
    assert_one_sentence(refusal, "lacks ibmGestureTrain.tar.gz, ibmGestureTest.tar.gz")
    monkeypatch.setattr(_gesture, "probe", lambda urls: dict.fromkeys(urls, "no network"))
    with pytest.raises(DatasetMissingError) as refusal:
        datasets.load_dvs_gesture(tmp_path)
    assert_one_sentence(refusal, "cannot be reached (no network)")


def test_a_damaged_archive_of_gestures_is_one_sentence(tmp_path, monkeypatch):
    folder = tmp_path / "DVSGesture"
    folder.mkdir()
    for name in ("ibmGestureTrain.tar.gz", "ibmGestureTest.tar.gz"):
        (folder / name).write_bytes(b"half an archive")

    def download(self):
        raise RuntimeError("File not found or corrupted.")

    monkeypatch.setattr("tonic.datasets.DVSGesture.download", download)
    with pytest.raises(DatasetError) as refusal:
        datasets.load_dvs_gesture(tmp_path)
    assert_one_sentence(refusal, "tonic cannot read or unpack DVS Gesture")


def sample_folder(tmp_path, rows):
    folder = tmp_path / "dvs_gesture"
    folder.mkdir()
    lines = ["file,tonic_label_0to10,n_events"]
    for name, label, n in rows:
        (folder / name).write_bytes(encoded(*((k, 127, 1, 10 * k) for k in range(3))))
        lines.append(f"{name},{label},{n}")
    (folder / "labels.csv").write_text("\n".join(lines))


def test_sample_gestures_are_read_by_their_table(tmp_path):
    with pytest.raises(DatasetMissingError, match=r"labels\.csv is not there"):
        datasets.load_gesture_samples(tmp_path)
    sample_folder(tmp_path, [("a.bs2", 4, 3), ("b.bs2", 0, 2)])
    found = datasets.load_gesture_samples(tmp_path)
    assert found.labels.tolist() == [4, 0]
    assert found.recordings[0].y.tolist() == [127] * 3
    with pytest.raises(DatasetError) as refusal:
        found.recordings[1]
    assert_one_sentence(refusal, "b.bs2 has 3 events, not 2 as labels.csv says")
    (tmp_path / "dvs_gesture" / "labels.csv").write_text("nothing\n1")
    with pytest.raises(DatasetError, match="is no table of recordings"):
        datasets.load_gesture_samples(tmp_path)


def test_the_real_gestures():
    if not (REAL / "dvs_gesture").is_dir():
        with pytest.raises(DatasetMissingError):
            datasets.load_gesture_samples(REAL)
        return
    found = datasets.load_gesture_samples(REAL)
    assert found.labels.tolist() == list(range(10))
    for events in found.recordings:
        assert (np.diff(events.times) >= 0).all()
        assert 1_400_000 < events.times[-1] < 1_450_000
        assert 0.4 < events.polarity.mean() < 0.6
        frames = datasets.to_frames(events, 20, 128, 128, factor=4)
        assert frames.any((0, 2, 3)).all()
        assert 0.005 < frames.mean() < 0.5


# ----------------------------------------------------------------------------------- CIFAR10-DVS

HEADER = (
    b"#!AER-DAT2.0\r\n# This is a raw AE data file\r\n# Timestamps tick is 1 us\r\n"
    b"# created Thu Jan 01 00:00:00 1970\r\n"
)


def aedat(*events, header=HEADER):
    """Content of an AEDAT 2.0 file of events (x, y, polarity, time) of a camera of 128 x 128.

    The camera counts columns from the right and rows from below, and 1 means darker.
    """
    words = [
        word
        for x, y, polarity, time in events
        for word in ((127 - x) << 8 | (127 - y) << 1 | (1 - polarity), time)
    ]
    return header + np.array(words, ">u4").tobytes()


def moving(label, number):
    """A recording that tells its label and number."""
    return aedat((label, number, 1, 1000), (127, label, 0, 405_000), (0, 127, 1, 400_000))


def recordings(n):
    return [
        (name, label, number, f"{name}/cifar10_{name}_{number}.aedat")
        for label, name in enumerate(_cifar10dvs.ZIPS)
        for number in range(n)
    ]


@pytest.fixture
def moving_images(tmp_path, monkeypatch):
    """The official archives, unpacked, with 20 recordings a class."""
    monkeypatch.setattr(_cifar10dvs, "PER_CLASS", 20)
    for _, label, number, path in recordings(20):
        file = tmp_path / "CIFAR10DVS" / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(moving(label, number))
    return tmp_path


def assert_is_cifar10_dvs(found):
    assert (found.name, found.height, found.width, found.n_classes) == ("cifar10_dvs", 128, 128, 10)
    assert tuple(map(len, (found.train, found.validation, found.test))) == (162, 18, 20)
    for part, numbers in ((found.train, range(18)), (found.validation, range(18)),
                          (found.test, (18, 19))):  # fmt: skip
        first = [(int(events.x[0]), int(events.y[0])) for events in part.recordings]
        assert [label for label, _ in first] == part.labels.tolist()
        assert {number for _, number in first} <= set(numbers)
    assert np.bincount(found.test.labels).tolist() == [2] * 10  # the last tenth of each class


def test_moving_images_are_read_from_the_official_folders(moving_images):
    found = datasets.load_cifar10_dvs(moving_images)
    assert_is_cifar10_dvs(found)
    first = found.test.recordings[0]
    assert first.times.tolist() == [1000, 400_000, 405_000]
    assert first.polarity.tolist() == [1, 1, 0]
    assert first.x.tolist()[1:] == [0, 127]
    assert first.y.tolist()[1:] == [127, found.test.labels[0]]
    assert [column.dtype for column in first] == [np.int16, np.int16, np.uint8, np.int64]
    assert datasets.to_frames(first, 20, 128, 128).sum() == 3


def test_tonic_sees_the_same_events_in_such_a_file(moving_images):
    from tonic.io import get_aer_events_from_file, read_aedat_header_from_file

    path = moving_images / "CIFAR10DVS" / "dog" / "cifar10_dog_7.aedat"
    version, start, _ = read_aedat_header_from_file(str(path))
    raw = get_aer_events_from_file(str(path), version, start)
    events = _cifar10dvs.decode_aedat(path.read_bytes(), "dog")
    order = np.argsort(raw["timeStamp"], kind="stable")
    assert raw["timeStamp"][order].tolist() == events.times.tolist()
    address = raw["address"][order].astype(int)
    assert (127 - (address >> 8)).tolist() == events.x.tolist()
    assert (127 - (address >> 1 & 127)).tolist() == events.y.tolist()
    assert (1 - (address & 1)).tolist() == events.polarity.tolist()


def test_moving_images_are_read_from_the_official_archives(moving_images, monkeypatch):
    folder = moving_images / "CIFAR10DVS"
    sums = {}
    for name in _cifar10dvs.ZIPS:
        with zipfile.ZipFile(folder / f"{name}.zip", "w") as archive:
            archive.write(folder / name, name)
            for file in sorted((folder / name).iterdir()):
                archive.write(file, f"{name}/{file.name}")
        shutil.rmtree(folder / name)
        sums[name] = hashlib.md5((folder / f"{name}.zip").read_bytes()).hexdigest()
    with pytest.raises(DatasetError) as refusal:
        datasets.load_cifar10_dvs(moving_images)
    assert_one_sentence(refusal, "airplane.zip is damaged (its MD5 is")
    monkeypatch.setattr(_cifar10dvs, "ZIPS", sums)
    assert_is_cifar10_dvs(datasets.load_cifar10_dvs(moving_images))


def test_moving_images_are_read_where_tonic_has_them(moving_images, monkeypatch):
    for path in (moving_images / "CIFAR10DVS").rglob("*.aedat"):
        path.rename(path.with_suffix(".aedat4"))
    for name in _cifar10dvs.ZIPS:  # tonic's own archives, which it leaves there
        (moving_images / "CIFAR10DVS" / f"{name}.zip").write_bytes(b"another archive")

    def read(path):
        name = Path(path)
        label, number = [*_cifar10dvs.ZIPS].index(name.parent.name), int(name.stem.split("_")[-1])
        kinds = [("t", "u8"), ("x", "u2"), ("y", "u2"), ("on", "?")]
        return np.array([(9, 3, 4, False), (5, label, number, True)], kinds)

    monkeypatch.setattr("tonic.io.read_aedat4", read)
    found = datasets.load_cifar10_dvs(moving_images)
    assert_is_cifar10_dvs(found)
    first = found.test.recordings[0]
    assert first.times.tolist() == [5, 9]
    assert first.polarity.tolist() == [1, 0]

    def lacks(path):
        raise ModuleNotFoundError("No module named 'aedat'", name="aedat")

    monkeypatch.setattr("tonic.io.read_aedat4", lacks)
    with pytest.raises(DatasetMissingError) as refusal:
        found.test.recordings[0]
    assert_one_sentence(refusal, "with the package aedat only: install it")

    def broken(path):
        raise RuntimeError("not an AEDAT file")

    monkeypatch.setattr("tonic.io.read_aedat4", broken)
    with pytest.raises(DatasetError) as refusal:
        found.test.recordings[0]
    assert_one_sentence(refusal, "is damaged (not an AEDAT file)")


def test_moving_images_that_are_not_there_are_one_sentence(moving_images, tmp_path_factory):
    with pytest.raises(DatasetMissingError) as refusal:
        datasets.load_cifar10_dvs(tmp_path_factory.mktemp("empty"))
    assert_one_sentence(refusal, "CIFAR10-DVS was not found")
    (moving_images / "CIFAR10DVS" / "ship" / "cifar10_ship_3.aedat").unlink()
    with pytest.raises(DatasetError) as refusal:
        datasets.load_cifar10_dvs(moving_images)
    assert_one_sentence(refusal, "has 19 recordings of ship, not 20")


@pytest.mark.parametrize(
    "content",
    [
        b"",
        HEADER,
        b"#!AER-DAT2.0",
        HEADER + b"1234567",
        aedat((1, 1, 1, 1), header=b"#!AER-DAT3.1\n"),
        aedat((1, 1, 1, 1), header=b""),
    ],
)
def test_a_broken_recording_of_a_moving_image_is_one_sentence(moving_images, content):
    path = moving_images / "CIFAR10DVS" / "cat" / "cifar10_cat_19.aedat"
    path.write_bytes(content)
    found = datasets.load_cifar10_dvs(moving_images)
    with pytest.raises(DatasetError) as refusal:
        list(found.test.recordings)
    assert_one_sentence(refusal, f"{path} is no recording in the format AEDAT 2.0")
