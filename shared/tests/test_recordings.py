"""Recordings: halves of sets, files that others left, readers that fail, forks, symbolic links."""

import io
import multiprocessing
import os
import pickle
import shutil
import zipfile

import numpy as np
import pytest

from shared import datasets
from shared.datasets import (
    DatasetError,
    DatasetMissingError,
    Events,
    Recordings,
    _archives,
    _cifar10dvs,
    _files,
    _gesture,
    _nmnist,
    _speech,
)
from shared.tests.made import assert_one_sentence, digit, put_tree, zip_of

pytestmark = pytest.mark.usefixtures("no_environment")

NUMBERS = {"Train": 40, "Test": 20}
LEFT_BY_OTHERS = (".DS_Store", "._{}", ".ipynb_checkpoints/{}", "__MACOSX/._{}", "__MACOSX/{}")


def digits(part):
    return {
        f"{part}/{number % 10}/{number:05}.bin": digit(number % 10, number)
        for number in range(NUMBERS[part])
    }


@pytest.fixture
def nmnist(tmp_path, monkeypatch):
    """The official folders of N-MNIST with 40 and 20 recordings."""
    monkeypatch.setattr(_nmnist, "COUNTS", NUMBERS)
    return put_tree(tmp_path, digits("Train") | digits("Test"), "NMNIST")


def gesture_files(part):
    """The first trial lacks its last gesture."""
    files = {}
    for number in range(_gesture.COUNTS[part]):
        memory = io.BytesIO()
        np.save(memory, np.array([[number % 11, 100, 1, 3], [127, 5, 0, 40]], np.float64))
        files[f"user{number // 11 + 1:02}_led/{number % 11}.npy"] = memory.getvalue()
    return files


@pytest.fixture
def gestures(tmp_path, monkeypatch):
    """The folders of DVS Gesture that tonic leaves, with 32 and 11 recordings."""
    monkeypatch.setattr(_gesture, "COUNTS", {"Train": 32, "Test": 11})
    for part in ("Train", "Test"):
        put_tree(tmp_path, gesture_files(part), f"DVSGesture/ibmGesture{part}")
    return tmp_path


@pytest.fixture
def moving_images(tmp_path, monkeypatch):
    """The folders of CIFAR10-DVS with 10 recordings of each class."""
    monkeypatch.setattr(_cifar10dvs, "PER_CLASS", 10)
    content = b"#!AER-DAT2.0\r\n" + np.array([[0, 5], [2, 9]], ">u4").tobytes()
    files = {f"{c}/cifar10_{c}_{k}.aedat": content for c in _cifar10dvs.ZIPS for k in range(10)}
    return put_tree(tmp_path, files, "CIFAR10DVS")


SETS = {
    "nmnist": (datasets.load_nmnist, "NMNIST/Train/3", "00003.bin"),
    "gestures": (datasets.load_dvs_gesture, "DVSGesture/ibmGestureTrain/user02_led", "3.npy"),
    "moving_images": (datasets.load_cifar10_dvs, "CIFAR10DVS/cat", "cifar10_cat_3.aedat"),
}


def all_recordings(found):
    parts = (found.train, found.validation, found.test)
    return [events for part in parts for events in part.recordings]


# ---------------------------------------------------------------------------- halves and left files


def test_gestures_are_read_where_tonic_unpacked_them(gestures):
    found = datasets.load_dvs_gesture(gestures)  # without archives, and without tonic
    assert tuple(map(len, (found.train, found.validation, found.test))) == (29, 3, 11)
    for part in (found.train, found.validation, found.test):
        assert [int(events.x[0]) for events in part.recordings] == part.labels.tolist()


@pytest.mark.parametrize("name", SETS)
def test_half_of_a_set_is_refused(name, request):
    root = request.getfixturevalue(name)
    load, folder, _ = SETS[name]
    for file in sorted((root / folder).iterdir())[::2]:
        file.unlink()
    with pytest.raises(DatasetError, match=r"has \d+ recordings\b.* not \d+") as refusal:
        load(root)
    assert not isinstance(refusal.value, DatasetMissingError)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("name", SETS)
def test_a_recording_too_many_is_refused(name, request):
    root = request.getfixturevalue(name)
    load, folder, file = SETS[name]
    more = {"nmnist": "99999.bin", "gestures": "11.npy", "moving_images": "cifar10_cat_99.aedat"}
    shutil.copy(root / folder / file, root / folder / more[name])
    with pytest.raises(DatasetError, match=r"has \d+ recordings\b.* not \d+"):
        load(root)


@pytest.mark.parametrize("name", SETS)
def test_files_that_others_left_are_passed_over(name, request):
    root = request.getfixturevalue(name)
    load, folder, file = SETS[name]
    before = all_recordings(load(root))
    for pattern in LEFT_BY_OTHERS:
        put_tree(root / folder, {pattern.format(file): b"left by others"})
        put_tree(root, {pattern.format("x"): b""}, folder.partition("/")[0])
    after = all_recordings(load(root))
    assert len(after) == len(before)
    for events, other in zip(after, before, strict=True):
        assert all(np.array_equal(a, b) for a, b in zip(events, other, strict=True))


def test_a_folder_of_left_files_alone_is_no_set(tmp_path):
    put_tree(tmp_path, {"cat/._cifar10_cat_3.aedat": b""}, "CIFAR10DVS")
    with pytest.raises(DatasetMissingError, match="CIFAR10-DVS was not found"):
        datasets.load_cifar10_dvs(tmp_path)


def test_one_archive_of_two_is_refused_and_nothing_stands_in(tmp_path):
    for part, lacking in (("train", "test"), ("test", "train")):
        root = put_tree(tmp_path / part, {f"{part}.zip": b""}, "NMNIST")
        put_tree(root, {"nmnist_small.zip": b"would stand in"})
        with pytest.raises(DatasetError) as refusal:
            datasets.load_nmnist(root)
        words = "is damaged" if part == "train" else f"lacks {lacking}.zip, and the other archive"
        assert_one_sentence(refusal, words)


def test_the_small_set_is_said_to_stand_in(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(_nmnist, "COUNTS", NUMBERS)
    (tmp_path / "nmnist_small.zip").write_bytes(zip_of(digits("Train") | digits("Test")))
    monkeypatch.setattr(_nmnist, "read_checked", lambda archive, path, published: path.read_bytes())
    assert datasets.load_nmnist(tmp_path).name == "nmnist_small"
    assert capsys.readouterr().out.startswith("STAND-IN for N-MNIST: ")
    put_tree(tmp_path, digits("Train") | digits("Test"), "NMNIST")
    assert datasets.load_nmnist(tmp_path).name == "nmnist"
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("label", ["11", "-1", "1.5", ""])
def test_a_gesture_that_is_none_is_refused(label, tmp_path):
    table = f"file,tonic_label_0to10,n_events\na.bs2,3,1\nb.bs2,{label},1\n"
    put_tree(tmp_path, {"labels.csv": table.encode()}, "dvs_gesture")
    with pytest.raises(DatasetError, match=r"sample 1 .* of .*labels.csv has the label"):
        datasets.load_gesture_samples(tmp_path)


@pytest.mark.parametrize(
    ("array", "words"),
    [
        (np.zeros((3, 3)), r"an array \(3, 3\) instead of \(events, 4\)"),
        (np.array([[0, 0, 1, 5], [128, 0, 1, 6]], float), "event 1 .* lies at x 128, y 0"),
        (np.array([[0, 0, 1, 50], [1, 0, 1, 6]], float), "event 1 .* jumps back in time"),
        (np.array([None]), "is damaged"),
        (b"no array", "is damaged"),
    ],
)
def test_a_gesture_that_cannot_be_is_named(array, words, gestures):
    for path in (gestures / "DVSGesture" / "ibmGestureTest").rglob("*.npy"):
        if isinstance(array, bytes):
            path.write_bytes(array)
        else:
            np.save(path, array, allow_pickle=True)
    with pytest.raises(DatasetError, match=words) as refusal:
        datasets.load_dvs_gesture(gestures).test.recordings[0]
    assert "ibmGestureTest" in str(refusal.value)


def test_milliseconds_of_a_narrow_type_become_microseconds(gestures):
    path = gestures / "DVSGesture" / "ibmGestureTest" / "user01_led" / "0.npy"
    for path in (gestures / "DVSGesture" / "ibmGestureTest").rglob("*.npy"):
        np.save(path, np.array([[0, 0, 1, 0], [1, 0, 1, 30_000]], np.int16))
    events = datasets.load_dvs_gesture(gestures).test.recordings[0]
    assert events.times.tolist() == [0, 30_000_000]


# ------------------------------------------------------------------------------- readers that fail


def failing(item):
    if item == 3:
        raise IndexError("list index out of range")
    return item


def test_a_reader_that_fails_does_not_end_the_sequence():
    recordings = Recordings(range(6), failing)
    with pytest.raises(DatasetError, match=r"3 is damaged \(list index out of range\)"):
        list(recordings)
    with pytest.raises(DatasetError, match="3 is damaged"):
        recordings[3]
    with pytest.raises(IndexError):
        recordings[6]
    assert list(recordings[:3]) == [0, 1, 2]
    assert list(recordings.chosen([5, 0])) == [5, 0]


# ----------------------------------------------------------------------------------- forked readers


@pytest.fixture
def zipped(tmp_path, monkeypatch):
    """N-MNIST's official archives, whose checksums pass."""
    monkeypatch.setattr(_nmnist, "COUNTS", NUMBERS)
    monkeypatch.setattr(_nmnist, "check_md5", lambda path, published: None)
    archives = {f"{part.lower()}.zip": zip_of(digits(part)) for part in NUMBERS}
    return put_tree(tmp_path, archives, "NMNIST")


def read_often(recordings, wanted, found):
    """In a process of its own: how often a recording was another one."""
    wrong = 0
    for _ in range(30):
        for index, x in enumerate(wanted):
            try:
                wrong += int(recordings[index].x[0]) != x
            except (DatasetError, zipfile.BadZipFile):
                wrong += 1
    found.put(wrong)


@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")  # of threads, from 3.12 on
@pytest.mark.filterwarnings("ignore:os.fork")  # JAX warns where a test before has loaded it
def test_forked_processes_do_not_disturb_each_other(zipped):
    part = datasets.load_nmnist(zipped).train
    part.recordings[0]  # the parent has read before it forks
    wanted = part.labels.tolist()
    fork = multiprocessing.get_context("fork")
    found = fork.SimpleQueue()
    workers = [fork.Process(target=read_often, args=(part.recordings, wanted, found)) for _ in "ab"]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
        assert worker.exitcode == 0
    assert [found.get() for _ in workers] == [0, 0]


def test_each_process_has_handles_of_its_own(zipped, monkeypatch):
    source = _archives.Zips([zipped / "NMNIST" / "train.zip"], ["train.zip"])
    before = source.archives()
    assert source.archives() is before
    monkeypatch.setattr(os, "getpid", lambda: -2)  # as in a child
    assert source.archives() is not before
    assert source.archives()[0].fp is not before[0].fp


@pytest.mark.parametrize("name", [*SETS, "zipped"])
def test_recordings_can_be_sent_to_another_process(name, request):
    root = request.getfixturevalue(name)
    load = SETS[name][0] if name in SETS else datasets.load_nmnist
    part = load(root).train
    sent = pickle.loads(pickle.dumps(part.recordings))
    for events, other in zip(sent, part.recordings, strict=True):
        assert isinstance(events, Events)
        assert all(np.array_equal(a, b) for a, b in zip(events, other, strict=True))


def test_a_damaged_file_of_an_archive_is_named(zipped):
    path = zipped / "NMNIST" / "test.zip"
    content = bytearray(path.read_bytes())
    with zipfile.ZipFile(path) as archive:
        info = archive.getinfo("Test/0/00000.bin")
    content[info.header_offset + 30 + len(info.filename) + 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(DatasetError) as refusal:
        all_recordings(datasets.load_nmnist(zipped))
    assert_one_sentence(refusal, f"{path}/Test/0/00000.bin cannot be unpacked (Bad CRC-32")


# ----------------------------------------------------------------------------------- symbolic links


@pytest.mark.parametrize("name", SETS)
@pytest.mark.parametrize("level", ["set", "folder", "file"])
def test_symbolic_links_are_followed(name, level, request, tmp_path_factory):
    root = request.getfixturevalue(name)
    load, folder, file = SETS[name]
    before = all_recordings(load(root))
    path = {"set": root / folder.partition("/")[0], "folder": root / folder}.get(
        level, root / folder / file
    )
    elsewhere = tmp_path_factory.mktemp("elsewhere") / "name"
    shutil.move(path, elsewhere)
    path.symlink_to(elsewhere)
    after = all_recordings(load(root))
    assert len(after) == len(before)
    for events, other in zip(after, before, strict=True):
        assert all(np.array_equal(a, b) for a, b in zip(events, other, strict=True))


@pytest.mark.parametrize("name", SETS)
def test_a_link_that_leads_nowhere_is_named(name, request):
    root = request.getfixturevalue(name)
    load, folder, _ = SETS[name]
    path = root / folder.partition("/")[0]
    shutil.rmtree(path)
    path.symlink_to(root / "unmounted")
    with pytest.raises(DatasetError, match=r"is a symbolic link to .*unmounted, which is not"):
        load(root)


def test_links_in_a_circle_end(tmp_path):
    put_tree(tmp_path, {"a/b/one": b"", "c/two": b""})
    (tmp_path / "a" / "b" / "up").symlink_to(tmp_path)
    (tmp_path / "c" / "self").symlink_to(tmp_path / "c")
    names = _files.names_below(tmp_path)
    assert [name for name in names if name.endswith(("one", "two"))] == ["a/b/one", "c/two"]


def test_a_folder_that_is_a_circle_of_links_is_named(tmp_path):
    (tmp_path / "NMNIST").symlink_to(tmp_path / "NMNIST")
    with pytest.raises(DatasetError, match="cannot be looked at: Too many levels of symbolic"):
        datasets.load_nmnist(tmp_path)


def test_nothing_stands_in_for_a_set_behind_a_link_that_leads_nowhere(tmp_path, capsys):
    (tmp_path / "MNIST").symlink_to(tmp_path / "unmounted")
    with pytest.raises(DatasetError, match="is a symbolic link to") as refusal:
        datasets.load("mnist", tmp_path, fallback=True)
    assert not isinstance(refusal.value, DatasetMissingError)
    (tmp_path / "tidigits").symlink_to(tmp_path / "unmounted")
    with pytest.raises(DatasetError, match="is a symbolic link to") as refusal:
        datasets.load_tidigits_or_fsdd(tmp_path)
    assert not isinstance(refusal.value, DatasetMissingError)
    assert capsys.readouterr().out == ""


def test_nothing_stands_in_for_a_set_that_may_not_be_looked_at(tmp_path, monkeypatch):
    """As where permissions forbid it, which do not bind the superuser that may run this test."""
    before = _files.Path.stat

    def refuse(self, **options):
        if "MNIST" in self.parts:
            raise PermissionError(13, "Permission denied", str(self))
        return before(self, **options)

    monkeypatch.setattr(_files.Path, "stat", refuse)
    with pytest.raises(DatasetError, match="cannot be looked at: Permission denied") as refusal:
        datasets.load("mnist", tmp_path, fallback=True)
    assert not isinstance(refusal.value, DatasetMissingError)


def test_speakers_behind_links_are_read(tmp_path, tmp_path_factory, capsys):
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    speech = np.random.default_rng(0).integers(-9999, 9999, 2000).astype(np.int16)
    memory = io.BytesIO()
    _write_wav(memory, speech)
    put_tree(elsewhere, {"ae/1a.wav": memory.getvalue(), "ae/2a.wav": memory.getvalue()})
    (tmp_path / "tidigits").mkdir()
    (tmp_path / "tidigits" / "ae").symlink_to(elsewhere / "ae")
    left = {pattern.format("1a.wav"): b"left" for pattern in LEFT_BY_OTHERS}
    put_tree(tmp_path, left, "tidigits")
    found = datasets.load_tidigits_or_fsdd(tmp_path)
    assert (found.name, found.speakers) == ("tidigits", ("ae", "ae"))
    assert capsys.readouterr().out == ""


def test_free_digits_stand_in_aloud_but_not_for_files_of_other_names(tmp_path, monkeypatch, capsys):
    free = _speech.Speech("fsdd", (), np.zeros(0, np.int64), (), 8000)
    monkeypatch.setattr(_speech, "load_fsdd", lambda root: free)
    assert datasets.load_tidigits_or_fsdd(tmp_path) is free
    assert capsys.readouterr().out.startswith("STAND-IN for TIDigits: TIDigits was not found")
    put_tree(tmp_path, {"tidigits/ae/one.wav": b"your copy, named in another way"})
    with pytest.raises(DatasetMissingError, match=r"has no files like SPEAKER/1a\.wav"):
        datasets.load_tidigits_or_fsdd(tmp_path)
    assert capsys.readouterr().out == ""


def _write_wav(file, samples):
    from scipy.io import wavfile

    wavfile.write(file, 20_000, samples)
