"""Small tables, their folds, and Yin-Yang."""

from __future__ import annotations

import pickle
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from shared import datasets
from shared.datasets import (
    DatasetError,
    _tables,
)
from shared.tests.made import (
    REAL,
    flip,
    has_real,
    put,
    sha256,
)

pytestmark = pytest.mark.usefixtures("no_environment")


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
