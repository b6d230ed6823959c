"""Fixtures of the data sets' tests."""

from __future__ import annotations

import gzip
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from shared import datasets
from shared.datasets import _files, _images
from shared.tests.made import PARTS, Mirror, idx, put, sha256


@pytest.fixture
def no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither a data root nor a proxy, which would come between tests and a server here."""
    for variable in ("SNN_DATA", "http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(variable, raising=False)


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
