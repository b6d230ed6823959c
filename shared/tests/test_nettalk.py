"""NETtalk's reader, on generated files and, below SNN_DATA, on the published ones."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import scipy.io

from shared import datasets
from shared.datasets import DatasetError, DatasetMissingError, Nettalk, _nettalk
from shared.tests import made

REAL = made.REAL / "nettalk"
NAMES = tuple(_nettalk.NETTALK.files)

pytestmark = pytest.mark.usefixtures("no_environment")


def made_variables() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    words = np.eye(26, dtype=np.uint8)[[3, 9, 4]]
    variables = {"randnum": np.arange(9)}
    for part, n in (("train", 40), ("test", 12)):
        letters = rng.integers(0, 27, (n, 7))
        variables[f"{part}_x"] = np.eye(27, dtype=np.uint8)[letters].reshape(n, 189)
        variables[f"{part}_y"] = words[np.arange(n) % 3]
    return variables


def save(path: Path, variables: dict[str, np.ndarray]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    scipy.io.savemat(path, variables)
    return path


def accept(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lets a made file pass for the published one of its name."""
    checksum = hashlib.sha256(path.read_bytes()).hexdigest()
    files = {**_nettalk.NETTALK.files, path.name: checksum}
    monkeypatch.setattr(_nettalk, "NETTALK", replace(_nettalk.NETTALK, files=files))


def assert_made(loaded: Nettalk) -> None:
    expected = made_variables()
    for array, key in (
        (loaded.train_inputs, "train_x"),
        (loaded.train_targets, "train_y"),
        (loaded.test_inputs, "test_x"),
        (loaded.test_targets, "test_y"),
    ):
        assert array.dtype == np.uint8
        np.testing.assert_array_equal(array, expected[key])
    # Lexicographic: a later bit comes first.
    np.testing.assert_array_equal(loaded.codes, np.eye(26)[[9, 4, 3]])
    assert loaded.codes.dtype == np.uint8


def assert_sentence(message: str) -> None:
    assert "\n" not in message
    assert message.endswith(".")


def test_reads_a_file_by_its_path(tmp_path: Path) -> None:
    assert_made(datasets.load_nettalk(save(tmp_path / "own.mat", made_variables())))


@pytest.mark.parametrize("name", NAMES)
def test_finds_either_file_below_the_root_and_in_a_folder(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = save(tmp_path / "nettalk" / name, made_variables())
    accept(path, monkeypatch)
    assert_made(datasets.load_nettalk(root=tmp_path))
    assert_made(datasets.load_nettalk(tmp_path / "nettalk"))
    monkeypatch.setenv("SNN_DATA", str(tmp_path))
    assert_made(datasets.load_nettalk())


def test_a_file_of_a_published_name_is_checked(tmp_path: Path) -> None:
    path = save(tmp_path / "nettalk" / NAMES[0], made_variables())
    for arguments in ({"root": tmp_path}, {"path": tmp_path / "nettalk"}):
        with pytest.raises(DatasetError, match=rf"{path.name} is damaged .* put a good copy"):
            datasets.load_nettalk(**arguments)


def test_a_missing_file_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(DatasetMissingError) as refusal:
        datasets.load_nettalk(root=tmp_path)
    message = str(refusal.value)
    assert_sentence(message)
    for words in (str(tmp_path / "nettalk"), "no download is offered", "datasets/README.md"):
        assert words in message
    with pytest.raises(DatasetError, match=r"holds none of nettalk_small\.mat") as refusal:
        datasets.load_nettalk(tmp_path)
    assert_sentence(str(refusal.value))
    with pytest.raises(DatasetError, match=r"none\.mat cannot be read: No such file"):
        datasets.load_nettalk(tmp_path / "none.mat")


def damage_key(variables: dict[str, np.ndarray]) -> None:
    del variables["train_y"], variables["test_x"]


def damage_width(variables: dict[str, np.ndarray]) -> None:
    variables["test_x"] = variables["test_x"][:, :188]


def damage_dimensions(variables: dict[str, np.ndarray]) -> None:
    variables["train_y"] = np.zeros((2, 26, 2), np.uint8)


def damage_type(variables: dict[str, np.ndarray]) -> None:
    variables["train_x"] = variables["train_x"].astype(float)


def damage_value(variables: dict[str, np.ndarray]) -> None:
    variables["test_y"][0, 0] = 2


def damage_number(variables: dict[str, np.ndarray]) -> None:
    variables["train_y"] = variables["train_y"][:-1]


def damage_letter(variables: dict[str, np.ndarray]) -> None:
    variables["train_x"][7, :27] = 0


def damage_all(variables: dict[str, np.ndarray]) -> None:
    variables["test_x"] = variables["test_x"][:0]


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (damage_key, r"lacks train_y, test_x: put nettalk_small\.mat in its place"),
        (damage_width, r"has test_x of uint8 \(12, 188\), not of uint8 \(samples, 189\)"),
        (damage_dimensions, r"has train_y of uint8 \(2, 26, 2\), not of uint8 \(samples, 26\)"),
        (damage_type, r"has train_x of float64 \(40, 189\), not of uint8"),
        (damage_value, r"has test_y of uint8 \(12, 26\), not of uint8 .* zeros and ones"),
        (damage_number, "has 40 train samples, but 39 targets"),
        (damage_letter, "has train samples that are not 7 letters of 27 bits"),
        (damage_all, r"has test_x of uint8 \(0, 189\), not"),
    ],
)
def test_other_files_are_refused_by_name(
    damage: Callable[[dict[str, np.ndarray]], None], words: str, tmp_path: Path
) -> None:
    variables = made_variables()
    damage(variables)
    path = save(tmp_path / "own.mat", variables)
    with pytest.raises(DatasetError, match=words) as refusal:
        datasets.load_nettalk(path)
    assert str(refusal.value).startswith(str(path))
    assert_sentence(str(refusal.value))


@pytest.mark.parametrize("share", [0, 0.02, 0.5, 0.99])
def test_a_file_cut_short_is_refused(share: float, tmp_path: Path) -> None:
    content = save(tmp_path / "own.mat", made_variables()).read_bytes()
    (tmp_path / "cut.mat").write_bytes(content[: int(share * len(content))])
    with pytest.raises(DatasetError, match=r"cut\.mat (is not a MATLAB 5 file|lacks)") as refusal:
        datasets.load_nettalk(tmp_path / "cut.mat")
    assert_sentence(str(refusal.value))


def test_load_points_to_the_function_for_nettalk() -> None:
    with pytest.raises(DatasetError, match=r"use load_nettalk\."):
        datasets.load("nettalk")


def letters(inputs: np.ndarray) -> list[str]:
    symbols = np.array(list("abcdefghijklmnopqrstuvwxyz_"))
    return ["".join(row) for row in symbols[inputs.reshape(-1, 7, 27).argmax(2)]]


def test_published_files_hold_what_is_said(tmp_path: Path) -> None:
    if not (REAL / NAMES[0]).is_file():
        loaded = datasets.load_nettalk(save(tmp_path / "own.mat", made_variables()))
        assert len(letters(loaded.train_inputs)) == 40
        return
    loaded = datasets.load_nettalk(REAL)
    assert (len(loaded.train_inputs), len(loaded.test_inputs)) == (5033, 500)
    assert loaded.codes.shape == (116, 26)
    known = {row.tobytes() for row in loaded.train_targets}
    assert known == {row.tobytes() for row in loaded.codes}
    assert len(np.unique(loaded.codes[:, :21], axis=0)) == 46
    assert not loaded.codes[:, 19:21].any()
    assert (loaded.codes[:, 21:].sum(1) == 1).all()

    train, test = letters(loaded.train_inputs), letters(loaded.test_inputs)
    # Letters, not words: each of a word's letters is the fourth of a window of its own.
    starts = [window for window in train + test if window.startswith("___")]
    assert len(starts) == 1017
    assert all(window[3] != "_" for window in train + test)
    assert {"___the_", "__the__", "_the___"} <= set(train) | set(test)
    known_rows = zip(train, loaded.train_targets, strict=True)
    pairs = {(window, row.tobytes()) for window, row in known_rows}
    assert sum(window in set(train) for window in test) == 85
    both = zip(test, loaded.test_targets, strict=True)
    assert sum((window, row.tobytes()) in pairs for window, row in both) == 75


def test_both_published_files_have_the_same_samples(tmp_path: Path) -> None:
    sources = [REAL / name for name in NAMES]
    if not all(path.is_file() for path in sources):
        sources = [save(tmp_path / f"made{i}" / NAMES[i], made_variables()) for i in range(2)]
    one, other = (
        datasets.load_nettalk(shutil.copy(source, tmp_path / source.name)) for source in sources
    )
    for name in ("train_inputs", "train_targets", "test_inputs", "test_targets", "codes"):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name))
