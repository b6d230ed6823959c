"""Tests of shared.datasets.

Nothing here needs the network: a server on this machine stands in for the mirrors. Tests of real
files use those below SNN_DATA (or ../shared/data beside the checkout); where there are none, the
same tests run on generated files.
"""

from __future__ import annotations

import functools
import gzip
import hashlib
import http.server
import io
import os
import pickle
import socket
import subprocess
import sys
import tarfile
import textwrap
import threading
import time
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import scipy.io

from shared import datasets
from shared.datasets import (
    DatasetError,
    DatasetFallbackWarning,
    DatasetMissingError,
    _files,
    _images,
    _omniglot,
    _spikes,
    _tables,
)

CHECKOUT = Path(__file__).resolve().parents[2]
REAL = Path(os.environ.get("SNN_DATA") or CHECKOUT.parent / "shared" / "data")
PARTS = {"train": 40, "t10k": 20}


def has_real(archive: _files.Archive) -> bool:
    folder = REAL / archive.folder
    return all(
        any((folder / file).is_file() for file in archive.variants(name)) for name in archive.files
    )


@pytest.fixture(autouse=True)
def _no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SNN_DATA", raising=False)
    # A proxy must not come between these tests and the server on this machine.
    for variable in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(variable, raising=False)


# --- generated files ------------------------------------------------------------------------


def idx(array: np.ndarray) -> bytes:
    header = bytes([0, 0, 8, array.ndim]) + np.array(array.shape, ">u4").tobytes()
    return header + array.astype(np.uint8).tobytes()


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


@pytest.fixture
def contents() -> dict[str, bytes]:
    """A small set in MNIST's layout: the image of label k is full of k."""
    files = {}
    for part, n in PARTS.items():
        labels = np.arange(n) % 10
        images = np.broadcast_to(labels[:, None, None], (n, 28, 28))
        files[f"{part}-images-idx3-ubyte"] = idx(images)
        files[f"{part}-labels-idx1-ubyte"] = idx(labels)
    return files


@pytest.fixture
def packed(contents: dict[str, bytes]) -> dict[str, bytes]:
    return {f"{name}.gz": gzip.compress(content, mtime=0) for name, content in contents.items()}


@pytest.fixture
def archive(
    contents: dict[str, bytes], packed: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> _files.Archive:
    """Puts the small set in MNIST's place, without a mirror."""
    small = replace(
        _images.MNIST,
        files={name: sha256(content) for name, content in packed.items()},
        unpacked={name: sha256(content) for name, content in contents.items()},
        mirrors=(),
    )
    monkeypatch.setattr(datasets, "MNIST", small)
    return small


def put(root: Path, files: dict[str, bytes], folder: str = "MNIST/raw") -> Path:
    (root / folder).mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (root / folder / name).write_bytes(content)
    return root


def listing(root: Path) -> dict[str, tuple[int, int]]:
    return {
        str(path): (path.stat().st_mtime_ns, path.stat().st_size)
        for path in [root, *root.rglob("*")]
    }


def flip(path: Path, position: int = -20) -> None:
    content = bytearray(path.read_bytes())
    content[position] ^= 1
    path.write_bytes(content)


def assert_small_set(loaded: datasets.Dataset) -> None:
    assert loaded.name == "mnist"
    assert loaded.n_classes == 10
    assert [len(loaded.train), len(loaded.validation), len(loaded.test)] == [36, 4, 20]
    for part in (loaded.train, loaded.validation, loaded.test):
        assert part.inputs.shape == (len(part), 1, 28, 28)
        assert part.inputs.dtype == np.uint8
        assert part.labels.dtype == np.int64
        assert (part.inputs == part.labels[:, None, None, None]).all()


# --- where a set lies -----------------------------------------------------------------------


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


def run_python(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        env={**os.environ, "PYTHONPATH": str(CHECKOUT)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


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


# --- downloads ------------------------------------------------------------------------------


class Mirror:
    """A mirror on this machine; ``cut`` names a file of which it sends one half."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.requests: list[str] = []
        self.cut = ""
        self.then_wait = threading.Event()
        self.then_wait.set()
        mirror = self

        class Handler(http.server.SimpleHTTPRequestHandler):
            def log_message(self, *arguments: object) -> None:
                pass

            def do_GET(self) -> None:
                name = self.path.rpartition("/")[2]
                mirror.requests.append(name)
                if name != mirror.cut:
                    super().do_GET()
                    return
                content = (mirror.folder / name).read_bytes()
                self.send_response(200)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content[: len(content) // 2])
                self.wfile.flush()
                mirror.then_wait.wait(60)

        handler = functools.partial(Handler, directory=str(folder))
        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_port}/"
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.05,))
        self.thread.start()

    def close(self) -> None:
        self.then_wait.set()
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()


@pytest.fixture
def mirror(
    archive: _files.Archive,
    packed: dict[str, bytes],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Mirror]:
    serving = Mirror(put(tmp_path, packed, "mirror") / "mirror")
    monkeypatch.setattr(datasets, "MNIST", replace(archive, mirrors=(serving.url,)))
    yield serving
    serving.close()


def closed_port() -> str:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{free.getsockname()[1]}/"


def test_a_missing_set_is_downloaded_once(mirror: Mirror, tmp_path: Path) -> None:
    root = tmp_path / "new" / "root"
    assert_small_set(datasets.load("mnist", root))
    assert set(mirror.requests) == {path.name for path in mirror.folder.iterdir()}
    assert [path.name for path in root.iterdir()] == ["MNIST"]  # no temporary folder is left
    mirror.requests.clear()
    assert_small_set(datasets.load("mnist", root))
    assert mirror.requests == []
    assert socket.getdefaulttimeout() is None


def test_only_missing_files_are_downloaded(
    mirror: Mirror, packed: dict[str, bytes], contents: dict[str, bytes], tmp_path: Path
) -> None:
    names = list(contents)
    root = put(
        tmp_path / "root",
        {names[0]: contents[names[0]], f"{names[1]}.gz": packed[f"{names[1]}.gz"]},
    )
    assert_small_set(datasets.load("mnist", root))
    assert set(mirror.requests) == {f"{name}.gz" for name in names[2:]}


def test_download_can_be_declined(mirror: Mirror, tmp_path: Path) -> None:
    with pytest.raises(DatasetMissingError, match="no download was asked for"):
        datasets.load("mnist", tmp_path / "root", download=False)
    assert mirror.requests == []
    assert not (tmp_path / "root").exists()


def test_a_dead_mirror_is_passed_over(
    mirror: Mirror, archive: _files.Archive, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mirrors = (closed_port(), mirror.url + "nothing/here/", mirror.url)
    monkeypatch.setattr(datasets, "MNIST", replace(archive, mirrors=mirrors))
    assert_small_set(datasets.load("mnist", tmp_path / "root"))


def test_a_mirror_that_sends_something_else_is_passed_over_then_refused(
    mirror: Mirror,
    archive: _files.Archive,
    packed: dict[str, bytes],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    bad = Mirror(put(tmp_path, dict.fromkeys(packed, b"<html>"), "bad") / "bad")
    try:
        both = replace(archive, mirrors=(bad.url, mirror.url))
        monkeypatch.setattr(datasets, "MNIST", both)
        assert_small_set(datasets.load("mnist", tmp_path / "root"))

        monkeypatch.setattr(datasets, "MNIST", replace(archive, mirrors=(bad.url,)))
        with pytest.raises(DatasetMissingError, match="does not have the published checksum"):
            datasets.load("mnist", tmp_path / "other")
        assert list((tmp_path / "other").rglob("*")) == []
    finally:
        bad.close()


def test_a_connection_that_breaks_off_leaves_nothing(mirror: Mirror, tmp_path: Path) -> None:
    mirror.cut = "t10k-images-idx3-ubyte.gz"
    root = tmp_path / "root"
    with pytest.raises(DatasetMissingError, match="t10k-images-idx3-ubyte"):
        datasets.load("mnist", root)
    assert list(root.rglob("*")) == []
    mirror.cut = ""
    assert_small_set(datasets.load("mnist", root))


def test_a_connection_that_goes_quiet_is_given_up(
    mirror: Mirror, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_files, "STALL_SECONDS", 0.5)
    mirror.cut = "train-images-idx3-ubyte.gz"
    mirror.then_wait.clear()
    with pytest.raises(DatasetMissingError, match="timed out"):
        datasets.load("mnist", tmp_path / "root")
    assert socket.getdefaulttimeout() is None


def test_a_killed_download_leaves_no_half_file(
    mirror: Mirror, archive: _files.Archive, tmp_path: Path
) -> None:
    mirror.cut = "t10k-images-idx3-ubyte.gz"
    mirror.then_wait.clear()
    root = tmp_path / "root"
    half_file = f".download-*/{mirror.cut}"
    code = f"""
        from dataclasses import replace
        from shared import datasets
        datasets.MNIST = replace(
            datasets.MNIST, files={dict(archive.files)}, mirrors=({mirror.url!r},)
        )
        datasets.load("mnist", {str(root)!r})
    """
    victim = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code)],
        env={**os.environ, "PYTHONPATH": str(CHECKOUT)},
        stderr=subprocess.DEVNULL,
    )
    try:
        deadline = time.monotonic() + 100
        while not list(root.glob(half_file)) and time.monotonic() < deadline:
            assert victim.poll() is None
            time.sleep(0.05)
    finally:
        victim.kill()
        victim.wait()
    assert len(list(root.glob(half_file))) == 1
    assert not (root / "MNIST").exists()
    mirror.then_wait.set()
    mirror.cut = ""
    assert_small_set(datasets.load("mnist", root))


def test_a_root_that_cannot_be_written_is_named(mirror: Mirror, tmp_path: Path) -> None:
    # A file in the folder's place stops root too, which permissions do not.
    (tmp_path / "root").write_text("")
    with pytest.raises(DatasetMissingError) as refusal:
        datasets.load("mnist", tmp_path / "root")
    message = str(refusal.value)
    assert str(tmp_path / "root" / "MNIST" / "raw") in message
    assert mirror.url in message
    assert "could not be stored" in message


def test_a_full_disk_is_named(
    mirror: Mirror, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*arguments: object, **options: object) -> str:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(_files.tempfile, "mkdtemp", full)
    with pytest.raises(DatasetMissingError, match="No space left on device"):
        datasets.load("mnist", tmp_path / "root")


# --- no network -----------------------------------------------------------------------------


def assert_sentence(message: str, looked_at: Path, tried: str) -> None:
    assert str(looked_at) in message
    assert tried in message
    assert "datasets/README.md" in message
    assert "--data-root or SNN_DATA" in message
    assert "\n" not in message


def test_names_that_are_never_looked_up_are_noticed_in_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    let_go = threading.Event()

    def silence(*arguments: object, **options: object) -> list[object]:
        let_go.wait(60)
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", silence)
    start = time.monotonic()
    # The official set with its own mirrors, and with the time limit that users get.
    with pytest.raises(DatasetMissingError) as refusal:
        datasets.load("fashion_mnist", tmp_path)
    assert time.monotonic() - start < 20
    let_go.set()
    message = str(refusal.value)
    assert_sentence(message, tmp_path / "FashionMNIST" / "raw", "fashion-mnist")
    assert "no answer within 5 s" in message
    assert list(tmp_path.iterdir()) == []


def test_packets_that_are_dropped_are_noticed_in_time(
    archive: _files.Archive, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_files, "PROBE_SECONDS", 0.5)
    # Connections are taken by the system, but nobody ever answers.
    with socket.create_server(("127.0.0.1", 0)) as mute:
        url = f"http://127.0.0.1:{mute.getsockname()[1]}/"
        monkeypatch.setattr(datasets, "MNIST", replace(archive, mirrors=(url,)))
        start = time.monotonic()
        with pytest.raises(DatasetMissingError) as refusal:
            datasets.load("mnist", tmp_path)
    assert time.monotonic() - start < 10
    assert_sentence(str(refusal.value), tmp_path / "MNIST" / "raw", url)


def test_a_refused_connection_is_named(
    archive: _files.Archive, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = closed_port()
    monkeypatch.setattr(datasets, "MNIST", replace(archive, mirrors=(url,)))
    with pytest.raises(DatasetMissingError, match="Connection refused") as refusal:
        datasets.load("mnist", tmp_path)
    assert_sentence(str(refusal.value), tmp_path / "MNIST" / "raw", url)


def test_without_torchvision_the_sentence_says_so(
    mirror: Mirror, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "torchvision.datasets.utils", None)
    with pytest.raises(DatasetMissingError, match="torchvision, which downloads it, cannot be"):
        datasets.load("mnist", tmp_path)


def test_torchvision_publishes_the_mirrors_and_checksums_that_are_used() -> None:
    from torchvision import datasets as published

    for archive, source in (
        (_images.MNIST, published.MNIST),
        (_images.FASHION_MNIST, published.FashionMNIST),
    ):
        assert set(archive.mirrors) <= set(source.mirrors)
        assert set(archive.files) == {name for name, _ in source.resources}
        readme = (CHECKOUT / "datasets" / "README.md").read_text(encoding="utf-8")
        for _, md5 in source.resources:
            assert md5 in readme
    characters = published.Omniglot
    assert set(_omniglot.OMNIGLOT.mirrors) == {f"{characters.download_url_prefix}/"}
    assert _omniglot.OMNIGLOT.files == {f"{k}.zip": v for k, v in characters.zips_md5.items()}
    assert all(md5 in readme for md5 in characters.zips_md5.values())


def test_fallback_is_loud_and_has_another_name(archive: _files.Archive, tmp_path: Path) -> None:
    with pytest.warns(DatasetFallbackWarning, match="GOING ON WITH mnist5k") as warned:
        loaded = datasets.load("mnist", tmp_path, fallback=True)
    assert loaded.name == "mnist5k"
    assert [len(loaded.train), len(loaded.validation), len(loaded.test)] == [3600, 400, 1000]
    assert len(warned) == 1
    assert warned[0].filename == __file__
    assert str(tmp_path / "MNIST" / "raw") in str(warned[0].message)


def test_fallback_is_for_mnist_alone(tmp_path: Path) -> None:
    with pytest.raises(DatasetMissingError, match="Fashion-MNIST was not found"):
        datasets.load("fashion_mnist", tmp_path, download=False, fallback=True)


def test_fallback_is_not_used_where_the_set_is_there(
    archive: _files.Archive, packed: dict[str, bytes], tmp_path: Path
) -> None:
    assert_small_set(datasets.load("mnist", put(tmp_path, packed), fallback=True))


# --- parts ----------------------------------------------------------------------------------


def test_validation_part_is_fixed_by_its_seed(
    archive: _files.Archive, packed: dict[str, bytes], tmp_path: Path
) -> None:
    put(tmp_path, packed)
    np.random.seed(1)  # noqa: NPY002 - the training seed must not matter
    first = datasets.load("mnist", tmp_path)
    np.random.seed(2)  # noqa: NPY002
    second = datasets.load("mnist", tmp_path)
    other = datasets.load("mnist", tmp_path, split_seed=1)
    np.testing.assert_array_equal(first.validation.inputs, second.validation.inputs)
    np.testing.assert_array_equal(first.train.labels, second.train.labels)
    assert not np.array_equal(first.validation.labels, other.validation.labels)
    np.testing.assert_array_equal(first.test.inputs, other.test.inputs)


@pytest.mark.parametrize(("share", "n"), [(0, 0), (0.1, 4), (0.25, 10), (0.5, 20)])
def test_train_and_validation_share_the_training_set(
    share: float, n: int, archive: _files.Archive, packed: dict[str, bytes], tmp_path: Path
) -> None:
    loaded = datasets.load("mnist", put(tmp_path, packed), validation=share)
    assert len(loaded.validation) == n
    assert loaded.validation.inputs.shape == (n, 1, 28, 28)
    together = np.concatenate([loaded.train.labels, loaded.validation.labels])
    np.testing.assert_array_equal(np.sort(together), np.sort(np.arange(40) % 10))
    if not n:
        np.testing.assert_array_equal(loaded.train.labels, np.arange(40) % 10)


def test_a_validation_part_of_everything_is_refused() -> None:
    with pytest.raises(DatasetError, match=r"0\.9999 leaves none of 1438 samples to train on"):
        datasets.load("digits", validation=0.9999)


@pytest.mark.parametrize("share", [-0.1, 1.0, 1.5, float("nan")])
def test_validation_share_out_of_range_is_refused(share: float) -> None:
    with pytest.raises(ValueError, match="validation must be in"):
        datasets.load("digits", validation=share)


@pytest.mark.parametrize(
    ("name", "size", "n_train", "n_test"), [("mnist5k", 28, 4000, 1000), ("digits", 8, 1438, 359)]
)
def test_packaged_digits(name: str, size: int, n_train: int, n_test: int) -> None:
    loaded = datasets.load(name, validation=0)
    assert loaded.name == name
    assert (len(loaded.train), len(loaded.validation), len(loaded.test)) == (n_train, 0, n_test)
    for part in (loaded.train, loaded.test):
        assert part.inputs.shape[1:] == (1, size, size)
        assert part.inputs.dtype == np.uint8
        assert (part.inputs.min(), part.inputs.max()) == (0, 255)
        assert part.labels.dtype == np.int64
    # Every class gives the same share to the test part, up to rounding.
    share = np.bincount(loaded.test.labels) / np.bincount(
        np.concatenate([loaded.train.labels, loaded.test.labels])
    )
    assert share.shape == (10,)
    np.testing.assert_allclose(share, 0.2, atol=0.004)
    with_validation = datasets.load(name, split_seed=3)
    np.testing.assert_array_equal(with_validation.test.inputs, loaded.test.inputs)
    assert len(with_validation.validation) == round(0.1 * n_train)


def test_packaged_digits_are_not_in_train_and_test_at_once() -> None:
    loaded = datasets.load("mnist5k")
    parts = [
        {image.tobytes() for image in part.inputs}
        for part in (loaded.train, loaded.validation, loaded.test)
    ]
    assert len(parts[0] | parts[1] | parts[2]) == 5000


def test_official_mnist_and_fashion_mnist(
    archive: _files.Archive,
    packed: dict[str, bytes],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(datasets, "FASHION_MNIST", replace(archive, folder="FashionMNIST/raw"))
    n_train, n_test = PARTS.values()
    root = put(put(tmp_path, packed), packed, "FashionMNIST/raw")
    if has_real(_images.MNIST) and has_real(_images.FASHION_MNIST):
        monkeypatch.setattr(datasets, "MNIST", _images.MNIST)
        monkeypatch.setattr(datasets, "FASHION_MNIST", _images.FASHION_MNIST)
        n_train, n_test, root = 60_000, 10_000, REAL
    before = listing(root)
    for name in ("mnist", "fashion_mnist"):
        loaded = datasets.load(name, root, download=False)
        assert loaded.name == name
        assert loaded.train.inputs.shape == (n_train * 9 // 10, 1, 28, 28)
        assert loaded.validation.inputs.shape == (n_train // 10, 1, 28, 28)
        assert loaded.test.inputs.shape == (n_test, 1, 28, 28)
        for part in (loaded.train, loaded.validation, loaded.test):
            assert set(np.unique(part.labels)) <= set(range(10))
        assert len(np.unique(loaded.test.labels)) == 10
    assert listing(root) == before
    if root == REAL:
        whole = datasets.load("mnist", root, validation=0)
        assert whole.train.labels[:10].tolist() == [5, 0, 4, 1, 9, 2, 1, 3, 1, 4]
        assert whole.test.labels[:10].tolist() == [7, 2, 1, 0, 4, 1, 4, 9, 5, 9]
        assert round(float(whole.train.inputs.mean()), 4) == 33.3184


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
    datasets.load("cifar10", root)
    assert bundle_mirror.requests == []


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
    assert_sentence(str(refusal.value), tmp_path / "root" / CIFAR_FOLDER, bundle_mirror.url)
    assert list((tmp_path / "root").rglob("*")) == []


def test_a_missing_cifar10_names_the_official_archive(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = f"{closed_port()}cifar-10-binary.tar.gz"
    small_cifar(cifar_files(), monkeypatch, url)
    with pytest.raises(DatasetMissingError, match="CIFAR-10 was not found") as refusal:
        datasets.load("cifar10", tmp_path)
    assert_sentence(str(refusal.value), tmp_path / CIFAR_FOLDER, url)
    with pytest.raises(DatasetMissingError, match="no download was asked for"):
        datasets.load("cifar10", tmp_path, download=False)


# --- Omniglot -------------------------------------------------------------------------------

# Few characters of two alphabets an archive; the first alphabet is not the first by name.
SMALL_ALPHABETS = {
    "images_background": {"Second": 1, "First_(old)": 2},
    "images_evaluation": {"Third": 1},
}
SMALL_NAMES = (
    "Second/character01",
    "First_(old)/character01",
    "First_(old)/character02",
    "Third/character01",
)


@pytest.fixture(scope="module")
def ink() -> np.ndarray:
    """Drawings of four characters, bool [4, 20, 105, 105]: real ones, where there are any."""
    path = REAL / "omniglot" / "images_evaluation.npz"
    if path.is_file():
        return ~np.load(path)["images"][[0, 100, 300, 658]]
    return np.random.default_rng(0).random((4, 20, 105, 105)) < 0.1


def png(ink: np.ndarray) -> bytes:
    """A drawing as the official files have it: one bit a pixel, ink black."""
    from PIL import Image

    memory = io.BytesIO()
    Image.fromarray(~ink).save(memory, "PNG")
    return memory.getvalue()


def drawings(ink: np.ndarray) -> dict[str, dict[str, bytes]]:
    """The files of each archive, by their official kind of name."""
    archives: dict[str, dict[str, bytes]] = {"images_background": {}, "images_evaluation": {}}
    for number, (character, drawn) in enumerate(zip(SMALL_NAMES, ink, strict=True), start=1):
        part = "images_evaluation" if character.startswith("Third") else "images_background"
        for k, drawing in enumerate(drawn, start=1):
            name = f"{part}/{character}/{number:04d}_{k:02d}.png"
            archives[part][name] = png(drawing)
    return archives


def zip_of(files: dict[str, bytes]) -> bytes:
    memory = io.BytesIO()
    with zipfile.ZipFile(memory, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
        archive.writestr("__MACOSX/images_background/._x.png", b"")
    return memory.getvalue()


@pytest.fixture
def omniglot(ink: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> dict[str, dict[str, bytes]]:
    """Puts the few characters in Omniglot's place: the files of every source, by its name."""
    trees = drawings(ink)
    zips = {f"{part}.zip": zip_of(files) for part, files in trees.items()}
    arrays = {}
    for part, rows in (("images_background", ~ink[:3]), ("images_evaluation", ~ink[3:])):
        memory = io.BytesIO()
        np.savez_compressed(memory, images=rows)
        arrays[f"{part}.npz"] = memory.getvalue()
    md5 = {name: hashlib.md5(content).hexdigest() for name, content in zips.items()}
    small = replace(_omniglot.OMNIGLOT, files=md5, mirrors=())
    monkeypatch.setattr(_omniglot, "ALPHABETS", SMALL_ALPHABETS)
    monkeypatch.setattr(_omniglot, "OMNIGLOT", small)
    monkeypatch.setattr(_omniglot, "ARRAYS", {k: sha256(v) for k, v in arrays.items()})
    tree = {name: content for files in trees.values() for name, content in files.items()}
    return {"tree": tree, "zip": zips, "npz": arrays}


def put_tree(root: Path, files: dict[str, bytes], folder: str) -> Path:
    for name, content in files.items():
        path = root / folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return root


def assert_few_characters(loaded: datasets.Omniglot, ink: np.ndarray) -> None:
    assert loaded.names == SMALL_NAMES
    assert loaded.images.dtype == np.uint8
    np.testing.assert_array_equal(loaded.images, ink)


@pytest.mark.parametrize("source", ["tree", "zip", "npz"])
@pytest.mark.parametrize(
    "folder", ["omniglot", "omniglot/python", "omniglot-py", "omniglot/omniglot-py"]
)
def test_omniglot_is_the_same_from_every_source(
    source: str,
    folder: str,
    omniglot: dict[str, dict[str, bytes]],
    ink: np.ndarray,
    tmp_path: Path,
) -> None:
    put_tree(tmp_path, omniglot[source], folder)
    before = listing(tmp_path)
    assert_few_characters(datasets.load_omniglot(tmp_path, download=False), ink)
    assert listing(tmp_path) == before


def test_omniglot_may_be_mixed_and_what_has_a_checksum_comes_first(
    omniglot: dict[str, dict[str, bytes]], ink: np.ndarray, tmp_path: Path
) -> None:
    put_tree(
        tmp_path, {"images_background.npz": omniglot["npz"]["images_background.npz"]}, "omniglot"
    )
    put_tree(
        tmp_path, {"images_evaluation.zip": omniglot["zip"]["images_evaluation.zip"]}, "omniglot-py"
    )
    # Half of an unpacked archive beside the whole one does no harm.
    put_tree(tmp_path, dict(list(omniglot["tree"].items())[:5]), "omniglot-py")
    assert_few_characters(datasets.load_omniglot(tmp_path), ink)


def test_omniglot_takes_no_notice_of_other_files_in_a_tree(
    omniglot: dict[str, dict[str, bytes]], ink: np.ndarray, tmp_path: Path
) -> None:
    first = next(iter(omniglot["tree"]))
    folder, _, name = first.rpartition("/")
    other = {f"{folder}/._{name}": b"", f"{folder}/Thumbs.db": b"", "images_background/x.png": b""}
    put_tree(tmp_path, {**omniglot["tree"], **other}, "omniglot")
    assert_few_characters(datasets.load_omniglot(tmp_path), ink)


def test_one_missing_archive_is_named(
    omniglot: dict[str, dict[str, bytes]], tmp_path: Path
) -> None:
    for source in ("zip", "npz"):
        name = f"images_background.{source}"
        put_tree(tmp_path / source, {name: omniglot[source][name]}, "omniglot")
        with pytest.raises(DatasetMissingError, match=r"lacks images_evaluation\.zip") as refusal:
            datasets.load_omniglot(tmp_path / source, download=False)
        looked_at = tmp_path / source / "omniglot"
        assert_sentence(str(refusal.value), looked_at, "no download was asked for")


def test_a_missing_omniglot_is_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = closed_port()
    monkeypatch.setattr(_omniglot, "OMNIGLOT", replace(_omniglot.OMNIGLOT, mirrors=(url,)))
    with pytest.raises(DatasetMissingError, match=r"Omniglot was not found.* has none") as refusal:
        datasets.load_omniglot(tmp_path)
    assert_sentence(str(refusal.value), tmp_path / "omniglot", f"{url}images_background.zip")


def test_a_missing_archive_of_omniglot_is_downloaded(
    omniglot: dict[str, dict[str, bytes]],
    ink: np.ndarray,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    serving = Mirror(put(tmp_path, omniglot["zip"], "mirror") / "mirror")
    try:
        downloadable = replace(_omniglot.OMNIGLOT, mirrors=(serving.url,))
        monkeypatch.setattr(_omniglot, "OMNIGLOT", downloadable)
        name = "images_background.npz"
        put_tree(tmp_path / "root", {name: omniglot["npz"][name]}, "omniglot")
        assert_few_characters(datasets.load_omniglot(tmp_path / "root"), ink)
        assert set(serving.requests) == {"images_evaluation.zip"}
        assert (tmp_path / "root" / "omniglot" / "images_evaluation.zip").is_file()
        assert_few_characters(datasets.load_omniglot(tmp_path / "whole"), ink)
    finally:
        serving.close()


@pytest.mark.parametrize("source", ["zip", "npz"])
def test_omniglot_refuses_a_flipped_byte(
    source: str, omniglot: dict[str, dict[str, bytes]], tmp_path: Path
) -> None:
    put_tree(tmp_path, omniglot[source], "omniglot")
    flip(tmp_path / "omniglot" / f"images_evaluation.{source}")
    kind = {"zip": "MD5", "npz": "SHA-256"}[source]
    message = rf"images_evaluation\.{source} is damaged \(its {kind} is"
    with pytest.raises(DatasetError, match=message) as refusal:
        datasets.load_omniglot(tmp_path)
    assert not isinstance(refusal.value, DatasetMissingError)


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (None, "has 19 drawings of First_.*/character02, not 20: put a complete copy"),
        (b"", "0003_07.png is no image: put a good copy in its place"),
        (png(np.zeros((28, 28), bool)), r"0003_07.png has \(28, 28\) pixels, not \(105, 105\)"),
    ],
)
def test_omniglot_refuses_a_damaged_drawing_of_a_tree(
    damage: bytes | None,
    words: str,
    omniglot: dict[str, dict[str, bytes]],
    tmp_path: Path,
) -> None:
    name = "images_background/First_(old)/character02/0003_07.png"
    put_tree(tmp_path, omniglot["tree"], "omniglot")
    path = tmp_path / "omniglot" / name
    if damage is None:
        path.unlink()
    else:
        path.write_bytes(damage)
    with pytest.raises(DatasetError, match=words) as refusal:
        datasets.load_omniglot(tmp_path)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize(
    ("name", "array", "words"),
    [
        ("images", np.zeros((3, 20, 28, 28), bool), r"holds bool \(3, 20, 28, 28\), not bool"),
        ("images", np.zeros((3, 20, 105, 105)), "holds float64"),
        ("image", np.zeros((3, 20, 105, 105), bool), "is not a file of NumPy arrays"),
    ],
)
def test_omniglot_refuses_other_arrays(
    name: str,
    array: np.ndarray,
    words: str,
    omniglot: dict[str, dict[str, bytes]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    memory = io.BytesIO()
    np.savez_compressed(memory, **{name: array})
    files = {**omniglot["npz"], "images_background.npz": memory.getvalue()}
    monkeypatch.setattr(_omniglot, "ARRAYS", {k: sha256(v) for k, v in files.items()})
    put_tree(tmp_path, files, "omniglot")
    with pytest.raises(DatasetError, match=words):
        datasets.load_omniglot(tmp_path)


def test_a_zip_that_is_none_is_refused_even_with_the_right_checksum(
    omniglot: dict[str, dict[str, bytes]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = {**omniglot["zip"], "images_background.zip": b"<html>"}
    md5 = {name: hashlib.md5(content).hexdigest() for name, content in files.items()}
    monkeypatch.setattr(_omniglot, "OMNIGLOT", replace(_omniglot.OMNIGLOT, files=md5))
    put_tree(tmp_path, files, "omniglot")
    with pytest.raises(DatasetError, match=r"images_background\.zip cannot be unpacked"):
        datasets.load_omniglot(tmp_path)


def test_the_table_of_alphabets_has_all_characters() -> None:
    counts = [sum(alphabets.values()) for alphabets in _omniglot.ALPHABETS.values()]
    assert counts == [964, 659]
    assert [len(alphabets) for alphabets in _omniglot.ALPHABETS.values()] == [30, 20]


def test_all_of_omniglot() -> None:
    """Where the files are not below SNN_DATA, their loader must say so instead."""
    if not (REAL / "omniglot" / "images_background.npz").is_file():
        with pytest.raises(DatasetMissingError, match="Omniglot was not found"):
            datasets.load_omniglot(REAL, download=False)
        return
    loaded = datasets.load_omniglot(REAL, download=False)
    assert loaded.images.shape == (1623, 20, 105, 105)
    assert loaded.images.dtype == np.uint8
    assert len(set(loaded.names)) == 1623
    assert loaded.names[0] == "Arcadian/character01"
    assert loaded.names[708] == "Alphabet_of_the_Magi/character01"  # published number 709
    assert loaded.names[964] == "Angelic/character01"
    assert loaded.names[-1] == "ULOG/character26"
    assert loaded.images.max() == 1
    share = loaded.images.mean(axis=(2, 3))  # of ink: dots or strokes on paper in every drawing
    assert share.min() > 0.002
    assert share.max() < 0.4


# --- tables ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "shape", "counts"),
    [
        ("iris", (150, 4), [50, 50, 50]),
        ("wine", (178, 13), [59, 71, 48]),
        ("breast_cancer", (569, 30), [212, 357]),
    ],
)
def test_tables(name: str, shape: tuple[int, int], counts: list[int]) -> None:
    table = datasets.load_table(name)
    assert table.name == name
    assert table.inputs.shape == shape
    assert table.inputs.dtype == np.float64
    assert table.labels.dtype == np.int64
    assert np.bincount(table.labels).tolist() == counts
    assert len(table.class_names) == len(counts)
    assert all(type(label) is str for label in table.class_names)


def test_folds_are_a_permutation_in_equal_parts() -> None:
    parts = datasets.folds(150, 5, seed=4)
    assert [(len(train), len(test)) for train, test in parts] == [(120, 30)] * 5
    assert sorted(np.concatenate([test for _, test in parts])) == list(range(150))
    for train, test in parts:
        assert sorted(np.concatenate([train, test])) == list(range(150))
        assert test.dtype == np.int64
    again, other = datasets.folds(150, 5, seed=4), datasets.folds(150, 5, seed=5)
    np.testing.assert_array_equal(parts[0][0], again[0][0])
    assert not np.array_equal(parts[0][1], other[0][1])
    assert [len(test) for _, test in datasets.folds(7, 3)] == [3, 2, 2]


@pytest.mark.parametrize("n_folds", [-1, 0, 1, 11])
def test_folds_out_of_range_are_refused(n_folds: int) -> None:
    with pytest.raises(ValueError, match="between 2 and 10"):
        datasets.folds(10, n_folds)


def test_unknown_names_list_the_known_ones() -> None:
    with pytest.raises(DatasetError, match="did you mean fashion_mnist: choose from") as refusal:
        datasets.load("Fashion-MNIST")
    for name in (*datasets.NAMES, *datasets.TABLE_NAMES, "spike_set"):
        assert name in str(refusal.value)
    with pytest.raises(DatasetError, match=r"no data set is called 'zzz': choose from"):
        datasets.load_table("zzz")


@pytest.mark.parametrize(
    ("function", "name", "right"),
    [
        (datasets.load, "iris", "load_table"),
        (datasets.load, "omniglot", "load_omniglot"),
        (datasets.load, "spike_set", "load_spike_set"),
        (datasets.load_table, "mnist", "load"),
    ],
)
def test_a_set_of_another_kind_is_pointed_to(
    function: Callable[[str], object], name: str, right: str
) -> None:
    with pytest.raises(DatasetError, match=rf"use {right}\."):
        function(name)


# --- Yin-Yang -------------------------------------------------------------------------------


def yin_yang_files(folder: Path) -> dict[str, bytes]:
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    for part, n in {"train": 50, "validation": 10, "test": 10}.items():
        samples = rng.random((n, 2))
        np.save(folder / f"{part}_samples.npy", np.hstack([samples, 1 - samples]))
        np.save(folder / f"{part}_labels.npy", np.arange(n) % 3)
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def put_yin_yang(files: dict[str, bytes], root: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    checksums = {name: sha256(content) for name, content in files.items()}
    small = replace(_tables.YIN_YANG, files=checksums, mirrors=())
    monkeypatch.setattr(_tables, "YIN_YANG", small)
    return put(root, files, small.folder)


def test_yin_yang_keeps_its_published_parts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    counts, root = [5000, 1000, 1000], REAL
    if not has_real(_tables.YIN_YANG):
        counts = [50, 10, 10]
        root = put_yin_yang(yin_yang_files(tmp_path / "made"), tmp_path / "root", monkeypatch)
    loaded = datasets.load("yin_yang", root, download=False, validation=0)
    parts = [loaded.train, loaded.validation, loaded.test]
    assert [len(part) for part in parts] == counts
    assert loaded.n_classes == 3
    for part in parts:
        assert part.inputs.shape == (len(part), 4)
        assert part.inputs.dtype == np.float64
        assert part.labels.dtype == np.int64
        assert np.unique(part.labels).tolist() == [0, 1, 2]
        np.testing.assert_allclose(part.inputs[:, :2] + part.inputs[:, 2:], 1, atol=1e-15)


def test_yin_yang_refuses_a_flipped_byte(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = put_yin_yang(yin_yang_files(tmp_path / "made"), tmp_path / "root", monkeypatch)
    flip(root / "yin_yang" / "publication_data" / "test_samples.npy")
    with pytest.raises(DatasetError, match=r"test_samples\.npy is damaged"):
        datasets.load("yin_yang", root)


class Exploit:
    """Would leave a trace if it were unpickled."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> tuple[object, tuple[str, str]]:
        return open, (str(self.trace), "w")


def test_nothing_is_unpickled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = yin_yang_files(tmp_path / "made")
    trace = tmp_path / "trace"
    with pytest.warns(ResourceWarning):
        pickle.loads(pickle.dumps(Exploit(trace)))
    assert trace.exists()  # it does leave one
    trace.unlink()
    np.save(tmp_path / "bad.npy", np.array([Exploit(trace)], object), allow_pickle=True)
    for content in ((tmp_path / "bad.npy").read_bytes(), pickle.dumps(Exploit(trace))):
        # Even if the checksum were right.
        bad = {**files, "train_labels.npy": content}
        with monkeypatch.context() as patch:
            root = put_yin_yang(bad, tmp_path / "root", patch)
            with pytest.raises(DatasetError, match=r"train_labels\.npy is not a plain NumPy array"):
                datasets.load("yin_yang", root)
        (tmp_path / "own.mat").write_bytes(content)
        with pytest.raises(DatasetError, match=r"own\.mat is not a MATLAB 5 file"):
            datasets.load_spike_set(tmp_path / "own.mat")
    assert not trace.exists()


@pytest.mark.parametrize(
    ("name", "array", "message"),
    [
        ("train_labels.npy", np.zeros(50), "holds float64 in 1 dimensions, not int64 in 1"),
        ("train_samples.npy", np.zeros(50), "holds float64 in 1 dimensions, not float64 in 2"),
        ("train_labels.npy", np.zeros(49, np.int64), "50 train samples, 49 labels"),
    ],
)
def test_yin_yang_refuses_other_arrays(
    name: str,
    array: np.ndarray,
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    files = yin_yang_files(tmp_path / "made")
    np.save(tmp_path / "other.npy", array)
    files[name] = (tmp_path / "other.npy").read_bytes()
    root = put_yin_yang(files, tmp_path / "root", monkeypatch)
    with pytest.raises(DatasetError, match=message):
        datasets.load("yin_yang", root)


# --- the Spike set --------------------------------------------------------------------------

N_SYNAPSES = 6
OFFSETS = {1: 0.007, 2: 0.008, 3: 3.535}  # those of the published features with these ids
REWARDS = {1: 5, 2: 0, 3: 0}


def cells(vectors: list[np.ndarray]) -> np.ndarray:
    """A 1 x n MATLAB cell; vectors of whole numbers as bytes, as MATLAB stores them."""
    row = np.empty((1, len(vectors)), object)
    for index, vector in enumerate(vectors):
        whole = (vector == vector.round()).all()
        row[0, index] = vector[None].astype(np.uint8 if whole else np.float64)
    return row


def made_features(rng: np.random.Generator) -> dict[int, list[np.ndarray]]:
    counts = {1: [2, 1, 0, 1, 3, 1], 2: [1, 1, 1, 2, 1, 1], 3: [1, 1, 1, 2, 1, 1]}
    # Unsorted, as in the file.
    return {key: [rng.uniform(0.01, 0.99, n) for n in row] for key, row in counts.items()}


def made_variables(n_trials: int = 4) -> dict[str, np.ndarray]:
    """A file of the Spike set: trial k has the features k + 1, k + 2, ... modulo three."""
    rng = np.random.default_rng(0)
    features = made_features(rng)
    data = np.empty((n_trials, 8), object)
    for trial in range(n_trials):
        ids = [(trial + step) % 3 + 1 for step in range(1 + trial % 3)]
        onsets = np.array([0.005 + 2.5 * step for step in range(len(ids))])
        placed = [
            np.concatenate(
                [features[key][s][::-1] + onset for key, onset in zip(ids, onsets, strict=True)]
            )
            for s in range(N_SYNAPSES)
        ]
        background = [rng.integers(0, 10_000, 4) / 1000 for _ in range(N_SYNAPSES)]
        background[trial % N_SYNAPSES] = np.array([0.0, 7.0, 3.0])  # whole numbers: bytes
        both = [np.concatenate(pair) for pair in zip(placed, background, strict=True)]
        if trial == 3:
            both[0] = np.array([9.0, 2.0])
        data[trial] = [
            cells(both),
            cells(background),
            cells(placed),
            onsets[None],
            np.array([[REWARDS[key] for key in ids]], np.uint8),
            np.array([[10]], np.uint8),
            np.array([[1]], np.uint8),
            np.array([[0.001]]),
        ]
    stored = np.empty((3, 3), object)
    for row, key in enumerate((2, 1, 3)):  # not in the order of their ids
        spikes = cells([vector + OFFSETS[key] for vector in features[key]])
        stored[row] = [spikes, np.array([[REWARDS[key]]]), np.array([[key]])]
    return {"data": data, "pattern_data": stored}


def save(path: Path, variables: dict[str, np.ndarray]) -> Path:
    scipy.io.savemat(path, variables)
    return path


def assert_sorted_spikes(times: np.ndarray, synapses: np.ndarray, n_synapses: int) -> None:
    assert times.dtype == np.float64
    assert synapses.dtype == np.int64
    assert times.shape == synapses.shape
    assert (np.diff(times) >= 0).all()
    ties = np.diff(times) == 0
    assert (np.diff(synapses)[ties] >= 0).all()
    assert synapses.min() >= 0
    assert synapses.max() < n_synapses


def test_reads_a_file_of_ones_own(tmp_path: Path) -> None:
    variables = made_variables()
    spike_set = datasets.load_spike_set(save(tmp_path / "own.mat", variables))
    assert (spike_set.n_synapses, spike_set.duration) == (N_SYNAPSES, 10.0)
    assert (spike_set.feature_length, spike_set.dt) == (1.0, 0.001)
    assert spike_set.rewards.tolist() == [5, 0, 0]
    assert spike_set.rewards.dtype == np.int64
    expected = made_features(np.random.default_rng(0))
    for key, feature in enumerate(spike_set.features, start=1):
        assert_sorted_spikes(*feature, N_SYNAPSES)
        for synapse in range(N_SYNAPSES):
            np.testing.assert_allclose(
                feature.times[feature.synapses == synapse],
                np.sort(expected[key][synapse]),
                atol=1e-12,
            )
    assert [trial.feature_ids.tolist() for trial in spike_set.trials] == [
        [1],
        [2, 3],
        [3, 1, 2],
        [1],
    ]
    assert [trial.target for trial in spike_set.trials] == [5, 0, 5, 5]
    for row, trial in zip(variables["data"], spike_set.trials, strict=True):
        assert_sorted_spikes(trial.times, trial.synapses, N_SYNAPSES)
        for synapse in range(N_SYNAPSES):
            np.testing.assert_array_equal(
                trial.times[trial.synapses == synapse],
                np.sort(row[0][0, synapse].ravel().astype(float)),
            )
        np.testing.assert_array_equal(trial.onsets, row[3].ravel())
        assert trial.rewards.dtype == np.int64


def test_features_stored_with_another_offset_begin_at_their_first_spike(tmp_path: Path) -> None:
    variables = made_variables()
    stored = variables["pattern_data"][1]
    assert stored[2].item() == 1
    stored[0] = cells([vector.ravel().astype(float) + 5 for vector in stored[0].ravel()])
    first = min(vector.min() for vector in stored[0].ravel() if vector.size)
    spike_set = datasets.load_spike_set(save(tmp_path / "own.mat", variables))
    assert 0 <= spike_set.features[0].times[0] < 0.001
    np.testing.assert_allclose(spike_set.features[0].times[0], first % 0.001, atol=1e-9)


def test_a_feature_that_is_not_stored_has_id_0(tmp_path: Path) -> None:
    variables = made_variables()
    row = variables["data"][1]
    row[2] = cells([vector.ravel().astype(float) + 0.01 for vector in row[2].ravel()])
    spike_set = datasets.load_spike_set(save(tmp_path / "own.mat", variables))
    assert spike_set.trials[1].feature_ids.tolist() == [0, 0]
    assert spike_set.trials[2].feature_ids.tolist() == [3, 1, 2]


def damage_nothing_there(variables: dict[str, np.ndarray]) -> None:
    del variables["data"]


def damage_columns(variables: dict[str, np.ndarray]) -> None:
    variables["data"] = variables["data"][:, :4]


def damage_synapses(variables: dict[str, np.ndarray]) -> None:
    variables["data"][2, 0] = variables["data"][2, 0][:, :4]


def damage_time(variables: dict[str, np.ndarray]) -> None:
    variables["data"][2, 0][0, 1] = np.array([[np.nan]])


def damage_sign(variables: dict[str, np.ndarray]) -> None:
    variables["data"][2, 0][0, 1] = np.array([[-0.5]])


def damage_onsets(variables: dict[str, np.ndarray]) -> None:
    variables["data"][2, 3] = np.array([[0.1, 0.2]])


def damage_ids(variables: dict[str, np.ndarray]) -> None:
    variables["pattern_data"][0, 2] = np.array([[7]])


def damage_feature(variables: dict[str, np.ndarray]) -> None:
    variables["pattern_data"][0, 0] = cells([np.empty(0)] * N_SYNAPSES)


def damage_type(variables: dict[str, np.ndarray]) -> None:
    variables["data"] = np.zeros((4, 8))


@pytest.mark.parametrize(
    "damage",
    [
        damage_nothing_there,
        damage_columns,
        damage_synapses,
        damage_time,
        damage_sign,
        damage_onsets,
        damage_ids,
        damage_feature,
        damage_type,
    ],
)
def test_other_files_are_refused_by_name(
    damage: Callable[[dict[str, np.ndarray]], None], tmp_path: Path
) -> None:
    variables = made_variables()
    damage(variables)
    path = save(tmp_path / "own.mat", variables)
    with pytest.raises(DatasetError, match=r"own\.mat is not a MATLAB 5 file in the format"):
        datasets.load_spike_set(path)


def test_a_mat_file_cut_short_is_refused(tmp_path: Path) -> None:
    path = save(tmp_path / "own.mat", made_variables())
    for share in (0, 0.01, 0.3, 0.99):
        content = path.read_bytes()
        (tmp_path / "cut.mat").write_bytes(content[: int(share * len(content))])
        with pytest.raises(DatasetError, match=r"cut\.mat is not a MATLAB 5 file"):
            datasets.load_spike_set(tmp_path / "cut.mat")
    with pytest.raises(DatasetError, match=r"none\.mat cannot be read: No such file"):
        datasets.load_spike_set(tmp_path / "none.mat")


def test_the_published_file_is_checked_and_has_no_download(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(DatasetMissingError, match="no download is offered") as refusal:
        datasets.load_spike_set(root=tmp_path)
    assert str(tmp_path / "tca_spike") in str(refusal.value)

    path = save(tmp_path / "made.mat", made_variables())
    name = next(iter(_spikes.SPIKE_SET.files))
    put(tmp_path, {name: path.read_bytes()}, "tca_spike")
    monkeypatch.setenv("SNN_DATA", str(tmp_path))
    with pytest.raises(DatasetError, match=rf"{name} is damaged .*: put a good copy in its place"):
        datasets.load_spike_set()
    small = replace(_spikes.SPIKE_SET, files={name: sha256(path.read_bytes())})
    monkeypatch.setattr(_spikes, "SPIKE_SET", small)
    assert len(datasets.load_spike_set().trials) == 4


def test_published_trials_have_the_published_numbers(tmp_path: Path) -> None:
    if not has_real(_spikes.SPIKE_SET):
        made = datasets.load_spike_set(save(tmp_path / "own.mat", made_variables()))
        assert [trial.times.size for trial in made.trials] == [31, 37, 45, 27]
        return
    spike_set = datasets.load_spike_set(root=REAL)
    assert len(spike_set.trials) == 50
    assert (spike_set.n_synapses, spike_set.duration) == (500, 10.0)
    assert (spike_set.feature_length, spike_set.dt) == (1.0, 0.001)
    counts = [trial.times.size for trial in spike_set.trials]
    assert (min(counts), max(counts), round(np.mean(counts))) == (2350, 4983, 3940)
    targets = [trial.target for trial in spike_set.trials]
    assert (min(targets), max(targets), round(np.mean(targets), 1)) == (0, 19, 8.4)
    assert max(np.bincount(targets)) / 50 == 0.14  # the majority baseline
    assert {trial.onsets.size for trial in spike_set.trials} == {1, 2, 3, 4, 5}
    for trial in spike_set.trials:
        assert_sorted_spikes(trial.times, trial.synapses, 500)
        assert (trial.times[0] >= 0, trial.times[-1] <= 10) == (True, True)
        # Every feature is recognised, and its id has the reward that the file names.
        assert trial.feature_ids.min() >= 1
        np.testing.assert_array_equal(spike_set.rewards[trial.feature_ids - 1], trial.rewards)
    assert spike_set.rewards.tolist() == [5, 0, 2, 0, 4, 0, 3, 6, 1]
    per_synapse = []
    for times, synapses in spike_set.features:
        assert_sorted_spikes(times, synapses, 500)
        assert (times[0] >= 0, times[-1] < 1) == (True, True)
        per_synapse.append(np.bincount(synapses, minlength=500))
    share = np.bincount(np.concatenate(per_synapse)) / 4500
    np.testing.assert_allclose(share, [0.0109, 0.6949, 0.2871, 0.0071], atol=5e-5)
