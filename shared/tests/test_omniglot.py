"""Omniglot, from every source."""

from __future__ import annotations

import hashlib
import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from shared import datasets
from shared.datasets import (
    DatasetError,
    DatasetMissingError,
    _omniglot,
)
from shared.tests.made import (
    REAL,
    Mirror,
    assert_says_what_to_do,
    closed_port,
    flip,
    listing,
    put,
    put_tree,
    sha256,
    zip_of,
)

pytestmark = pytest.mark.usefixtures("no_environment")


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
        assert_says_what_to_do(str(refusal.value), looked_at, "no download was asked for")


def test_a_missing_omniglot_is_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = closed_port()
    monkeypatch.setattr(_omniglot, "OMNIGLOT", replace(_omniglot.OMNIGLOT, mirrors=(url,)))
    with pytest.raises(DatasetMissingError, match=r"Omniglot was not found.* has none") as refusal:
        datasets.load_omniglot(tmp_path)
    assert_says_what_to_do(str(refusal.value), tmp_path / "omniglot", f"{url}images_background.zip")


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
