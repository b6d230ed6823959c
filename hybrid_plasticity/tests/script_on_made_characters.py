"""Runs a few-shot script on characters that are made here: SCRIPT OPTIONS."""

import runpy
import sys
from unittest.mock import patch

import numpy as np

from shared import datasets


def made() -> datasets.Omniglot:
    """Characters of 3 x 3 fields, drawn with noise; small, as they are shrunk anyway."""
    rng = np.random.default_rng(0)
    fields = (rng.random((130, 1, 3, 3)) < 0.5).repeat(14, 2).repeat(14, 3)
    images = (fields & (rng.random((130, 20, 42, 42)) < 0.5)).astype(np.uint8)
    return datasets.Omniglot(images, tuple(map(str, range(130))))


if __name__ == "__main__":
    del sys.argv[0]
    with patch.object(datasets, "load_omniglot", lambda _: made()):
        runpy.run_path(sys.argv[0], run_name="__main__")
