"""Files of images: where they lie, what is damaged, how they are parsed; CIFAR-10."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from shared import datasets
from shared.datasets import (
    DatasetError,
    DatasetMissingError,
    _files,
    _images,
)
from shared.tests.made import (
    CHECKOUT,
    REAL,
    Mirror,
    assert_says_what_to_do,
    assert_small_set,
    closed_port,
    flip,
    has_real,
    idx,
    listing,
    put,
    run_python,
    sha256,
)

pytestmark = pytest.mark.usefixtures("no_environment")


@pytest.mark.parametrize("variant", ["packed", "unpacked", "both", "mixed"])
def test_reads_packed_and_unpacked_files(
    variant: str,
    archive: _files.Archive,
    contents: dict[str, bytes],
    packed: dict[str, bytes],
    tmp_path: Path,
) -> None:
    some = dict(list(contents.items())[:2]) | dict(list(packed.items())[2:])
    files = {"packed": packed, "unpacked": contents, "both": contents | packed, "mixed": some}
    root = put(tmp_path, files[variant])
    before = listing(root)
    assert_small_set(datasets.load("mnist", root))
    assert listing(root) == before  # so a read-only folder serves


def test_a_root_without_write_permission_serves(
    archive: _files.Archive, packed: dict[str, bytes], tmp_path: Path
) -> None:
    root = put(tmp_path, packed)
    folders = [root / "MNIST" / "raw", root / "MNIST", root]
    for folder in folders:
        folder.chmod(0o555)
    try:
        assert_small_set(datasets.load("mnist", root))
    finally:
        for folder in folders:
            folder.chmod(0o755)


def test_root_is_argument_then_environment_then_checkout(
    archive: _files.Archive,
    packed: dict[str, bytes],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert datasets.data_root() == CHECKOUT / "datasets"
    monkeypatch.setenv("SNN_DATA", "")
    assert datasets.data_root() == CHECKOUT / "datasets"
    monkeypatch.setenv("SNN_DATA", str(put(tmp_path / "environment", packed)))
    assert_small_set(datasets.load("mnist"))
    with pytest.raises(DatasetMissingError, match="argument"):
        datasets.load("mnist", tmp_path / "argument")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert_small_set(datasets.load("mnist", "~/environment"))


def test_reading_needs_neither_torch_nor_a_network(
    archive: _files.Archive, packed: dict[str, bytes], tmp_path: Path
) -> None:
    put(tmp_path, packed)
    code = f"""
        import socket, sys
        sys.modules["torch"] = sys.modules["torchvision"] = None  # importing them now fails
        socket.create_connection = socket.getaddrinfo = None
        from dataclasses import replace
        from shared import datasets
        datasets.MNIST = replace(
            datasets.MNIST, files={dict(archive.files)}, unpacked={dict(archive.unpacked)}
        )
        print(datasets.load("mnist", {str(tmp_path)!r}).train.inputs.shape)
    """
    done = run_python(code)
    assert done.stdout.strip() == "(36, 1, 28, 28)", done.stderr


# --- damaged files --------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["train-images-idx3-ubyte", "t10k-labels-idx1-ubyte.gz"])
def test_a_flipped_byte_is_refused_by_name(
    name: str,
    archive: _files.Archive,
    contents: dict[str, bytes],
    packed: dict[str, bytes],
    tmp_path: Path,
) -> None:
    put(tmp_path, contents | packed)
    flip(tmp_path / "MNIST" / "raw" / name)
    with pytest.raises(DatasetError) as refusal:
        # Damaged is not missing: mnist5k must not step in and hide it.
        datasets.load("mnist", tmp_path, fallback=True)
    assert not isinstance(refusal.value, DatasetMissingError)
    message = str(refusal.value)
    assert message.startswith(str(tmp_path / "MNIST" / "raw" / name) + " is damaged")
    assert "put a good copy in its place" in message
    assert "\n" not in message


def test_a_file_is_checked_at_every_load(
    archive: _files.Archive, packed: dict[str, bytes], tmp_path: Path
) -> None:
    put(tmp_path, packed)
    assert_small_set(datasets.load("mnist", tmp_path))
    flip(tmp_path / "MNIST" / "raw" / "train-images-idx3-ubyte.gz")
    with pytest.raises(DatasetError, match=r"train-images-idx3-ubyte\.gz is damaged"):
        datasets.load("mnist", tmp_path)


def test_a_damaged_file_is_refused_even_if_others_are_missing(
    archive: _files.Archive,
    packed: dict[str, bytes],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    put(tmp_path, dict(list(packed.items())[:1]))
    flip(tmp_path / "MNIST" / "raw" / "train-images-idx3-ubyte.gz")
    downloadable = replace(archive, mirrors=(closed_port(),))
    monkeypatch.setattr(datasets, "MNIST", downloadable)
    message = r"train-images-idx3-ubyte\.gz is damaged .*: delete it, and it will be fetched again"
    with pytest.raises(DatasetError, match=message):
        datasets.load("mnist", tmp_path, fallback=True)


@pytest.mark.parametrize("damage", ["empty", "half"])
def test_a_file_cut_short_is_refused(
    damage: str, archive: _files.Archive, packed: dict[str, bytes], tmp_path: Path
) -> None:
    put(tmp_path, packed)
    path = tmp_path / "MNIST" / "raw" / "train-images-idx3-ubyte.gz"
    path.write_bytes(b"" if damage == "empty" else path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(DatasetError, match=r"train-images-idx3-ubyte\.gz is damaged"):
        datasets.load("mnist", tmp_path)


@pytest.mark.parametrize("damage", [lambda c: c[:-30], lambda c: b"no gzip", lambda c: b""])
def test_gzip_that_cannot_be_unpacked_is_refused(
    damage: Callable[[bytes], bytes],
    archive: _files.Archive,
    packed: dict[str, bytes],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    name = "train-images-idx3-ubyte.gz"
    packed[name] = damage(packed[name])
    # Its checksum is right, so that the unpacking itself is reached.
    files = {**archive.files, name: sha256(packed[name])}
    monkeypatch.setattr(datasets, "MNIST", replace(archive, files=files))
    put(tmp_path, packed)
    if packed[name]:
        with pytest.raises(DatasetError, match=r"images-idx3-ubyte\.gz is damaged .* unpacked"):
            datasets.load("mnist", tmp_path)
    else:  # nothing, packed, is nothing
        with pytest.raises(DatasetError, match="not an IDX file"):
            datasets.load("mnist", tmp_path)


def test_a_folder_in_a_files_place_is_refused(
    archive: _files.Archive, packed: dict[str, bytes], tmp_path: Path
) -> None:
    name = "train-labels-idx1-ubyte.gz"
    del packed[name]
    put(tmp_path, packed)
    (tmp_path / "MNIST" / "raw" / name).mkdir()
    with pytest.raises(DatasetError, match=rf"{name} cannot be read: Is a directory"):
        datasets.load("mnist", tmp_path)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\0\0\x08",
        b"\0\0\x08\x03\0\0",
        idx(np.zeros((2, 3))),
        b"\0\0\x0d\x03" + idx(np.zeros((2, 3, 4)))[4:],
        b"\x01" + idx(np.zeros((2, 3, 4)))[1:],
        idx(np.zeros((2, 3, 4)))[:-1],
        idx(np.zeros((2, 3, 4))) + b"\0",
        b"\0\0\x08\x03" + b"\xff" * 12 + b"\0" * 24,
    ],
)
def test_parse_idx_refuses_anything_else(content: bytes) -> None:
    with pytest.raises(DatasetError, match="some-file"):
        _images.parse_idx(content, "some-file", ndim=3)


def test_parse_idx_gives_a_writable_array() -> None:
    array = np.arange(24).reshape(2, 3, 4)
    parsed = _images.parse_idx(idx(array), "some-file", ndim=3)
    np.testing.assert_array_equal(parsed, array)
    assert parsed.flags.writeable


def test_unequal_numbers_of_images_and_labels_are_refused(
    contents: dict[str, bytes],
) -> None:
    contents["train-labels-idx1-ubyte"] = idx(np.zeros(39))
    with pytest.raises(DatasetError, match=r"40 images, but .* 39 labels"):
        _images._idx_split(contents, "train")


# --- CIFAR-10 -------------------------------------------------------------------------------

CIFAR_FILES = [*(f"data_batch_{number}.bin" for number in range(1, 6)), "test_batch.bin"]
CIFAR_FOLDER = "cifar-10-batches-bin"


def cifar_files() -> dict[str, bytes]:
    """Ten images a file; of image k of file f the planes are full of f, k and f + k."""
    files = {}
    for number, name in enumerate(CIFAR_FILES):
        records = [
            bytes([k]) + b"".join(bytes([plane]) * 1024 for plane in (number, k, number + k))
            for k in range(10)
        ]
        files[name] = b"".join(records)
    return files


def small_cifar(
    files: dict[str, bytes], monkeypatch: pytest.MonkeyPatch, bundle: str = ""
) -> _files.Archive:
    checksums = {name: sha256(content) for name, content in files.items()}
    small = replace(_images.CIFAR10, files=checksums, bundle=bundle)
    monkeypatch.setattr(_images, "CIFAR10", small)
    return small


def test_cifar10_reads_planes_and_labels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = cifar_files()
    small_cifar(files, monkeypatch)
    loaded = datasets.load("cifar10", put(tmp_path, files, CIFAR_FOLDER), validation=0)
    assert (loaded.name, loaded.n_classes) == ("cifar10", 10)
    assert loaded.train.inputs.shape == (50, 3, 32, 32)
    assert loaded.test.inputs.shape == (10, 3, 32, 32)
    assert loaded.train.inputs.dtype == np.uint8
    assert loaded.train.labels.dtype == np.int64
    k = np.arange(10)
    assert loaded.train.labels.tolist() == np.tile(k, 5).tolist()
    assert loaded.test.labels.tolist() == k.tolist()
    for number in range(5):
        images = loaded.train.inputs[10 * number : 10 * number + 10]
        for plane, value in enumerate((np.full(10, number), k, number + k)):
            assert (images[:, plane] == value[:, None, None]).all()
    assert loaded.test.inputs[3, :, 7, 9].tolist() == [5, 3, 8]
    assert loaded.train.inputs.flags.writeable


def test_official_cifar10() -> None:
    """Where the files are not below SNN_DATA, their loader must say so instead."""
    if not has_real(_images.CIFAR10):
        with pytest.raises(DatasetMissingError, match="CIFAR-10 was not found"):
            datasets.load("cifar10", REAL, download=False)
        return
    loaded = datasets.load("cifar10", REAL, download=False)
    assert [len(part) for part in (loaded.train, loaded.validation, loaded.test)] == [
        45_000,
        5_000,
        10_000,
    ]
    whole = datasets.load("cifar10", REAL, validation=0)
    assert np.bincount(whole.train.labels).tolist() == [5000] * 10
    assert np.bincount(whole.test.labels).tolist() == [1000] * 10
    assert whole.train.labels[:10].tolist() == [6, 9, 9, 4, 1, 1, 2, 7, 8, 3]
    means = whole.train.inputs.mean(axis=(0, 2, 3)) / 255  # the well-known 0.491, 0.482, 0.447
    np.testing.assert_allclose(means, [0.4914, 0.4822, 0.4465], atol=5e-5)


@pytest.mark.parametrize("content", [b"", bytes(3072), bytes(3073 * 2 + 1)])
def test_cifar10_refuses_other_lengths(
    content: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = {**cifar_files(), "data_batch_2.bin": content}
    small_cifar(files, monkeypatch)
    with pytest.raises(DatasetError, match=r"data_batch_2\.bin should hold records of 3073 bytes"):
        datasets.load("cifar10", put(tmp_path, files, CIFAR_FOLDER))


def tar_of(files: dict[str, bytes]) -> bytes:
    memory = io.BytesIO()
    with tarfile.open(fileobj=memory, mode="w:gz") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(f"{CIFAR_FOLDER}/{name}")
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return memory.getvalue()


@pytest.fixture
def bundle_mirror(tmp_path: Path) -> Iterator[Mirror]:
    content = tar_of({**cifar_files(), "readme.html": b"<html>"})
    serving = Mirror(put(tmp_path, {"cifar.tar.gz": content}, "mirror") / "mirror")
    yield serving
    serving.close()


def test_a_bundle_is_downloaded_once_and_only_what_is_missing_taken_out(
    bundle_mirror: Mirror, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = cifar_files()
    small_cifar(files, monkeypatch, f"{bundle_mirror.url}cifar.tar.gz")
    root = put(tmp_path / "root", {CIFAR_FILES[0]: files[CIFAR_FILES[0]]}, CIFAR_FOLDER)
    before = listing(root / CIFAR_FOLDER / CIFAR_FILES[0])
    loaded = datasets.load("cifar10", root, validation=0)
    assert len(loaded.train) == 50
    assert listing(root / CIFAR_FOLDER / CIFAR_FILES[0]) == before
    assert sorted(path.name for path in root.rglob("*")) == sorted([CIFAR_FOLDER, *CIFAR_FILES])
    assert set(bundle_mirror.requests) == {"cifar.tar.gz"}
    bundle_mirror.requests.clear()
    again = datasets.load("cifar10", root, validation=0)
    assert bundle_mirror.requests == []
    for part in ("train", "test"):
        np.testing.assert_array_equal(getattr(loaded, part).inputs, getattr(again, part).inputs)
        np.testing.assert_array_equal(getattr(loaded, part).labels, getattr(again, part).labels)


@pytest.mark.parametrize("missing", CIFAR_FILES)
def test_a_file_that_is_fetched_takes_its_own_place(
    bundle_mirror: Mirror, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, missing: str
) -> None:
    files = cifar_files()
    small_cifar(files, monkeypatch, f"{bundle_mirror.url}cifar.tar.gz")
    whole = datasets.load("cifar10", put(tmp_path / "whole", files, CIFAR_FOLDER), validation=0)
    there = {name: content for name, content in files.items() if name != missing}
    root = put(tmp_path / "root", there, CIFAR_FOLDER)
    loaded = datasets.load("cifar10", root, validation=0)
    np.testing.assert_array_equal(loaded.train.inputs, whole.train.inputs)
    np.testing.assert_array_equal(loaded.test.inputs, whole.test.inputs)


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda files: tar_of(files)[:-40], r"cifar\.tar\.gz \("),
        (lambda files: b"<html>", r"cifar\.tar\.gz \("),
        (lambda files: tar_of(dict(list(files.items())[:-1])), "its test_batch.bin does not have"),
        (lambda files: tar_of({**files, "test_batch.bin": b"x"}), "its test_batch.bin does not"),
    ],
)
def test_a_bundle_that_holds_something_else_is_refused(
    damage: Callable[[dict[str, bytes]], bytes],
    words: str,
    bundle_mirror: Mirror,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    files = cifar_files()
    small_cifar(files, monkeypatch, f"{bundle_mirror.url}cifar.tar.gz")
    (bundle_mirror.folder / "cifar.tar.gz").write_bytes(damage(files))
    with pytest.raises(DatasetMissingError, match=words) as refusal:
        datasets.load("cifar10", tmp_path / "root")
    assert_says_what_to_do(str(refusal.value), tmp_path / "root" / CIFAR_FOLDER, bundle_mirror.url)
    assert list((tmp_path / "root").rglob("*")) == []


def test_a_missing_cifar10_names_the_official_archive(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = f"{closed_port()}cifar-10-binary.tar.gz"
    small_cifar(cifar_files(), monkeypatch, url)
    with pytest.raises(DatasetMissingError, match="CIFAR-10 was not found") as refusal:
        datasets.load("cifar10", tmp_path)
    assert_says_what_to_do(str(refusal.value), tmp_path / CIFAR_FOLDER, url)
    with pytest.raises(DatasetMissingError, match="no download was asked for"):
        datasets.load("cifar10", tmp_path, download=False)
