"""Files that are missing: downloads, no network. Nothing here needs one: a server on this machine
stands in for the mirrors."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import textwrap
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest

from shared import datasets
from shared.datasets import (
    DatasetMissingError,
    _files,
    _images,
    _omniglot,
)
from shared.tests.made import (
    CHECKOUT,
    Mirror,
    assert_says_what_to_do,
    assert_small_set,
    closed_port,
    put,
)

pytestmark = pytest.mark.usefixtures("no_environment")


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
    assert_says_what_to_do(message, tmp_path / "FashionMNIST" / "raw", "fashion-mnist")
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
    assert_says_what_to_do(str(refusal.value), tmp_path / "MNIST" / "raw", url)


def test_a_refused_connection_is_named(
    archive: _files.Archive, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = closed_port()
    monkeypatch.setattr(datasets, "MNIST", replace(archive, mirrors=(url,)))
    with pytest.raises(DatasetMissingError, match="Connection refused") as refusal:
        datasets.load("mnist", tmp_path)
    assert_says_what_to_do(str(refusal.value), tmp_path / "MNIST" / "raw", url)


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
